"""`recap-spark <stage|all|COMMAND>`: the command line

Exit codes: 0 done, 1 an error said on standard error, 2 the command line was wrong.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from pyspark.errors import PySparkException
from rich.console import Console

from recap_spark.errors import InputError, RecapError
from recap_spark.lake import Lake
from recap_spark.machine import read_only
from recap_spark.machine.session import Platform, platform, start
from recap_spark.pipeline import ON_DEMAND, STAGES, named, run_all, run_stage
from recap_spark.progress import Progress
from recap_spark.report.fetching import show_fetching
from recap_spark.report.probe import show_probe
from recap_spark.settings.loading import load
from recap_spark.settings.schema import Settings
from recap_spark.stages.fetch.probe import probe_urls
from recap_spark.stages.fetch.retry import retry_rows
from recap_spark.stages.importing.imports_table import IMPORTS
from recap_spark.tables import ALL

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

_LAPTOP = [Path("conf/base.yml"), Path("conf/laptop.yml")]

Conf = Annotated[
    list[Path],
    typer.Option("--conf", help="Settings files, later ones over earlier ones.", envvar="RECAP_CONF"),
]


@contextmanager
def _opened(conf: list[Path]) -> Iterator[tuple[Lake, Settings, Progress]]:
    """The lake that the settings name. An error raised on purpose ends the command with its message alone."""
    console = Console(stderr=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("py4j", "alembic", "mlflow", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with _said_plainly():
        settings = load(*conf)
        spark = start(settings.session, settings.lake)
        try:
            yield Lake(spark, settings.lake), settings, Progress(console)
        finally:
            if platform() is Platform.LAPTOP:
                spark.stop()


@contextmanager
def _said_plainly() -> Iterator[None]:
    try:
        yield
    except RecapError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from error


def _add_stage_command(name: str, summary: str) -> None:
    def command(conf: Conf = _LAPTOP) -> None:
        with _opened(conf) as (lake, settings, progress):
            run_stage(named(name), lake, settings, progress)

    app.command(name, help=summary)(command)


for _stage in STAGES + ON_DEMAND:
    if _stage.name not in ("fetch", "retry"):
        _add_stage_command(_stage.name, (sys.modules[_stage.run.__module__].__doc__ or "").strip())


@app.command(help="samples → images")
def fetch(
    conf: Conf = _LAPTOP,
    probe: Annotated[
        int | None,
        typer.Option(min=1, help="Fetch a sample of so many rows, keep nothing, estimate the whole table."),
    ] = None,
) -> None:
    with _opened(conf) as (lake, settings, progress):
        if probe is None:
            run_stage(named("fetch"), lake, settings, progress)
        else:
            show_probe(probe_urls(lake, settings, rows=probe), console=Console())


@app.command()
def retry(
    conf: Conf = _LAPTOP,
    status: Annotated[
        list[str] | None,
        typer.Option(help="Try the rows of this status, whatever fetch.retry says; may be repeated."),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="Only of this host; without --status, all of its rows but ok; may be repeated."),
    ] = None,
) -> None:
    """images → images, failures tried once more: those that may have passed, or those that are named"""
    chosen = partial(retry_rows, statuses=status or (), hosts=host or ())
    with _opened(conf) as (lake, settings, progress):
        run_stage(replace(named("retry"), run=chosen), lake, settings, progress)


@app.command("fetch-report")
def fetch_report(
    conf: Conf = _LAPTOP, hosts: Annotated[int, typer.Option(min=1, help="Hosts shown.")] = 20
) -> None:
    """How fetching ended by cause, host, top-level domain and day; link rot and hash mismatches."""
    with _opened(conf) as (lake, _, _):
        show_fetching(lake, hosts=hosts, console=Console())


@app.command("all")
def all_stages(conf: Conf = _LAPTOP) -> None:
    """Every stage in order: what is done already is not done again."""
    with _opened(conf) as (lake, settings, progress):
        run_all(lake, settings, progress)


@app.command()
def compact(conf: Conf = _LAPTOP) -> None:
    """Rewrite every table's small files into large ones, clustered by key."""
    with _opened(conf) as (lake, _, _):
        for table in (*ALL, IMPORTS):
            if lake.holds(table):
                lake.compact(table)


@app.command()
def demo(conf: Conf = [*_LAPTOP, Path("conf/demo.yml")]) -> None:  # noqa: B006  typer reads it and changes nothing
    """The whole path on the miniature web, with a summary at the end."""
    from recap_spark.demo import run_demo

    with _opened(conf) as (lake, settings, progress):
        run_demo(lake, settings, progress)


@app.command()
def doctor(conf: Conf = _LAPTOP) -> None:
    """Check Java, Spark, Delta, Arrow, GPUs, settings and write access, and say what to change."""
    from recap_spark.machine.doctor import examine_machine

    with _said_plainly():
        if not examine_machine(load(*conf), Console()):
            raise typer.Exit(1)


@app.command("convert-captioner")
def convert_captioner(source: str, target: Path, conf: Conf = _LAPTOP) -> None:
    """Write SOURCE, a captioner of conf/captioners in the original LLaVA layout, to the new folder TARGET in
    the layout that transformers and every engine reads."""
    from recap_spark.workers.captioning import conversion
    from recap_spark.workers.captioning.engines import in_process_spec

    with _said_plainly():
        settings = load(*conf, captioner=source)
        conversion.convert_captioner(in_process_spec(settings.caption).source, target)


@app.command()
def calibrate(conf: Conf = _LAPTOP) -> None:
    """Caption published images again under each conversation template; rank them by agreement."""
    from recap_spark.stages.caption.calibrate import rank_templates, ranking_table

    with _opened(conf) as (lake, settings, _):
        Console().print(ranking_table(rank_templates(lake, settings)))


@app.command()
def plan(
    rows: Annotated[float, typer.Option(help="Rows of metadata.")],
    gpu: Annotated[str, typer.Option(help="A card of the planner's figures.")],
    gpus: Annotated[int, typer.Option(min=1)],
    cores: Annotated[int, typer.Option(min=1, help="For the stages without a GPU.")] = 1024,
    figures: Annotated[Path, typer.Option(help="What to reckon with.")] = Path("conf/planner.yml"),
) -> None:
    """Hours, GPU-hours, storage and money of each stage, with the formula."""
    from recap_spark.planning import planner
    from recap_spark.planning.figures import read_figures
    from recap_spark.report.plan import print_plan

    with _said_plainly():
        known = read_figures(figures)
        stages = planner.plan(known, rows=rows, gpu=gpu, gpus=gpus, cores=cores)
        print_plan(stages, gpu=gpu, figures=known, console=Console())


@app.command()
def evaluate(
    benchmark: Annotated[str, typer.Argument(help="mmmu, mmvet or miniature")],
    folder: Annotated[Path | None, typer.Argument(help="The benchmark's published files.")] = None,
    conf: Conf = _LAPTOP,
    evaluations: Annotated[Path, typer.Option()] = Path("conf/evaluations.yml"),
) -> None:
    """Measure the captioner that conf names, on any engine, and keep the measures in MLflow."""
    from recap_spark.evaluations.command import run_evaluation

    with _said_plainly():
        run_evaluation(benchmark, folder, settings=load(*conf), evaluations=evaluations, console=Console())


@app.command()
def sql(query: str, conf: Conf = _LAPTOP) -> None:
    """Run one query over the lake's tables, views and functions, and print its rows."""
    with _opened(conf) as (lake, settings, _):
        if settings.lake.namespace:
            lake.spark.sql(f"USE {settings.lake.namespace}")
        rows = read_only.query(lake.spark, query, tells=True)
        try:
            rows.show(1000, truncate=False)
        except PySparkException as error:  # what only running it shows: a division by zero
            raise InputError(f"sql: {error}") from error


@app.command("write-subset")
def write_subset(
    query: Annotated[str, typer.Option(help="SQL whose rows have a column uid.")],
    output: Annotated[str, typer.Option(help="File or URL of the subset, .npy.")],
    conf: Conf = _LAPTOP,
) -> None:
    """Write the uids of a query as a subset file, as DataComp's resharder and ingest.subset read it."""
    from recap_spark.stages.export.subset import write_subset as write

    with _opened(conf) as (lake, settings, _):
        if settings.lake.namespace:
            lake.spark.sql(f"USE {settings.lake.namespace}")
        rows = read_only.query(lake.spark, query, tells=False)
        try:
            written = write(rows, output)
        except PySparkException as error:
            raise InputError(f"write-subset: {error}") from error
        typer.echo(f"{written} uids in {output}")


if __name__ == "__main__":
    app()
