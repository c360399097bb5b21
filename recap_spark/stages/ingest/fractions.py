"""scores → the last row of their best fraction"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_STEPS = 2**15  # of a score, in the first look: a step then holds some thousands of float32 values at most


@dataclass(frozen=True)
class Cut:
    """The last row that is kept, in the order of falling scores and, among equal ones, rising uids."""

    score: float
    uid: str

    def keeps(self, score: Column) -> Column:
        """Whether a row of this score, and its `uid`, is kept; not where the score is null or NaN."""
        last = F.lit(self.score).cast("float")
        better = score > last
        ties = (score == last) & (F.col("uid") <= self.uid)
        return F.coalesce(~F.isnan(score) & (better | ties), F.lit(False))


def find_cut(rows: DataFrame, score: str, *, fraction: float) -> Cut | None:
    """The cut that keeps int(rows * fraction) rows of `uid` and score, None where that is no row at all.

    Exact, and the same for any order of rows and files. DataComp's own code (baselines/apply_filter.py) keeps
    all rows that reach the score of the next rank: one row more, or many where scores are equal. Rows without
    a score count as rows, and come last.
    """
    keep = int(rows.count() * fraction)
    scored = rows.select("uid", F.col(score).alias("score")).where(~F.isnan(score) & F.col(score).isNotNull())
    step = F.floor(F.greatest(F.lit(-2.0), F.least(F.lit(2.0), F.col("score"))) * _STEPS)
    by_step = scored.groupBy(step.alias("value")).count()
    at = _at_rank(by_step, keep)
    if at is None:
        return None
    by_score = scored.where(step == at.value).groupBy(F.col("score").alias("value")).count()
    within = _at_rank(by_score, at.rank)
    assert within is not None  # the step holds at least `at.rank` rows
    ties = scored.where(F.col("score") == F.lit(within.value).cast("float")).where(F.col("uid").isNotNull())
    last = ties.orderBy("uid").limit(within.rank).agg(F.max("uid").alias("uid")).collect()[0]["uid"]
    return Cut(within.value, last or "")


@dataclass(frozen=True)
class _Place:
    value: float
    rank: int  # among the rows of this value, from 1


def _at_rank(counts: DataFrame, rank: int) -> _Place | None:
    """The value at a rank among the largest; the last one where there are fewer. None for rank 0 or no
    rows.
    """
    rows = sorted(((row["value"], row["count"]) for row in counts.collect()), reverse=True)
    if not rows or rank < 1:
        return None
    for value, count in rows:
        if rank <= count:
            return _Place(value, rank)
        rank -= count
    value, count = rows[-1]
    return _Place(value, count)
