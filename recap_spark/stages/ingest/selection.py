"""rows of metadata → those that a subset file and DataComp's filters select; the others counted by what left
them out
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

import pandas as pd
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from recap_spark.errors import SettingsError
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.settings.ingest import (
    BasicFilter,
    CaptionFilter,
    ClipFractionFilter,
    ClipThresholdFilter,
    Filter,
    IngestSettings,
)
from recap_spark.stages.ingest.checks import is_md5_like, reject_reason
from recap_spark.stages.ingest.files import Survey, over_sound_files, survey_files
from recap_spark.stages.ingest.fractions import Cut, find_cut
from recap_spark.stages.ingest.layouts import DATACOMP
from recap_spark.stages.ingest.metadata import read_rows
from recap_spark.stages.ingest.rejects import refuse, take_back
from recap_spark.statuses import FILTERED, RejectReason
from recap_spark.tables import REJECTS, SAMPLES
from recap_spark.workers.metadata.language import are_english, load_model
from recap_spark.workers.shards.subsets import check_sorted, contains, open_subset

log = logging.getLogger(__name__)

NOT_IN_SUBSET = "not_in_subset"

_EVIDENCE = (
    "uid",
    "original_width",
    "original_height",
    "clip_b32_similarity_score",
    "clip_l14_similarity_score",
)
# What Python's str.split() and fastText's reader take for blanks; to the latter each line end is a word, too.
_WORD = r"(?U)[^\s\x1C-\x1F]+"
_FASTTEXT_WORD = r"[^ \n\r\t\x0B\f\x00]+|\n"


@dataclass(frozen=True)
class _Condition:
    """What a row must be for a filter, as far as Spark can say; and whether its text must be English as
    well.
    """

    reason: RejectReason
    holds: Column
    in_english: bool


@dataclass(frozen=True)
class Selection:
    """Which rows of the source are wanted."""

    subset: str | None
    conditions: tuple[_Condition, ...]
    language_model: str | None
    longest_text: int


def select_from(spark: SparkSession, settings: IngestSettings, files: list[str]) -> Selection | None:
    """What the settings select of these files, None where that is all. Fractions are ranked over all of the
    files.

    Raises SettingsError, InputError or PlatformError where a subset or filter cannot be applied.
    """
    if settings.subset is None and not settings.filters:
        return None
    if settings.layout != "datacomp":
        found = f"ingest.layout {settings.layout}, which has no uids or scores of its own"
        raise SettingsError(f"ingest.subset, ingest.filters: want ingest.layout datacomp, found {found}")
    if settings.subset is not None:
        check_sorted(open_subset(settings.subset), path=settings.subset)
    conditions = tuple(_condition(spark, one, files) for one in settings.filters)
    if any(condition.in_english for condition in conditions):
        if settings.language_model is None:
            asked = "want fastText's lid.176.bin for the filters basic and caption"
            raise SettingsError(f"ingest.language_model: {asked}, found null")
        load_model(settings.language_model)
    return Selection(settings.subset, conditions, settings.language_model, settings.longest_text)


@contextmanager
def selected(
    lake: Lake, rows: DataFrame, selection: Selection | None, *, unsaid: Callable[[], bool]
) -> Iterator[tuple[DataFrame, Counter[str]]]:
    """The wanted rows, and the number of the others by reason. What filters leave out goes to rejects.

    A row that cannot be a sample keeps its own reason, whatever the filters say of it. `unsaid` says that
    rejects holds nothing of the rows' files.
    """
    if selection is None:
        yield rows, Counter()
        # After the rows are in: what rejects holds need not be known before, and a rerun mends it as well.
        if not unsaid():
            _retract(lake, rows.withColumn("left_out", F.lit(None).cast("string")))
        return
    decided = rows.withColumn("left_out", _left_out(selection))
    # Ingest goes through its rows several times, and Python's part of the decision is dear.
    asks_python = selection.subset is not None or any(one.in_english for one in selection.conditions)
    if asks_python:
        decided.persist(StorageLevel.DISK_ONLY)
    try:
        left_out = decided.where(F.col("left_out").isNotNull())
        counts = left_out.groupBy("left_out").count().collect()
        if not unsaid():
            _retract(lake, decided)
        if selection.conditions:
            once = Transaction("ingest-filters", lake.version(SAMPLES))
            refuse(lake, _filtered(decided), once=once, unsaid=unsaid())
        wanted = decided.where(F.col("left_out").isNull()).drop("left_out")
        yield wanted, Counter({row["left_out"]: row["count"] for row in counts})
    finally:
        decided.unpersist()


def _condition(spark: SparkSession, one: Filter, files: list[str]) -> _Condition:
    text = F.col("text")
    if isinstance(one, BasicFilter):
        sides = F.col("original_width"), F.col("original_height")
        # Multiplied, since a width of 0 cannot divide; and both asked for, since least() passes over nulls.
        has_shape = (F.least(*sides) >= 200) & (F.greatest(*sides) <= 3 * F.least(*sides))
        has_sides = sides[0].isNotNull() & sides[1].isNotNull()
        has_words = (F.regexp_count(text, F.lit(_WORD)) > 2) & (F.length(text) > 5)
        return _Condition(RejectReason.FILTERED_BASIC, has_sides & has_shape & has_words, in_english=True)
    if isinstance(one, CaptionFilter):
        has_words = (F.regexp_count(text, F.lit(_FASTTEXT_WORD)) > 1) & (F.length(text) > 5)
        return _Condition(RejectReason.FILTERED_CAPTION, has_words, in_english=True)
    score = F.col(one.column)
    if isinstance(one, ClipThresholdFilter):
        # In float32, as published: 0.7 as a double is more than 0.7 as a float.
        holds = ~F.isnan(score) & (score >= F.lit(one.threshold).cast("float"))
    else:
        cut = _cut(spark, one, files)
        holds = F.lit(False) if cut is None else cut.keeps(score)
    return _Condition(RejectReason.FILTERED_CLIP_SCORE, holds, in_english=False)


def _cut(spark: SparkSession, one: ClipFractionFilter, files: list[str]) -> Cut | None:
    survey = survey_files(spark, files, DATACOMP)

    def cut_of(sound: Survey) -> Cut | None:
        if not sound.readable:
            return None
        scores = read_rows(spark, sound, DATACOMP).select("uid", one.column)
        return find_cut(scores, one.column, fraction=one.fraction)

    cut = over_sound_files(spark, survey, cut_of)
    log.info("ingest: the best %s by %s end at %s", one.fraction, one.column, cut)
    return cut


def _left_out(selection: Selection) -> Column:
    """Why a row is left out: the first of the subset and the filters, in their order; null for a wanted
    row.
    """
    is_sound = reject_reason(longest_text=selection.longest_text).isNull()

    def after(reason: Column, condition: _Condition) -> Column:
        holds = F.coalesce(condition.holds, F.lit(False))
        if condition.in_english and selection.language_model is not None:
            # Only texts that all depends on go to Python.
            asked = F.when(reason.isNull() & is_sound & holds, F.col("text"))
            holds = holds & _is_english(selection.language_model)(asked)
        return F.coalesce(reason, F.when(is_sound & ~holds, str(condition.reason)))

    start = F.lit(None).cast("string")
    if selection.subset is not None:
        is_in = _is_in(selection.subset)(F.when(is_md5_like(F.col("uid")), F.col("uid")))
        start = F.when(~is_in, NOT_IN_SUBSET)
    return reduce(after, selection.conditions, start)


def _is_in(path: str) -> Callable[[Column], Column]:
    @pandas_udf("boolean")  # type: ignore[call-overload, untyped-decorator]
    def is_in(uids: pd.Series) -> pd.Series:
        known = uids.notna()
        found = known.copy()
        found[known] = contains(open_subset(path), uids[known].tolist())
        return found

    return is_in  # type: ignore[no-any-return]


def _is_english(model: str) -> Callable[[Column], Column]:
    @pandas_udf("boolean")  # type: ignore[call-overload, untyped-decorator]
    def is_english(texts: pd.Series) -> pd.Series:
        return pd.Series(
            are_english(texts.where(texts.notna(), None).tolist(), model=model), index=texts.index
        )

    return is_english  # type: ignore[no-any-return]


def _retract(lake: Lake, decided: DataFrame) -> None:
    """Remove from rejects what earlier filters left out of these files and the present ones do not."""
    before = lake.read(REJECTS).where(_is_filtered("reason"))
    if before.isEmpty():
        return
    files = decided.select("source_file").distinct()
    said = before.join(files, on="source_file", how="left_semi")
    take_back(lake, said, still=decided.where(_is_filtered("left_out")))


def _filtered(decided: DataFrame) -> DataFrame:
    """What filters leave out as rejects. Its row is sound and stays in its file: only what decided is kept
    of it.
    """
    evidence = F.to_json(F.struct(*_EVIDENCE)).alias("raw")
    columns = ("source_row", F.col("left_out").alias("reason"), "source_file", evidence)
    return decided.where(_is_filtered("left_out")).select(*columns)


def _is_filtered(column: str) -> Column:
    return F.col(column).isin([str(reason) for reason in FILTERED])
