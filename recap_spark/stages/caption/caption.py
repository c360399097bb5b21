"""images → captions"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.machine.device import task_device, task_profile
from recap_spark.machine.worker_daemon import models_imported
from recap_spark.progress import Progress
from recap_spark.settings.schema import Settings
from recap_spark.settings.values import absolute
from recap_spark.stages.prechecks import ask_a_worker
from recap_spark.stages.units import Job, run_units
from recap_spark.statuses import FetchStatus
from recap_spark.tables import CAPTIONERS, CAPTIONS, IMAGES
from recap_spark.workers.captioning.captioner import CaptionerSpec
from recap_spark.workers.captioning.engines import (
    AnyCaptionerSpec,
    caption_partition,
    captioner_spec,
    describe,
)
from recap_spark.workers.captioning.journal import Journal
from recap_spark.workers.captioning.precheck import check_partition

log = logging.getLogger(__name__)


def caption_images(
    images: DataFrame, *, captioner: AnyCaptionerSpec, key: str, device: str, journal: Journal
) -> DataFrame:
    """Caption every image of `uid, bytes`. One that does not decode, or that has killed the engine twice,
    gets a row that says so.
    """
    on = partial(task_device, device)
    runner = partial(caption_partition, spec=captioner, device=on, key=key, journal=journal)
    profile = task_profile(images.sparkSession, device)
    with _libraries(images.sparkSession, captioner):
        return images.select("uid", "bytes").mapInArrow(runner, CAPTIONS.loose, profile=profile)


def check_worker(spark: SparkSession, *, captioner: AnyCaptionerSpec, device: str, journal: Journal) -> None:
    """Let one worker look at what a captioner wants. Raises WeightsError or PlatformError."""
    on = partial(task_device, device)
    check = partial(check_partition, spec=captioner, device=on, journal=journal)
    ask_a_worker(spark, check, device=device, libraries=_libraries(spark, captioner))


def run(lake: Lake, settings: Settings, progress: Progress) -> int:
    """Caption the images that this captioner has not captioned yet. Returns the rows that were to do."""
    captioner = captioner_spec(settings.caption)
    with ThreadPoolExecutor(1) as beside:
        described = beside.submit(describe, captioner)  # hashes the weights
        lake.create(CAPTIONS, CAPTIONERS)
        made_by = described.result()
    key = str(made_by["captioner"])
    _enter(lake, made_by)

    journal = Journal(f"{journal_folder(settings)}/{key}")
    if suspects := len(journal.deaths()):
        log.warning("caption: %d images were in an engine when it died: each is run alone", suspects)

    def work(rows: DataFrame, _: Column) -> DataFrame:
        device = settings.caption.device
        return caption_images(rows, captioner=captioner, key=key, device=device, journal=journal)

    version = lake.version(IMAGES)
    fetched = F.col("status") == str(FetchStatus.OK)
    job = Job(
        stage="caption",
        target=CAPTIONS,
        asked=lambda: lake.read_at(IMAGES, version).where(fetched).select("uid", "bytes"),
        answered=lambda: lake.read(CAPTIONS).where(F.col("captioner") == key).select("uid"),
        work=work,
        fingerprint=f"{lake.identity(IMAGES)}/{key}",
        before=partial(
            check_worker, lake.spark, captioner=captioner, device=settings.caption.device, journal=journal
        ),
    )
    done = run_units(lake, job, settings=settings.caption.work, progress=progress)
    journal.clear()
    return done


def _enter(lake: Lake, made_by: dict[str, str | None]) -> None:
    """Store the captioner's row, unless it is there: its key is a hash of its content, so the row never
    changes.
    """
    key = str(made_by["captioner"])
    if not lake.read(CAPTIONERS).where(F.col("captioner") == key).isEmpty():
        return
    row = frame_of(lake.spark, [tuple(map(made_by.get, CAPTIONERS.schema.names))], CAPTIONERS.schema)
    if lake.append(CAPTIONERS, row, transaction=Transaction(f"captioner/{key}", 1)) is None:
        lake.upsert(CAPTIONERS, row)  # another job was faster, or somebody has deleted the row since


def journal_folder(settings: Settings) -> str:
    """The folder where workers record which images are in their engines: conf's, else one beside the
    tables.
    """
    return absolute(settings.caption.journal or f"{settings.lake.root}/_in_engine")


def _libraries(spark: SparkSession, captioner: AnyCaptionerSpec) -> AbstractContextManager[None]:
    """Models' libraries, for workers that load the captioner themselves; an endpoint's want none."""
    return models_imported(spark) if isinstance(captioner, CaptionerSpec) else nullcontext()
