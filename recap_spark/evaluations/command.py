"""`recap-spark evaluate`: the captioner of conf, on one GPU or CPU of this machine"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from recap_spark.errors import InputError
from recap_spark.evaluations import runs
from recap_spark.settings.schema import Settings
from recap_spark.workers.captioning.engines import captioner_spec, describe


def run_evaluation(
    benchmark: str, folder: Path | None, *, settings: Settings, evaluations: Path, console: Console
) -> None:
    """Measure, print a table and record the run. Raises InputError where there is no such benchmark."""
    how = runs.read_settings(evaluations)
    spec = captioner_spec(settings.caption)
    device = "cuda:0" if settings.caption.device == "gpu" else "cpu"
    if benchmark == "miniature":
        measures = runs.evaluate_miniature(spec, settings=how, device=device)
    elif benchmark in ("mmmu", "mmvet"):
        if folder is None:
            raise InputError(f"evaluate {benchmark}: want the folder of its files, found none")
        evaluation = runs.evaluate_mmmu if benchmark == "mmmu" else runs.evaluate_mmvet
        measures = evaluation(spec, folder, settings=how, device=device)
    else:
        raise InputError(f"evaluate: want mmmu, mmvet or miniature, found {benchmark}")
    captioner = describe(spec)
    table = Table("measure", "value", "of", "", title=f"{benchmark}: {captioner['captioner']}")
    for each in measures:
        table.add_row(each.name, f"{each.value:.1f}", str(each.of), each.remark)
    console.print(table)
    runs.record(measures, benchmark=benchmark, captioner=captioner, settings=settings)
