"""samples → images"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa
from pyspark.sql import Column, DataFrame

from recap_spark.lake.lake import Lake
from recap_spark.progress import Progress
from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.settings.schema import Settings
from recap_spark.stages.fetch.placeholders import mark_placeholders
from recap_spark.stages.fetch.takeovers import Takeovers
from recap_spark.stages.units import Job, run_units
from recap_spark.tables import IMAGES, SAMPLES
from recap_spark.workers.fetching.fetcher import fetch_rows
from recap_spark.workers.fetching.optouts import with_opt_outs

_ASKED = ("uid", "url", "sha256", "face_bboxes")


def fetch_images(
    samples: DataFrame, *, limits: FetchLimits, decode: DecodeLimits, rules: PictureRules
) -> DataFrame:
    """Fetch the image of every row of `uid, url, sha256, face_bboxes`. Every row gets an answer, with bytes
    or with the reason why there are none. Attempts made before, in a column `attempts`, are added to.
    """
    runner = partial(_fetch_partition, limits=limits, decode=decode, rules=rules)
    wanted = [column for column in (*_ASKED, "attempts") if column in samples.columns]
    return samples.select(*wanted).mapInArrow(runner, IMAGES.loose).select(*IMAGES.schema.names)


def run(lake: Lake, settings: Settings, progress: Progress) -> int:
    """Fetch the samples that were never tried, then mark the placeholders. Returns the rows that were to
    do.
    """
    lake.create(IMAGES)
    fetch = settings.fetch
    limits = with_opt_outs(fetch.limits)

    def work(rows: DataFrame, _: Column) -> DataFrame:
        return fetch_images(rows, limits=limits, decode=fetch.decode, rules=fetch.picture)

    version, takeovers = lake.version(SAMPLES), Takeovers("fetch")
    job = Job(
        stage="fetch",
        target=IMAGES,
        asked=lambda: lake.read_at(SAMPLES, version).select(*_ASKED),
        answered=lambda: lake.read(IMAGES).select("uid"),
        work=work,
        fingerprint=lake.identity(SAMPLES),
        committed=lambda within: takeovers.look_at(lake.read(IMAGES).where(within)),
    )
    done = run_units(lake, job, settings=fetch.work, progress=progress)
    mark_placeholders(lake, fetch.placeholders)
    return done


def _fetch_partition(
    batches: Iterable[pa.RecordBatch], *, limits: FetchLimits, decode: DecodeLimits, rules: PictureRules
) -> Iterator[pa.RecordBatch]:
    # Spark matches Arrow's columns with the declared schema by place, not by name.
    for batch in fetch_rows(batches, settings=limits, decode=decode, rules=rules):
        yield batch.select(IMAGES.schema.names)
