"""A stage's work, cut into units by uid: a unit commits once, and a rerun does only what is missing.

A unit is a range of the uid's first four digits. uids are hashes, so ranges are as even as buckets of another
hash, and Delta prunes a range by the minima and maxima it keeps, where a bucket would read the whole table
for every unit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recap_spark.errors import AccountingError
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.progress import Progress
from recap_spark.settings.fetch import UnitSettings
from recap_spark.stages.underway import Underway
from recap_spark.tables import Table

log = logging.getLogger(__name__)

_PREFIXES = 16**4


@dataclass(frozen=True)
class Job:
    """What a stage has to answer, what it has answered already, and how one unit of the rest is done.

    The frames are asked for again after the last unit: then nothing may be left.
    """

    stage: str
    target: Table
    asked: Callable[[], DataFrame]  # one row per answer wanted
    answered: Callable[[], DataFrame]  # the key of every answer that is there
    work: Callable[
        [DataFrame, Column], DataFrame
    ]  # rows to do, and the unit's range of uid → rows of the target
    fingerprint: str  # of what sets these answers apart from others of the stage: a captioner, a scorer
    committed: Callable[[Column], None] | None = (
        None  # told the range of uid of every unit that is in the target
    )
    before: Callable[[], None] | None = None  # once, before the first unit; what it raises ends the stage


def unit_of(units: int) -> Column:
    """The unit that a uid belongs to, from 0."""
    prefix = F.conv(F.substring("uid", 1, 4), 16, 10).cast("bigint")
    return F.floor(prefix * F.lit(units) / F.lit(_PREFIXES)).cast("int")


def in_unit(unit: int, units: int) -> Column:
    """The same as a range of uid, which Delta's file statistics can prune."""
    first, after = (-(-edge * _PREFIXES // units) for edge in (unit, unit + 1))
    lower = F.col("uid") >= f"{first:04x}"
    return lower if after == _PREFIXES else lower & (F.col("uid") < f"{after:04x}")


def run_units(lake: Lake, job: Job, *, settings: UnitSettings, progress: Progress) -> int:
    """Do what is missing, several units at a time, so that slots which one unit leaves idle are used by the
    next.

    Returns the rows that were to do. A unit that another job takes over is left to that job. Raises
    AccountingError where rows are left in units that stayed this job's.
    """
    pending = _pending(job, settings)
    rows = sum(pending.values())
    if not rows:
        return 0
    if job.before is not None:
        job.before()
    ours: set[int] = set()
    underway = Underway(lake.spark)
    with progress.stage(job.stage, rows=rows, underway=underway.rows) as advance:
        for unit, committed in _run_all(lake, job, pending, settings, underway):
            advance(pending[unit], note=f"unit {unit} of {settings.units}")
            if committed:
                ours.add(unit)
    left = sum(count for unit, count in _pending(job, settings).items() if unit in ours)
    if left:
        raise AccountingError(
            f"{job.stage}: {rows} rows to do, {left} of them have no row in {job.target.name}"
        )
    return rows


def _pending(job: Job, settings: UnitSettings) -> dict[int, int]:
    """Rows to do of every unit that has any."""
    answered = job.answered()
    left = job.asked().join(answered, on=answered.columns, how="left_anti")
    by_unit = left.groupBy(unit_of(settings.units).alias("unit")).count()
    return {row["unit"]: row["count"] for row in by_unit.collect()}


def _run_all(
    lake: Lake, job: Job, pending: Mapping[int, int], settings: UnitSettings, underway: Underway
) -> Iterator[tuple[int, bool]]:
    """Run these units; yields each as it ends, and whether this job committed it. When one fails, those that
    have not begun are cancelled.
    """

    def run_unit(unit: int, claim: Transaction) -> bool:
        described = f"{job.stage}: unit {unit} of {settings.units}"
        with underway.step(described, rows=pending[unit]):
            return _run_unit(lake, job, unit, claim, settings)

    units = sorted(pending)
    running: dict[Future[bool], int] = {}
    with ThreadPoolExecutor(1) as beside, ThreadPoolExecutor(settings.in_flight) as pool:
        # One unit is claimed ahead, or whoever computes would wait for that commit between two units.
        claim_of = partial(_claim, lake, job, settings=settings)
        coming = beside.submit(claim_of, units[0])
        for unit, following in zip_longest(units, units[1:]):
            claim = coming.result()
            if following is not None:
                coming = beside.submit(claim_of, following)
            running[pool.submit(run_unit, unit, claim)] = unit
            if len(running) == settings.in_flight:
                yield from _ended(running)
        while running:
            yield from _ended(running)


def _ended(running: dict[Future[bool], int]) -> Iterator[tuple[int, bool]]:
    """Those that have ended, one at least."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result()


def _claim(lake: Lake, job: Job, unit: int, *, settings: UnitSettings) -> Transaction:
    return lake.claim(job.target, f"{job.stage}/{job.fingerprint}/{unit}-of-{settings.units}")


def _run_unit(lake: Lake, job: Job, unit: int, claim: Transaction, settings: UnitSettings) -> bool:
    """Run one unit. Returns whether it was committed: not if another job has claimed it since."""
    within = in_unit(unit, settings.units)
    # After the claim: a job that claimed earlier can from here on add nothing unseen. Just before it is
    # broadcast: a checkpoint is gone with the executor that holds it. And a checkpoint, cut off from the
    # target: Delta would take a write that reads its own table for one that another unit's can break.
    answered = job.answered().where(within).localCheckpoint()
    # A unit's keys are some megabytes, its images gigabytes: the keys travel.
    rows = job.asked().where(within).join(F.broadcast(answered), on=answered.columns, how="left_anti")
    if settings.tasks_per_unit:
        rows = rows.repartition(settings.tasks_per_unit)
    if lake.append(job.target, job.work(rows, within), transaction=claim) is None:
        log.warning("%s: unit %d was taken over by another job", job.stage, unit)
        return False
    if job.committed is not None:
        job.committed(within)
    return True
