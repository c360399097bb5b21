"""the published Recap-DataComp-1B rows → captions + scores + ratings, beside the samples they are for"""

from __future__ import annotations

import hashlib

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recap_spark.errors import AccountingError
from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.settings.ingest import IngestSettings
from recap_spark.settings.prompt import PROMPT
from recap_spark.stages.ingest.deduplication import hash_of
from recap_spark.stages.ingest.layouts import RECAP
from recap_spark.statuses import CaptionStatus, RejectReason
from recap_spark.tables import CAPTIONERS, CAPTIONS, ORIGINAL, RATINGS, SAMPLES, SCORES, Table

# All that is published of a row but its key, the authors' own; org_caption is the rows' text.
_CONTENT = tuple("text" if name == "org_caption" else name for name in RECAP.columns if name != "key")


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


def settle_published(rows: DataFrame, *, samples: DataFrame, captions: DataFrame) -> DataFrame:
    """Checked rows with `is_stored`, whether their sample is stored, and a `reason` for all rows of a uid but
    one.

    The row that is kept agrees with what is stored: the sample's url and sha256, and its published recaption.
    Among such rows it is the one that the sample came from, else the one with the smallest content hash. So a
    rerun keeps what the first run kept, and where the rows of a uid come in several commits, the first
    commit's is kept. A row that is left out either repeats the kept row's recaption of the same picture, or
    contradicts it.
    """
    # Hashes stand in for urls and captions: all that are stored are shuffled to meet the rows.
    source = F.struct("source_file", "source_row")
    images = samples.select("uid", _picture().alias("stored_image"), source.alias("stored_from"))
    recaptions = captions.select("uid", hash_of(F.col("caption")).alias("stored_caption"))
    is_of_image = F.coalesce(_picture() == F.col("stored_image"), F.lit(True))
    is_its_caption = F.coalesce(hash_of(_recaption()) == F.col("stored_caption"), F.lit(True))
    met = rows.join(images, on="uid", how="left").join(recaptions, on="uid", how="left")
    met = met.withColumns(
        {
            "is_stored": F.col("stored_image").isNotNull(),
            "agrees": is_of_image & is_its_caption,
            "is_source": F.coalesce(source == F.col("stored_from"), F.lit(False)),
            "content": hash_of(*map(F.col, _CONTENT)),
            "pair": hash_of(F.col("url"), F.col("sha256"), _recaption()),
        }
    )
    # A bad row competes with none; all rows without a url have the same uid.
    of_uid = Window.partitionBy("uid", "reason", F.when(F.col("reason").isNotNull(), F.col("source_row")))
    merits = (F.col("agrees").desc(), F.col("is_source").desc(), "content", "source_file", "source_row")
    best_first = of_uid.orderBy(*merits)
    ranked = met.withColumns(
        {
            "rank": F.row_number().over(best_first),
            "kept_pair": F.first(F.when(F.col("agrees"), F.col("pair"))).over(best_first),
        }
    )
    is_kept = F.col("agrees") & (F.col("rank") == 1)
    is_copy = F.coalesce(F.col("pair") == F.col("kept_pair"), F.lit(False))
    lost = F.when(is_copy, str(RejectReason.REPEATED_UID)).otherwise(str(RejectReason.CONFLICTING_UID))
    reason = F.coalesce("reason", F.when(~is_kept, lost))
    return ranked.withColumn("reason", reason).select(*rows.columns, "is_stored")


def add_published(lake: Lake, rows: DataFrame, *, settings: IngestSettings) -> None:
    """Captions, scores and ratings of the rows that are kept, one for a uid; the lake holds their samples."""
    captioner = settings.published_captioner
    lake.upsert(CAPTIONERS, _captioner(lake, captioner))
    recaption = _recaption()
    status = F.when(recaption.isNull(), str(CaptionStatus.EMPTY_CAPTION)).otherwise(str(CaptionStatus.OK))
    captions = rows.select(
        "uid",
        F.lit(captioner).alias("captioner"),
        status.alias("status"),
        F.lit(None).cast("string").alias("finish_reason"),
        F.lit(None).cast("int").alias("tokens"),
        recaption.alias("caption"),
    )
    _append_new(lake, CAPTIONS, captions)
    _append_new(lake, SCORES, _scores(rows, captioner=captioner, scorer=settings.published_scorer))
    _append_new(lake, RATINGS, _ratings(rows, captioner=captioner, judge=settings.published_judge))


_NEVER_PUBLISHED = {
    name: SAMPLES.schema[name].dataType
    for name in SAMPLES.schema.names
    if name not in {"uid", "url", "org_caption", "sha256", "source_file", "source_row"}
}


def _picture() -> Column:
    return hash_of(F.col("url"), F.col("sha256"))


def _recaption() -> Column:
    """The recaption as the table captions keeps it: null where it is blank."""
    return F.when(F.trim("re_caption") != "", F.col("re_caption"))


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
    return frame_of(lake.spark, [row], CAPTIONERS.schema)
