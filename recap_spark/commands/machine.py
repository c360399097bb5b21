"""Commands about the machine, its settings and the money"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recap_spark.commands.options import LAPTOP, Changes, Conf, said_plainly

_PANEL = "Machine and money"


def add_to(app: typer.Typer) -> None:
    """In the order in which they are wanted."""
    for name, command in (("init", _init), ("doctor", _doctor), ("plan", _plan)):
        app.command(name, rich_help_panel=_PANEL)(command)


def _init(file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("mine.yml")) -> None:
    """Write a first settings file with the settings that every installation needs. An existing file is left
    as it is.

    Example: recap-spark init mine.yml
    """
    from recap_spark.settings.files.first_file import write_first_file

    with said_plainly():
        write_first_file(file)
        typer.echo(f"wrote {file}: edit it, then recap-spark doctor --conf {file}")


def _doctor(conf: Conf = LAPTOP, changes: Changes = None) -> None:
    """Check Java, Spark, Delta, Arrow, GPUs, settings and write access, and say what to change.

    Example: recap-spark doctor --conf mine.yml
    """
    with said_plainly():
        from rich.console import Console

        from recap_spark.machine.doctor.doctor import examine_machine
        from recap_spark.settings.loading import load

        if not examine_machine(load(*conf, changes=changes or ()), Console()):
            raise typer.Exit(1)


def _plan(
    rows: Annotated[float, typer.Option(help="Rows of metadata.")],
    gpu: Annotated[str, typer.Option(help="A GPU that the file of figures names.")],
    gpus: Annotated[int, typer.Option(min=1)],
    cores: Annotated[int, typer.Option(min=1, help="CPU cores for the stages without a GPU.")] = 1024,
    figures: Annotated[
        Path | None, typer.Option(help="The file of figures to plan with; else conf/planner.yml.")
    ] = None,
) -> None:
    """Estimate hours, GPU-hours, storage and money of each stage, with the formula.

    Example: recap-spark plan --rows 1.3e9 --gpu h100 --gpus 256
    """
    with said_plainly():
        from rich.console import Console

        from recap_spark.planning import planner
        from recap_spark.planning.figures import read_figures
        from recap_spark.report.plan import print_plan
        from recap_spark.settings.files.based_on import here_or_built_in

        known = read_figures(figures or here_or_built_in("planner.yml"))
        stages = planner.plan(known, rows=rows, gpu=gpu, gpus=gpus, cores=cores)
        print_plan(stages, gpu=gpu, figures=known, console=Console())
