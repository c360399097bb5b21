"""Commands about the captioner itself"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recap_spark.commands.options import LAPTOP, Changes, Conf, opened, said_plainly

_PANEL = "Captioner"


def add_to(app: typer.Typer) -> None:
    """In the order in which they are wanted."""
    app.command("convert-captioner", rich_help_panel=_PANEL)(_convert_captioner)
    app.command("calibrate", rich_help_panel=_PANEL)(_calibrate)
    app.command("evaluate", rich_help_panel=_PANEL)(_evaluate)


def _convert_captioner(source: str, target: Path, conf: Conf = LAPTOP, changes: Changes = None) -> None:
    """Write SOURCE, a captioner of conf/captioners in the original LLaVA layout, to the new folder TARGET in
    the layout that transformers and every engine reads.

    Example: recap-spark convert-captioner llava_hqedit converted
    """
    with said_plainly():
        from recap_spark.settings.loading import load
        from recap_spark.workers.captioning import conversion
        from recap_spark.workers.captioning.captioner import CaptionerSpec

        settings = load(*conf, captioner=source, changes=changes or ())
        conversion.convert_captioner(CaptionerSpec(settings.caption).captioner, target)


def _calibrate(conf: Conf = LAPTOP, changes: Changes = None) -> None:
    """Caption published images again under each conversation template; rank them by agreement.

    Example: recap-spark calibrate --set calibrate.pairs=64
    """
    with opened(conf, changes) as (lake, settings, _):
        from rich.console import Console

        from recap_spark.stages.caption.calibrate import rank_templates, ranking_table

        Console().print(ranking_table(rank_templates(lake, settings)))


def _evaluate(
    benchmark: Annotated[str, typer.Argument(help="mmmu, mmvet or miniature")],
    folder: Annotated[Path | None, typer.Argument(help="The benchmark's published files.")] = None,
    conf: Conf = LAPTOP,
    changes: Changes = None,
    evaluations: Annotated[
        Path | None, typer.Option(help="Forms of questions and the judge; else conf/evaluations.yml.")
    ] = None,
) -> None:
    """Measure the captioner that conf names, on any engine, and record the results in MLflow.

    Example: recap-spark evaluate miniature
    """
    with said_plainly():
        from rich.console import Console

        from recap_spark.evaluations.command import run_evaluation
        from recap_spark.settings.files.based_on import here_or_built_in
        from recap_spark.settings.loading import load

        settings = load(*conf, changes=changes or ())
        asked = evaluations or here_or_built_in("evaluations.yml")
        run_evaluation(benchmark, folder, settings=settings, evaluations=asked, console=Console())
