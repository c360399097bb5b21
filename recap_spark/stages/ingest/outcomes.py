"""special rows, of which a reason or a rule decides, and what was settled of them → counts and rejects"""

from __future__ import annotations

from collections import Counter
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recap_spark.stages.ingest.deduplication import Outcome
from recap_spark.stages.ingest.metadata import MENDED
from recap_spark.tables import SAMPLES


def count_outcomes(special: DataFrame, settled: DataFrame) -> Counter[str]:
    """The special rows, and stored ones that they displace, by what becomes of them; and the marks of what
    was mended.
    """
    bad = special.where(F.col("reason").isNotNull()).select(F.col("reason").alias("outcome"))
    marks = (special.where(name).select(F.lit(name)) for name in MENDED)
    ends = reduce(DataFrame.union, marks, bad.union(settled.select("outcome")))
    return Counter({row["outcome"]: row["count"] for row in ends.groupBy("outcome").count().collect()})


def rejects_of(special: DataFrame, claims: DataFrame, settled: DataFrame, rivals: DataFrame) -> DataFrame:
    """The special rows that are refused, and stored rows that they displace, as rejects."""
    columns = ("source_row", "reason", "source_file", "raw")
    bad = special.where(F.col("reason").isNotNull()).select(*columns)
    losers = ended_as(claims, settled, Outcome.REPEATED, Outcome.CONFLICTING).withColumn(
        "reason", F.col("outcome")
    )
    displaced = ended_as(rivals, settled, Outcome.DISPLACED).select(
        "source_row",
        F.lit(str(Outcome.CONFLICTING)).alias("reason"),
        "source_file",
        F.to_json(F.struct(*SAMPLES.schema.names)).alias("raw"),
    )
    return bad.union(losers.select(*columns)).union(displaced)


def ended_as(rows: DataFrame, settled: DataFrame, *outcomes: Outcome) -> DataFrame:
    """The rows that ended in one of these ways, with their `outcome`."""
    ended = settled.where(F.col("outcome").isin(*map(str, outcomes))).select(
        "source_file", "source_row", "outcome"
    )
    return rows.join(ended, on=["source_file", "source_row"], how="inner")
