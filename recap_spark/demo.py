"""The miniature web, served on loopback, through every stage"""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console

from recap_spark.lake.lake import Lake
from recap_spark.miniature.dataset import write_dataset
from recap_spark.miniature.server import serve
from recap_spark.pipeline import run_all
from recap_spark.progress import Progress
from recap_spark.report.summary import show_summary
from recap_spark.settings.redaction import public
from recap_spark.settings.schema import Settings
from recap_spark.stages.export.export import export_folder
from recap_spark.stages.mix import view_captioner
from recap_spark.stages.score import scorer_spec
from recap_spark.tracking import tracking_uri

log = logging.getLogger(__name__)


def run_demo(lake: Lake, settings: Settings, progress: Progress) -> None:
    """Make the miniature DataComp where it is not there yet, serve it, run every stage and say what came of
    it.
    """
    folder = Path(settings.demo.folder)
    _make_miniature(folder, settings)
    with serve(folder, port=settings.demo.port):
        counts = run_all(lake, settings, progress)
    captioner = view_captioner(settings)
    console = Console()
    show_summary(lake, counts, captioner=captioner, scorer=scorer_spec(settings.score).name, console=console)
    exported, _ = export_folder(lake, settings, captioner=captioner)
    for line in _where_to_look(settings, exported):
        console.print(line, highlight=False, soft_wrap=True)


def _where_to_look(settings: Settings, exported: str) -> list[str]:
    mixed = "SELECT uid, caption, source FROM mixed_captions(0.8, 7, 3) LIMIT 5"
    statuses = "SELECT status, count(*) AS images FROM images GROUP BY status ORDER BY images DESC"
    return [
        f"tables   {settings.lake.root}/{settings.lake.namespace}.db/ (Delta)",
        f"shards   {exported}/webdataset/*.tar, and manifest.json beside them",
        f"MLflow   .venv/bin/mlflow ui --backend-store-uri {public(tracking_uri(settings))}",
        f'queries  .venv/bin/recap-spark sql "{mixed}"',
        f'         .venv/bin/recap-spark sql "{statuses}"',
    ]


def _make_miniature(folder: Path, settings: Settings) -> None:
    """What is marked as made is whole: the mark comes last."""
    done = folder / f"made-{settings.demo.rows}-{settings.demo.seed}-{settings.demo.port}"
    if done.exists():
        return
    log.info("making the miniature: %d rows in %s", settings.demo.rows, folder)
    base_url = f"http://127.0.0.1:{settings.demo.port}"
    write_dataset(folder, rows=settings.demo.rows, seed=settings.demo.seed, base_url=base_url)
    done.touch()
