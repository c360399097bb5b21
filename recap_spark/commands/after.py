"""Commands for after the path: what failed again, large files, subsets"""

from __future__ import annotations

from typing import Annotated

import typer

from recap_spark.commands.options import LAPTOP, Changes, Conf, opened
from recap_spark.commands.path import stage_command

_PANEL = "After the path"
_RETRY = "images → images: only the failures that may have passed, oldest first\n\nExample: recap-spark retry"


def add_to(app: typer.Typer) -> None:
    """Retry first: the others want its rows."""
    app.command("retry", help=_RETRY, rich_help_panel=_PANEL)(stage_command("retry"))
    app.command("compact", rich_help_panel=_PANEL)(_compact)
    app.command("write-subset", rich_help_panel=_PANEL)(_write_subset)


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
    output: Annotated[str, typer.Option(help="File or URL of the subset, .npy.")],
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
