"""Commands for after the path: what failed again, large files, subsets"""

from __future__ import annotations

from typing import Annotated

import typer

from recap_spark.commands.options import LAPTOP, Changes, Conf, opened

_PANEL = "After the path"


def add_to(app: typer.Typer) -> None:
    """Retry first: the others want its rows."""
    app.command("retry", rich_help_panel=_PANEL)(_retry)
    app.command("compact", rich_help_panel=_PANEL)(_compact)
    app.command("write-subset", rich_help_panel=_PANEL)(_write_subset)


def _retry(
    conf: Conf = LAPTOP,
    changes: Changes = None,
    status: Annotated[
        list[str] | None,
        typer.Option(help="Fetch the rows of this status, whatever fetch.retry says; may be repeated."),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="Only rows of this host; without --status, all of them but ok; may be repeated."),
    ] = None,
) -> None:
    """images → images: fetch failed ones again, those whose cause may have passed or those of --status and
    --host.

    Example: recap-spark retry --status bad_url --host example.org
    """
    with opened(conf, changes) as (lake, settings, progress):
        from dataclasses import replace
        from functools import partial

        from recap_spark.pipeline import named, run_stage
        from recap_spark.stages.fetch.retry import retry_rows

        chosen = partial(retry_rows, statuses=status or (), hosts=host or ())
        run_stage(replace(named("retry"), run=chosen), lake, settings, progress)


def _compact(conf: Conf = LAPTOP, changes: Changes = None) -> None:
    """Rewrite every table's small files into large ones, clustered by key.

    Example: recap-spark compact --conf conf/base.yml --conf mine.yml
    """
    with opened(conf, changes) as (lake, _, _):
        from recap_spark.stages.importing.imports_table import IMPORTS
        from recap_spark.tables import ALL

        for table in (*ALL, IMPORTS):
            if lake.holds(table):
                lake.compact(table)


def _write_subset(
    query: Annotated[str, typer.Option(help="SQL whose rows have a column uid.")],
    output: Annotated[str, typer.Option(help="File or URL of the subset, ending in .npy.")],
    conf: Conf = LAPTOP,
    changes: Changes = None,
) -> None:
    """Write the uids of a query as a subset file, as DataComp's resharder and ingest.subset read it.

    Example: recap-spark write-subset --query "SELECT uid FROM scores WHERE cosine > 0.3" --output best.npy
    """
    with opened(conf, changes) as (lake, _, _):
        from recap_spark.report.queries import answered
        from recap_spark.stages.export.subset import write_subset

        with answered(lake, query, command="write-subset", shows=False) as rows:
            typer.echo(f"{write_subset(rows, output)} uids in {output}")
