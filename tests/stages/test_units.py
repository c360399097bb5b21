"""A stage's work is cut so that every uid is in one unit, and no unit's rows are lost or done twice."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from pyspark.sql import functions as F
from rich.console import Console

from recap_spark.errors import AccountingError
from recap_spark.lake.lake import Lake
from recap_spark.progress import Progress
from recap_spark.settings.schema import UnitSettings
from recap_spark.stages.underway import Underway
from recap_spark.stages.units import Job, in_unit, run_units, unit_of
from recap_spark.tables import RATINGS

pytestmark = pytest.mark.spark

UIDS = [hashlib.md5(str(number).encode()).hexdigest() for number in range(40)]
QUIET = Progress(Console(quiet=True))


def test_every_uid_is_in_one_unit_and_the_ranges_agree_with_the_numbers(spark):
    """Over all first four digits, with the least and the greatest rest."""
    prefix = F.lpad(F.lower(F.hex("id")), 4, "0")
    ends = F.explode(F.array(*(F.concat(prefix, F.lit(digit * 28)) for digit in "0f")))
    uids = spark.range(16**4).select(ends.alias("uid"))
    counts = (1, 2, 3, 7, 4096, 65535, 65536)
    some = {units: sorted({0, 1 % units, units // 2, units - 1}) for units in counts}
    numbers = [unit_of(units).alias(f"{units}") for units in counts]
    ranges = [in_unit(one, units).alias(f"{one} of {units}") for units in counts for one in some[units]]
    found = uids.select(*numbers, *ranges).toPandas()
    for units in counts:
        assert set(found[f"{units}"]) == set(range(units))
        assert all((found[f"{one} of {units}"] == (found[f"{units}"] == one)).all() for one in some[units])


def rating_job(lake: Lake, *, judge: str, loses: str | None = None, meet=lambda: None) -> Job:
    """Give every uid a rating that bears the judge's name."""

    def work(rows, _):
        meet()
        judged = rows.where(F.col("uid") != (loses or "")).withColumn("judge", F.lit(judge))
        return judged.selectExpr("uid", "'x' AS captioner", "judge", "5 AS rating", "'' AS reason")

    return Job(
        stage="rate",
        target=RATINGS,
        asked=lambda: lake.spark.createDataFrame([(uid,) for uid in UIDS], "uid string"),
        answered=lambda: lake.read(RATINGS).select("uid"),
        work=work,
        fingerprint="f",
    )


def judged(lake: Lake) -> list[tuple[str, str]]:
    return [(row["uid"], row["judge"]) for row in lake.read(RATINGS).orderBy("uid", "judge").collect()]


def test_a_lost_row_fails_the_stage_with_the_counts_and_a_rerun_does_only_what_is_missing(lake):
    lake.create(RATINGS)
    settings = UnitSettings(units=3, in_flight=2, tasks_per_unit=1)
    lossy = rating_job(lake, judge="first", loses=UIDS[7])
    with pytest.raises(AccountingError, match=r"^rate: 40 rows to do, 1 of them have no row in ratings$"):
        run_units(lake, lossy, settings=settings, progress=QUIET)
    assert len(judged(lake)) == 39

    again = rating_job(lake, judge="second")
    assert run_units(lake, again, settings=settings, progress=QUIET) == 1
    assert judged(lake) == sorted((uid, "second" if uid == UIDS[7] else "first") for uid in UIDS)

    version = lake.version(RATINGS)
    assert run_units(lake, again, settings=settings, progress=QUIET) == 0
    assert lake.version(RATINGS) == version


def test_the_same_job_run_twice_at_once_leaves_each_uid_once(lake):
    """Both have found the unit undone before either commits it."""
    lake.create(RATINGS)
    barrier = threading.Barrier(2, timeout=120)
    settings = UnitSettings(units=2, in_flight=1, tasks_per_unit=None)
    jobs = [rating_job(lake, judge=name, meet=barrier.wait) for name in ("one", "other")]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_units, lake, job, settings=settings, progress=QUIET) for job in jobs]
        assert [run.result() for run in runs] == [40, 40]
    assert [uid for uid, _ in judged(lake)] == sorted(UIDS)


def test_a_unit_is_claimed_while_the_one_before_it_is_at_work(lake):
    lake.create(RATINGS)
    both_claims = lake.version(RATINGS) + 2

    def meet():
        deadline = time.monotonic() + 120
        while lake.version(RATINGS) < both_claims:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    job = rating_job(lake, judge="one", meet=meet)
    settings = UnitSettings(units=2, in_flight=1, tasks_per_unit=None)
    assert run_units(lake, job, settings=settings, progress=QUIET) == 40
    assert [uid for uid, _ in judged(lake)] == sorted(UIDS)


def test_a_unit_that_fails_calls_off_those_after_it_and_a_rerun_does_them(lake):
    lake.create(RATINGS)
    calls = iter(range(10))

    def meet():
        if next(calls) == 1:
            raise OSError("the second unit")

    settings = UnitSettings(units=4, in_flight=1, tasks_per_unit=None)
    with pytest.raises(OSError, match="the second unit"):
        run_units(lake, rating_job(lake, judge="first", meet=meet), settings=settings, progress=QUIET)
    first = [uid for uid, _ in judged(lake)]
    assert first == [uid for uid in sorted(UIDS) if uid < "4"]

    again = rating_job(lake, judge="second")
    assert run_units(lake, again, settings=settings, progress=QUIET) == len(UIDS) - len(first)
    assert judged(lake) == [(uid, "first" if uid in first else "second") for uid in sorted(UIDS)]


def test_rows_are_shown_before_their_unit_ends(lake, tmp_path):
    """One unit, whose worker waits after half of its rows until they have been seen."""
    lake.create(RATINGS)
    seen = tmp_path / "seen"
    half = len(UIDS) // 2

    def judge(batches):
        for batch in batches:
            for row in range(batch.num_rows):
                while row == half and not seen.exists():
                    time.sleep(0.1)
                constant = [pa.array([value]) for value in ("x", "judge", "r" * 2000)]
                constant.insert(2, pa.array([5], pa.int32()))
                columns = [batch.column(0).slice(row, 1), *constant]
                yield pa.RecordBatch.from_arrays(columns, names=RATINGS.schema.names)

    shown = []
    underway = Underway(lake.spark)

    def look():
        shown.append(underway.rows())
        if shown[-1] >= half:
            seen.touch()
        return shown[-1]

    whole = lake.spark.createDataFrame([(uid,) for uid in UIDS], "uid string")
    with (
        QUIET.stage("rate", rows=len(UIDS), underway=look, every_s=0.3),
        underway.step("rate: unit 0 of 1", rows=len(UIDS)),
    ):
        whole.repartition(1).mapInArrow(judge, RATINGS.schema).collect()
    assert max(shown) >= half
    assert underway.rows() == 0
