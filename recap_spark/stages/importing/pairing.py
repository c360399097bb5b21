"""what shards say of their pictures + samples → which picture is for which sample, and what becomes of it"""

from __future__ import annotations

from collections import Counter
from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recap_spark.stages.hashes import known_sha256
from recap_spark.workers.metadata.sha256 import MALFORMED
from recap_spark.workers.shards.shard_files import FAILED, PICTURE, UNREADABLE, UNRECOGNISED

_BROADCAST_PICTURES = 500_000  # some 100 MB on every executor


def match(pictures: DataFrame, samples: DataFrame) -> DataFrame:
    """`file, position, key, uid, expected, recorded, url, face_bboxes` of every sample of `uid, sha256, url,
    face_bboxes` that has a picture. They are matched by uid where the shard has it; else by the hash of the
    download, or of the bytes if they were never resized; else by the url. Several samples may share a hash or
    a url.
    """
    few = F.broadcast(pictures) if pictures.count() <= _BROADCAST_PICTURES else pictures
    place = ("file", "position", "key")
    expected = samples.withColumn("expected", known_sha256(F.col("sha256"))).drop("sha256")
    columns = (*place, "uid", "expected", "recorded", "url", "face_bboxes")
    named = few.where(F.col("uid").isNotNull()).select(*place, "uid", F.col("sha256").alias("recorded"))
    by_uid = named.join(expected, on="uid", how="inner").select(*columns)
    unnamed = few.where(F.col("uid").isNull())
    hashes = F.coalesce("sha256", "own_sha256").alias("recorded")
    by_hash = (
        unnamed.select(*place, hashes)
        .join(expected, on=F.col("recorded") == F.col("expected"), how="inner")
        .select(*columns)
    )
    placed = unnamed.where(F.col("url").isNotNull())
    if placed.isEmpty():
        return by_uid.union(by_hash)
    left = placed.join(by_hash.select("file", "position"), on=["file", "position"], how="left_anti")
    of_url = left.select(*place, F.col("sha256").alias("recorded"), "url")
    return by_uid.union(by_hash).union(of_url.join(expected, on="url", how="inner").select(*columns))


def settle(matched: DataFrame, answered: DataFrame) -> DataFrame:
    """The same rows with their `end`: held where the sample has an image already, repeated where there is a
    better picture for it, else wanted.

    A picture with the promised bytes is better than others, and one in the shard is better than one that is
    only described. Among equal ones the first by file and position is taken, so the order in which files are
    read does not matter.
    """
    keys = answered.select("uid", F.lit(True).alias("is_held"))
    is_promised = F.coalesce(F.col("recorded") == F.col("expected"), F.lit(False))
    best_first = Window.partitionBy("uid").orderBy(
        is_promised.desc(), F.col("position") < 0, "file", "position"
    )
    ranked = matched.join(keys, on="uid", how="left").withColumn("rank", F.row_number().over(best_first))
    end = F.when(F.col("is_held"), "held").when(F.col("rank") > 1, "repeated").otherwise("wanted")
    return ranked.select(*matched.columns, end.alias("end"))


def count_ends(described: DataFrame, settled: DataFrame, answered: DataFrame) -> dict[str, Counter[str]]:
    """Counts by file of what became of its pictures, once the wanted ones are written, and of two marks, of
    pictures and keys which end in one of the other ways too: `sha256_malformed`, a picture's hash is none;
    `unreadable`, a member cannot be read.
    """
    pictures = described.where(F.col("state") == PICTURE)
    unmatched = pictures.join(settled, on=["file", "position"], how="left_anti")
    failed = described.where(F.col("state") == FAILED)
    unrecognised = described.where(F.col("state") == UNRECOGNISED)
    unreadable = described.where(F.col("state") == UNREADABLE)
    wanted = settled.where(F.col("end") == "wanted")
    ended = [
        unmatched.select("file", F.lit("unmatched").alias("end")),
        failed.select("file", F.lit("failed_before").alias("end")),
        pictures.where(MALFORMED).select("file", F.lit(MALFORMED).alias("end")),
        unrecognised.select("file", F.lit("unrecognised").alias("end")),
        unreadable.select("file", F.lit("unreadable").alias("end")),
        settled.where(F.col("end") != "wanted").select("file", "end"),
        wanted.join(answered, on="uid", how="left_semi").select("file", F.lit("added")),
        wanted.join(answered, on="uid", how="left_anti").select("file", F.lit("lost")),
    ]
    counts: dict[str, Counter[str]] = {}
    for row in reduce(DataFrame.union, ended).groupBy("file", "end").count().collect():
        counts.setdefault(row["file"], Counter())[row["end"]] = row["count"]
    return counts
