"""images → images, with the pictures marked that sites send in place of very many others

A removed picture is often replaced by one that says so, with a status of 200: the published Recap-DataComp-1B
captioned them as if they were real (UCSC-VLAA/Recap-DataComp-1B#11).
"""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recap_spark.lake.lake import Lake
from recap_spark.settings.fetch import PlaceholderSettings
from recap_spark.stages.fetch.urls import host
from recap_spark.statuses import FetchStatus
from recap_spark.tables import IMAGES, SAMPLES

log = logging.getLogger(__name__)

# A placeholder is mostly not what the metadata promised, and so ends as a mismatch before it ends here.
_MARKED = (FetchStatus.OK, FetchStatus.HASH_MISMATCH)
_PICTURES = (*_MARKED, FetchStatus.PLACEHOLDER)

_WITHOUT_PICTURE = dict.fromkeys(("bytes", "width", "height", "format"), "NULL")


def frequent_pictures(images: DataFrame, samples: DataFrame, *, urls: int, hosts: int) -> DataFrame:
    """`sha256, urls, hosts` of the pictures that came from more than so many distinct urls and hosts."""
    came = images.where(F.col("status").isin(*map(str, _PICTURES)) & F.col("sha256").isNotNull())
    # No picture is behind more urls than it has rows, so few pictures' urls need a look.
    often = came.groupBy("sha256").count().where(F.col("count") > urls).select("sha256")
    behind = (
        came.select("uid", "sha256")
        .join(F.broadcast(often), on="sha256", how="left_semi")
        .join(samples.select("uid", "url"), on="uid", how="inner")
    )
    counted = behind.groupBy("sha256").agg(
        F.count_distinct("url").alias("urls"), F.count_distinct(host(F.col("url"))).alias("hosts")
    )
    return counted.where((F.col("urls") > urls) & (F.col("hosts") > hosts))


def placeholder_rows(images: DataFrame, frequent: DataFrame) -> DataFrame:
    """`uid, sha256, detail` of the images to mark."""
    detail = F.format_string("one picture behind %d urls of %d hosts", "urls", "hosts")
    unmarked = images.where(F.col("status").isin(*map(str, _MARKED))).select("uid", "sha256")
    return unmarked.join(F.broadcast(frequent), on="sha256", how="inner").select(
        "uid", "sha256", detail.alias("detail")
    )


def mark_placeholders(lake: Lake, settings: PlaceholderSettings) -> int:
    """Give the placeholders their status and drop their bytes. Returns the rows marked; a second run marks
    none.

    Reads no image's bytes: one count by sha256, and the urls of what came often. A mark stays when `settings`
    are loosened later, because its bytes are gone: delete the row and fetch it again.
    """
    if settings.urls is None:
        return 0
    images, samples = lake.read(IMAGES), lake.read(SAMPLES)
    frequent = frequent_pictures(images, samples, urls=settings.urls, hosts=settings.hosts)
    rows = placeholder_rows(images, frequent).persist()
    try:
        if rows.isEmpty():
            return 0
        marked = lake.revise(
            IMAGES,
            rows,
            still=f"kept.sha256 = new.sha256 AND kept.status IN ({', '.join(map(repr, map(str, _MARKED)))})",
            values={"status": f"'{FetchStatus.PLACEHOLDER}'", "detail": "new.detail"} | _WITHOUT_PICTURE,
        )
    finally:
        rows.unpersist()
    log.info("fetch: %d rows are placeholders", marked)
    return marked
