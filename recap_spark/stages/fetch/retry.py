"""images → images: failures tried again, those whose cause may have passed or those that the caller names"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recap_spark.errors import AccountingError, SettingsError
from recap_spark.lake.lake import Lake
from recap_spark.progress import Progress
from recap_spark.settings.schema import Settings
from recap_spark.stages.fetch.fetch import fetch_images
from recap_spark.stages.fetch.placeholders import mark_placeholders
from recap_spark.stages.fetch.takeovers import Takeovers
from recap_spark.stages.fetch.urls import host
from recap_spark.stages.underway import Underway
from recap_spark.statuses import PASSING_FAILURES, FetchStatus
from recap_spark.tables import IMAGES, SAMPLES
from recap_spark.workers.fetching.optouts import with_opt_outs

log = logging.getLogger(__name__)

_PASSING = tuple(sorted(map(str, PASSING_FAILURES)))


@dataclass(frozen=True)
class Slice:
    """Failures of one age: last tried at `since` or later and before `until`, microseconds of the epoch."""

    since: int
    until: int

    def sql(self, tried: str) -> str:
        """The slice as a condition on the moment of the last attempt, by which Delta skips files."""
        return f"{tried} >= timestamp_micros({self.since}) AND {tried} < timestamp_micros({self.until})"


def may_have_passed(*, attempts: int, until: datetime) -> Column:
    """Failures worth another attempt: of a cause that may pass, tried less often than `attempts`, and not
    since `until`.
    """
    is_passing = F.col("status").isin(*_PASSING)
    return is_passing & (F.col("attempts") < attempts) & (F.col("fetched_at") < F.lit(until))


def slices(waiting: DataFrame, *, rows: int, rows_per_commit: int, until: datetime) -> Sequence[Slice]:
    """Cut `fetched_at` into slices of about so many rows, the oldest first; rows of one moment are in one
    slice.
    """
    micros = F.unix_micros("fetched_at")
    count = -(-rows // rows_per_commit)
    (found,) = waiting.agg(
        F.min(micros).alias("first"),
        F.max(micros).alias("last"),
        F.percentile_approx(micros, [number / count for number in range(1, count + 1)]).alias("lasts"),
    ).collect()
    inner = {last + 1 for last in found["lasts"] if last < found["last"]}
    edges = [found["first"], *sorted(inner), _micros(until)]
    return [Slice(since, before) for since, before in pairwise(edges)]


def run(lake: Lake, settings: Settings, progress: Progress) -> int:
    """Try failures again whose cause may have passed. Returns the rows tried."""
    return retry_rows(lake, settings, progress, statuses=(), hosts=())


def retry_rows(
    lake: Lake, settings: Settings, progress: Progress, *, statuses: Sequence[str], hosts: Sequence[str]
) -> int:
    """Try rows again, replace each in place, and mark placeholders. Returns the rows tried.

    With statuses or hosts, all rows of these statuses on these hosts are tried, however often and recently
    they were tried before: for rows that ended because of a setting that has been changed since. Hosts alone
    stand for every status but ok; they are written as fetch-report writes them. Without either, the failures
    whose cause may have passed are tried, by `fetch.retry`. Raises SettingsError for an unknown status.

    A slice is one Delta merge, which updates a row only if nobody has tried it since it was chosen. So where
    a run is killed and run again, or runs twice at once, no row is doubled and no attempt that counted is
    lost.
    """
    chosen = _chosen(settings, statuses=statuses, hosts=hosts)
    # Every slice needs its urls, and every look-up of them would be a scan of all samples.
    waiting = _waiting(lake, chosen).persist(StorageLevel.DISK_ONLY)
    try:
        rows = waiting.count()
        if rows:
            _retry_all(lake, waiting, rows, chosen.until, settings, progress)
    finally:
        waiting.unpersist()
    mark_placeholders(lake, settings.fetch.placeholders)
    return rows


@dataclass(frozen=True)
class _Chosen:
    """Which rows to try again."""

    failures: Column  # of images
    samples: Column
    until: datetime  # of the last attempt


def _chosen(settings: Settings, *, statuses: Sequence[str], hosts: Sequence[str]) -> _Chosen:
    if unknown := sorted(set(statuses) - set(map(str, FetchStatus))):
        known = ", ".join(map(str, FetchStatus))
        raise SettingsError(f"retry: want statuses among {known}; found {', '.join(unknown)}")
    now = datetime.now(UTC)
    if not statuses and not hosts:
        until = now - timedelta(hours=settings.fetch.retry.wait_h)
        passing = may_have_passed(attempts=settings.fetch.retry.attempts, until=until)
        return _Chosen(passing, F.lit(True), until)
    named = F.col("status").isin(*statuses) if statuses else F.col("status") != str(FetchStatus.OK)
    spelled = {name.strip().rstrip(".").lower() for name in hosts}
    on_hosts = host(F.col("url")).isin(*spelled) if hosts else F.lit(True)
    return _Chosen(named & (F.col("fetched_at") < F.lit(now)), on_hosts, now)


def _waiting(lake: Lake, chosen: _Chosen) -> DataFrame:
    """`uid, attempts, fetched_at, url, sha256, face_bboxes` of the rows to try, as the tables are now."""
    (_, images), (_, samples) = (lake.as_of_now(table) for table in (IMAGES, SAMPLES))
    # A sample that was deleted since has no url to ask.
    return (
        images.where(chosen.failures)
        .select("uid", "attempts", "fetched_at")
        .join(
            samples.where(chosen.samples).select("uid", "url", "sha256", "face_bboxes"), on="uid", how="inner"
        )
    )


def _retry_all(
    lake: Lake, waiting: DataFrame, rows: int, until: datetime, settings: Settings, progress: Progress
) -> None:
    parts = slices(waiting, rows=rows, rows_per_commit=settings.fetch.retry.rows_per_commit, until=until)
    takeovers = Takeovers("retry")
    underway = Underway(lake.spark)
    with progress.stage("retry", rows=rows, underway=underway.rows) as advance:
        for number, part in enumerate(parts):
            with underway.step(
                f"retry: slice {number} of {len(parts)}", rows=settings.fetch.retry.rows_per_commit
            ):
                tried = _retry_slice(lake, waiting, part, settings, takeovers)
            advance(tried, note=f"slice {number} of {len(parts)}")
    # Looked up by uid: a fetch beside this one may have added failures as old.
    left = lake.read(IMAGES).where(F.col("fetched_at") < F.lit(until)).select("uid")
    if forgotten := waiting.join(left, on="uid", how="left_semi").count():
        raise AccountingError(f"retry: {rows} rows to try again, {forgotten} of them were not replaced")


def _retry_slice(
    lake: Lake, waiting: DataFrame, part: Slice, settings: Settings, takeovers: Takeovers
) -> int:
    fetch = settings.fetch
    rows = waiting.where(part.sql("fetched_at")).repartition(fetch.retry.tasks)
    # A url's other attempts are other runs', hours apart: those of the same minute were made by the first.
    limits = replace(with_opt_outs(fetch.limits), attempts=1)
    fetched = fetch_images(rows, limits=limits, decode=fetch.decode, rules=fetch.picture)
    # The merge reads its source twice, and again where another job's commit overtook it.
    fetched.persist(StorageLevel.DISK_ONLY)
    try:
        tried = fetched.count()
        takeovers.look_at(fetched)
        values = {name: f"new.{name}" for name in IMAGES.schema.names if name not in IMAGES.key}
        replaced = lake.revise(IMAGES, fetched, still=part.sql("kept.fetched_at"), values=values)
    finally:
        fetched.unpersist()
    if replaced < tried:
        log.warning("retry: %d of %d rows were tried by another job meanwhile", tried - replaced, tried)
    return tried


def _micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
