"""The stages, in order, as one tuple; run one, or all"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.sql import functions as F

from recap_spark.errors import SettingsError
from recap_spark.lake.lake import Lake
from recap_spark.machine.device import check_access
from recap_spark.machine.failures import said_in_one_line
from recap_spark.machine.space import check_free_space
from recap_spark.progress import Progress
from recap_spark.settings.schema import Settings
from recap_spark.stages import mix, score
from recap_spark.stages.caption import caption
from recap_spark.stages.export import export
from recap_spark.stages.fetch import fetch, retry
from recap_spark.stages.importing import import_images
from recap_spark.stages.ingest import ingest
from recap_spark.tables import CAPTIONERS, CAPTIONS, IMAGES, RATINGS, REJECTS, SAMPLES, SCORES, Table
from recap_spark.tracking import stage_run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One step of the path."""

    name: str
    run: Callable[[Lake, Settings, Progress], int | Mapping[str, int]]
    reads: tuple[Table, ...]
    writes: tuple[Table, ...]
    counted: Table | None = None  # the table whose rows by status say how the stage ended
    device: Callable[[Settings], str] = lambda settings: "cpu"


STAGES = (
    Stage("ingest", ingest.run, reads=(), writes=(SAMPLES, REJECTS)),
    Stage("import-images", import_images.run, reads=(SAMPLES,), writes=(IMAGES,)),
    Stage("fetch", fetch.run, reads=(SAMPLES,), writes=(IMAGES,), counted=IMAGES),
    Stage(
        "caption",
        caption.run,
        reads=(IMAGES,),
        writes=(CAPTIONS, CAPTIONERS),
        counted=CAPTIONS,
        device=lambda settings: settings.caption.device,
    ),
    Stage(
        "score",
        score.run,
        reads=(SAMPLES, IMAGES, CAPTIONS),
        writes=(SCORES,),
        counted=SCORES,
        device=lambda settings: settings.score.device,
    ),
    Stage("mix", mix.run, reads=(SAMPLES, IMAGES, CAPTIONS, SCORES, RATINGS), writes=()),
    Stage("export", export.run, reads=(SAMPLES, IMAGES, CAPTIONS, SCORES), writes=()),
)

ON_DEMAND = (Stage("retry", retry.run, reads=(SAMPLES, IMAGES), writes=(IMAGES,), counted=IMAGES),)
"""Stages that are no part of the path: run by name only, whenever there is a reason to."""


def named(name: str) -> Stage:
    """The stage of that name. Raises SettingsError naming those that there are."""
    for stage in STAGES + ON_DEMAND:
        if stage.name == name:
            return stage
    known = ", ".join(stage.name for stage in STAGES + ON_DEMAND)
    raise SettingsError(f"want a stage of {known}, found {name!r}")


def run_stage(stage: Stage, lake: Lake, settings: Settings, progress: Progress) -> dict[str, int]:
    """Run one stage inside its MLflow run, and say what it did and how its table stands.

    Returns rows by what became of them in this run or, where the stage keeps a status for every row, by
    status in its table.
    """
    check_access(lake.spark, wanted=stage.device(settings), by=stage.name)
    started = time.monotonic()
    log.info("%s: begins", stage.name)
    check_free_space(lake.spark, root=lake.settings.root, least_bytes=settings.session.least_free_bytes)
    run = stage_run(lake, settings, stage.name, reads=stage.reads, writes=stage.writes)
    # Around the run too: a tracking server may go away while the stage is at work.
    with said_in_one_line(), run as recorder, said_in_one_line():
        ended = stage.run(lake, settings, progress)
        counts = dict(ended) if isinstance(ended, Mapping) else {"done": ended}
        recorder.count("rows", counts)
        seconds = time.monotonic() - started
        recorder.metrics["rows_per_s"] = sum(counts.values()) / seconds
        said = f"this run {_shown(counts) if isinstance(ended, Mapping) else f'{ended} rows'}"
        if stage.counted:
            counts = _statuses(lake, stage.counted)
            recorder.count("table", counts)
            said += f"; table: {_shown(counts)}"
    log.info("%s: %s in %.1f s", stage.name, said, seconds)
    return counts


def run_all(lake: Lake, settings: Settings, progress: Progress) -> dict[str, dict[str, int]]:
    """Every stage in order. Returns the counts of each."""
    for stage in STAGES:  # before hours of the others' work
        check_access(lake.spark, wanted=stage.device(settings), by=stage.name)
    return {stage.name: run_stage(stage, lake, settings, progress) for stage in STAGES}


def _statuses(lake: Lake, table: Table) -> dict[str, int]:
    rows = lake.read(table).groupBy("status").count().orderBy(F.col("count").desc()).collect()
    return {row["status"]: row["count"] for row in rows}


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"
