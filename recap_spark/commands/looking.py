"""Commands that read the lake and change nothing"""

from __future__ import annotations

from typing import Annotated

import typer

from recap_spark.commands.options import LAPTOP, Changes, Conf, opened

_PANEL = "Looking at the lake"


def add_to(app: typer.Typer) -> None:
    """Queries first."""
    app.command("sql", rich_help_panel=_PANEL)(_sql)
    app.command("fetch-report", rich_help_panel=_PANEL)(_fetch_report)


def _sql(query: str, conf: Conf = LAPTOP, changes: Changes = None) -> None:
    """Run one query over the lake's tables, views and functions, and print its rows. Changes nothing.

    Example: recap-spark sql "SELECT status, count(*) FROM images GROUP BY status"
    """
    with opened(conf, changes) as (lake, _, _):
        from recap_spark.report.queries import answered

        with answered(lake, query, command="sql", shows=True) as rows:
            rows.show(1000, truncate=False)


def _fetch_report(
    conf: Conf = LAPTOP,
    changes: Changes = None,
    hosts: Annotated[int, typer.Option(min=1, help="How many hosts to show.")] = 20,
) -> None:
    """Show how fetching ended by cause, host, top-level domain and day, with link rot and hash mismatches.

    Example: recap-spark fetch-report --hosts 50
    """
    with opened(conf, changes) as (lake, _, _):
        from rich.console import Console

        from recap_spark.report.fetching import show_fetching

        show_fetching(lake, hosts=hosts, console=Console())
