"""The table of the files that pictures were imported from, and what came of each"""

from __future__ import annotations

from pyspark.sql import types as T

from recap_spark.tables import Table

ENDS = ("added", "held", "repeated", "unmatched", "failed_before", "lost", "unrecognised")
"""What becomes of a shard's pictures. A picture that several samples share by its hash counts for each of
them.
"""

_COMMENTS = {
    "added": "rows of images made of it, whatever their status",
    "held": "samples that had a row in images before",
    "repeated": "samples that got another picture of this shard or of another",
    "unmatched": "pictures that no sample is known for",
    "failed_before": "rows that img2dataset has no picture of: left to fetch",
    "lost": "pictures that were described and not found",
    "unrecognised": "keys without a picture that is known as one",
}

IMPORTS = Table(
    name="imports",
    made_by="import-images",
    comment="One row per file of pictures that was read into images",
    key=("file",),
    schema=T.StructType(
        [
            T.StructField("file", T.StringType(), False, {"comment": "folder or URL, and path below it"}),
            T.StructField("size", T.LongType(), False, {"comment": "bytes when it was read"}),
            T.StructField(
                "modified_ns", T.LongType(), False, {"comment": "its time when it was read, since 1970"}
            ),
            T.StructField(
                "samples_version", T.LongType(), False, {"comment": "of samples, when it was read"}
            ),
            T.StructField(
                "tables", T.StringType(), False, {"comment": "Delta's ids of samples and images at that time"}
            ),
            *(T.StructField(end, T.LongType(), False, {"comment": _COMMENTS[end]}) for end in ENDS),
            T.StructField(
                "fault", T.StringType(), True, {"comment": "what is wrong with it; null when nothing is"}
            ),
        ]
    ),
    indexed=("samples_version", *ENDS),
    checks={},
)
