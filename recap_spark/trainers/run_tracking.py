"""What MLflow keeps of a run, and whether a checkpoint is of it"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recap_spark import __version__
from recap_spark.errors import SettingsError
from recap_spark.settings.captioner_run import CaptionerRun
from recap_spark.settings.loading import flat
from recap_spark.tracking import public_params
from recap_spark.trainers.distributed import Place

log = logging.getLogger(__name__)

# These change where and how fast a run goes, not what it computes.
_FREE = (
    "folder",
    "device",
    "micro_batch_size",
    "gradient_checkpointing",
    "checkpoint_every",
    "checkpoints_kept",
    "saved_dtype",
    "log_every",
    "spark_processes",
    "data.file",
    "data.images",
    "data.loader_processes",
    "tracking.uri",
    "tracking.experiment",
)


def check_same_run(state: Mapping[str, Any], run: CaptionerRun, data: str, *, where: Path) -> None:
    """Raises SettingsError naming what differs between a checkpoint's run and this one."""
    saved, now = flat(CaptionerRun.model_validate(state["run"])), flat(run)
    keys = sorted((saved.keys() | now.keys()) - set(_FREE))
    differing = [f"{key} {saved.get(key)!r}" for key in keys if saved.get(key) != now.get(key)]
    if state["data"] != data:
        differing.append("other conversations")
    if differing:
        raise SettingsError(
            f"{where}: want a checkpoint of this run, found {', '.join(differing)}: "
            "set another folder, or remove this one's checkpoints"
        )


@dataclass(frozen=True)
class MetricLog:
    """Writes a step's metrics to the log and, on the run's first process, to MLflow."""

    name: str
    run_id: str | None  # MLflow's

    def __call__(self, step: int, **metrics: float) -> None:
        if self.run_id is None:
            return
        import mlflow

        mlflow.log_metrics(metrics, step=step)
        log.info("%s step %d: %s", self.name, step, ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))


@contextmanager
def recorded(run: CaptionerRun, place: Place, tracked: str | None) -> Iterator[MetricLog]:
    """One MLflow run around a training run; one that goes on from a checkpoint goes on in the same."""
    if not place.first:
        yield MetricLog(run.name, None)
        return
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder = Path(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(run.tracking.uri or f"sqlite:///{folder.resolve()}/mlflow.db")
    mlflow.set_experiment(run.tracking.experiment)
    with mlflow.start_run(run_id=tracked, run_name=None if tracked else run.name) as started:
        if not tracked:
            mlflow.set_tags({"stage": run.name, "recap_spark": __version__})
            mlflow.log_params(public_params(run) | {"processes": str(place.world)})
        yield MetricLog(run.name, started.info.run_id)
