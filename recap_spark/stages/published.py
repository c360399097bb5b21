"""the published Recap-DataComp-1B rows → captions + scores + ratings, beside the samples they are for"""

from __future__ import annotations

import hashlib

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recap_spark.choices import IngestSettings
from recap_spark.errors import AccountingError
from recap_spark.lake import Lake, Transaction
from recap_spark.prompt import PROMPT
from recap_spark.statuses import CaptionStatus
from recap_spark.tables import CAPTIONERS, CAPTIONS, ORIGINAL, RATINGS, SAMPLES, SCORES, Table


def identify(rows: DataFrame, samples: DataFrame) -> DataFrame:
    """Give each published row a uid: that of the stored sample with its url and sha256, else the url's md5.

    The published rows carry no uid; their `key` is a position in the authors' own download and joins with
    nothing.
    """
    # Of several pairs of one image always the same one, or a rerun would caption another.
    known = samples.groupBy("url", "sha256").agg(F.min("uid").alias("known_uid"))
    url = F.trim("url")
    uid = F.coalesce(F.col("known_uid"), F.md5(F.coalesce(url, F.lit(""))))
    return (
        rows.withColumn("url", url)
        .join(known, on=["url", "sha256"], how="left")
        .select(
            uid.alias("uid"),
            F.col("org_caption").alias("text"),
            *(F.lit(None).cast(kind).alias(name) for name, kind in _NEVER_PUBLISHED.items()),
            *(name for name in rows.columns if name != "org_caption"),
        )
    )


def add_published(lake: Lake, rows: DataFrame, *, settings: IngestSettings) -> None:
    """Captions, scores and ratings of identified rows, for the samples that the lake holds."""
    chosen = _one_per_uid(rows, lake.read(SAMPLES)).persist()
    captioner = settings.published_captioner
    try:
        lake.upsert(CAPTIONERS, _captioner(lake, captioner))
        # A recaption that is blank, or of another type than text, which reads as null.
        has_words = F.coalesce(F.trim("re_caption") != "", F.lit(False))
        status = F.when(has_words, str(CaptionStatus.OK)).otherwise(str(CaptionStatus.EMPTY_CAPTION))
        captions = chosen.select(
            "uid",
            F.lit(captioner).alias("captioner"),
            status.alias("status"),
            F.lit(None).cast("string").alias("finish_reason"),
            F.lit(None).cast("int").alias("tokens"),
            F.when(has_words, F.col("re_caption")).alias("caption"),
        )
        _append_new(lake, CAPTIONS, captions)
        _append_new(lake, SCORES, _scores(chosen, captioner=captioner, scorer=settings.published_scorer))
        _append_new(lake, RATINGS, _ratings(chosen, captioner=captioner, judge=settings.published_judge))
    finally:
        chosen.unpersist()


_NEVER_PUBLISHED = {
    name: SAMPLES.schema[name].dataType
    for name in SAMPLES.schema.names
    if name not in {"uid", "url", "org_caption", "sha256", "source_file", "source_row"}
}


def _one_per_uid(rows: DataFrame, samples: DataFrame) -> DataFrame:
    """Where several rows are about one sample: the row that the sample came from, else the one of the
    smallest hash.
    """
    place = ("source_file", "source_row")
    sources = samples.select("uid", *(F.col(name).alias(f"sample_{name}") for name in place))
    is_source = (F.col("source_file") == F.col("sample_source_file")) & (
        F.col("source_row") == F.col("sample_source_row")
    )
    best_first = Window.partitionBy("uid").orderBy(is_source.desc(), F.xxhash64("re_caption", "text"), *place)
    ranked = rows.join(sources, on="uid", how="inner").withColumn("rank", F.row_number().over(best_first))
    return ranked.where(F.col("rank") == 1).drop("rank")


def _scores(rows: DataFrame, *, captioner: str, scorer: str) -> DataFrame:
    """Published scores, as the cosine where the two are cosines and as the preference where they share out a
    whole.

    Nothing says which of the two the columns hold; a softmax share adds up to 1 (or 100) with its rival's,
    cosines do not.
    """
    whole = F.col("re_clip_score") + F.col("org_clip_score")
    percent = F.abs(whole - 100) < 0.1
    shared = percent | (F.abs(whole - 1) < 0.001)
    sides = ((F.lit(captioner), F.col("re_clip_score")), (F.lit(ORIGINAL), F.col("org_clip_score")))
    halves = [_side(rows, who, score, scorer, shared, percent) for who, score in sides]
    return halves[0].union(halves[1])


def _side(
    rows: DataFrame, who: Column, score: Column, scorer: str, shared: Column, percent: Column
) -> DataFrame:
    is_original = who == ORIGINAL
    share = F.when(shared & ~is_original, F.when(percent, score / 100).otherwise(score))
    is_cosine = ~F.coalesce(shared, F.lit(False)) & (F.abs(score) <= 1)
    return rows.where(score.isNotNull()).select(
        "uid",
        who.alias("captioner"),
        F.lit(scorer).alias("scorer"),
        F.lit(str(CaptionStatus.OK)).alias("status"),
        F.when(is_cosine, score).cast("float").alias("cosine"),
        share.cast("float").alias("pair_preference"),
    )


def _ratings(rows: DataFrame, *, captioner: str, judge: str) -> DataFrame:
    sides = ((captioner, "re_gpt4v_score"), (ORIGINAL, "org_gpt4v_score"))
    frames = [
        rows.where(F.col(score).between(1, 5)).select(
            "uid",
            F.lit(who).alias("captioner"),
            F.lit(judge).alias("judge"),
            F.col(score).cast("int").alias("rating"),
            F.lit(None).cast("string").alias("reason"),
        )
        for who, score in sides
    ]
    return frames[0].union(frames[1])


def _append_new(lake: Lake, table: Table, frame: DataFrame) -> None:
    new = frame.join(lake.read(table).select(*table.key), on=list(table.key), how="left_anti")
    if lake.append(table, new, transaction=Transaction("ingest", lake.version(table))) is None:
        raise AccountingError(f"ingest: another ingest changed {table.name} meanwhile; run this one again")


def _captioner(lake: Lake, name: str) -> DataFrame:
    description = ("tennant/llava-llama-3-8b-hqedit", PROMPT)
    fingerprint = hashlib.sha256("\n".join(description).encode()).hexdigest()
    decoding = '{"max_new_tokens": 128, "strategy": "greedy"}'
    row = (name, fingerprint, description[0], None, None, None, PROMPT, None, None, decoding, None)
    return lake.spark.createDataFrame([row], T.StructType(CAPTIONERS.schema.fields))
