"""A sample of the samples' rows → how fetching them would end; the pictures are measured and thrown away"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake
from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.settings.schema import Settings
from recap_spark.statuses import FetchStatus
from recap_spark.tables import IMAGES, SAMPLES
from recap_spark.workers.fetching.fetcher import fetch_rows
from recap_spark.workers.fetching.optouts import with_opt_outs

_MORE_THAN_TASKS = 1 << 20
_ENDS = "status string, size bigint, sha256_matches boolean, fetched_at timestamp"


@dataclass(frozen=True)
class End:
    """How one probed url ended."""

    status: str
    size: int  # bytes; 0 without a picture
    sha256_matches: bool | None
    fetched_at: datetime


@dataclass(frozen=True)
class Probe:
    """A uniform sample of the rows that were never tried, and the table it stands for."""

    ends: tuple[End, ...]
    seconds: float  # from the first url to the last, the slowest one's deadline included
    tasks: int
    untried: int  # rows that the sample stands for
    tried: int  # rows of images
    fetched: int  # those of them that have bytes


def draw_sample(untried: DataFrame, *, rows: int, seed: int) -> DataFrame:
    """The rows with the smallest hashes of their uid, so many of them: the same rows of a table on any
    cluster.
    """
    return untried.orderBy(F.xxhash64("uid", F.lit(seed)), "uid").limit(rows)


def probe_urls(lake: Lake, settings: Settings, *, rows: int) -> Probe:
    """Fetch a sample of the rows that images does not have. Writes to no table and keeps no picture."""
    samples = lake.read(SAMPLES).select("uid", "url", "sha256", "face_bboxes")
    nothing = frame_of(lake.spark, [], IMAGES.schema)
    images = (lake.read(IMAGES) if lake.holds(IMAGES) else nothing).select("uid", "status")
    untried = samples.join(images, on="uid", how="left_anti")
    fetch = settings.fetch
    tasks = fetch.probe.tasks or _parallelism(lake.spark)
    # Drawn before the clock starts: finding the rows is no part of what fetching the table would take.
    drawn = draw_sample(untried, rows=rows, seed=fetch.probe.seed).repartition(tasks).localCheckpoint()
    started = time.monotonic()
    limits = with_opt_outs(fetch.limits)
    measure = partial(_measure, limits=limits, decode=fetch.decode, rules=fetch.picture)
    ends = drawn.mapInArrow(measure, _ENDS).collect()
    seconds = time.monotonic() - started
    by_status = {row["status"]: row["count"] for row in images.groupBy("status").count().collect()}
    return Probe(
        ends=tuple(End(*row) for row in ends),
        seconds=seconds,
        tasks=tasks,
        untried=untried.count(),
        tried=sum(by_status.values()),
        fetched=by_status.get(str(FetchStatus.OK), 0),
    )


def _parallelism(spark: SparkSession) -> int:
    """As many tasks as Spark makes of rows that are nowhere yet."""
    return spark.range(_MORE_THAN_TASKS).select(F.spark_partition_id()).distinct().count()


def _measure(
    batches: Iterable[pa.RecordBatch], *, limits: FetchLimits, decode: DecodeLimits, rules: PictureRules
) -> Iterator[pa.RecordBatch]:
    for batch in fetch_rows(batches, settings=limits, decode=decode, rules=rules):
        sizes = pc.fill_null(pc.binary_length(batch["bytes"]).cast(pa.int64()), 0)
        columns = [batch["status"], sizes, batch["sha256_matches"], batch["fetched_at"]]
        yield pa.RecordBatch.from_arrays(columns, ["status", "size", "sha256_matches", "fetched_at"])
