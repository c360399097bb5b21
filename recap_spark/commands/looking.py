"""Commands that read the lake and change nothing"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recap_spark.commands.options import LAPTOP, Changes, Conf, opened, said_plainly
from recap_spark.report.rows import RowFormat, write_rows

if TYPE_CHECKING:
    from recap_spark.settings.schema import Settings

_PANEL = "Looking at the lake"


def add_to(app: typer.Typer) -> None:
    """How far all is first."""
    app.command("status", rich_help_panel=_PANEL)(_status)
    app.command("sql", rich_help_panel=_PANEL)(_sql)
    app.command("serve-sql", rich_help_panel=_PANEL)(_serve_sql)
    app.command("fetch-report", rich_help_panel=_PANEL)(_fetch_report)


def _status(conf: Conf = LAPTOP, changes: Changes = None) -> None:
    """How far each stage is, from the tables' logs alone: no Spark is started, no running job disturbed.

    Example: recap-spark status --conf conf/base.yml --conf mine.yml
    """
    with said_plainly():
        from rich.console import Console

        from recap_spark.report.status import show_status
        from recap_spark.settings.loading import load

        show_status(load(*conf, changes=changes or ()), Console())


def _sql(
    query: str,
    conf: Conf = LAPTOP,
    changes: Changes = None,
    form: Annotated[RowFormat, typer.Option("--format", help="How rows are printed.")] = RowFormat.TABLE,
    limit: Annotated[int, typer.Option(min=0, help="Rows printed at most; 0 prints all.")] = 1000,
) -> None:
    """Run one query over the lake's tables, views and functions, and print its rows, binary values as their
    size. Changes nothing.

    Example: recap-spark sql "SELECT status, count(*) FROM images GROUP BY status" --format csv
    """
    with opened(conf, changes) as (lake, _, _):
        import sys
        from itertools import islice

        from recap_spark.report.queries import answered, printable

        with answered(lake, query, command="sql", shows=True) as rows:
            shown = printable(rows)
            found = iter((shown.limit(limit + 1) if limit else shown).toLocalIterator())
            write_rows(rows.columns, islice(found, limit or None), form=form, out=sys.stdout)
            is_cut = next(found, None) is not None
        if is_cut:
            typer.echo(f"sql: only the first {limit} rows are printed; --limit 0 prints all", err=True)


def _serve_sql(
    conf: Conf = LAPTOP,
    changes: Changes = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 10000,
) -> None:
    """Serve the lake to SQL clients, beeline, JDBC and Python, until Ctrl-C. Nothing can be written through
    it. It asks for no password: who reaches the address reads the lake.

    Example: recap-spark serve-sql --port 10015
    """

    def conf_at(settings: Settings) -> dict[str, str]:
        from recap_spark.machine.sql_server.server import Address, server_conf

        return server_conf(settings, Address(host, port))

    with opened(conf, changes, spark_conf=conf_at, stopped="clients are no longer answered") as (lake, _, _):
        from recap_spark.machine.sql_server.server import Address, await_end, serving

        address = Address(host, port)
        if address.is_open_to_others():
            typer.echo(
                f"serve-sql: whoever reaches {address} reads the whole lake, without a password", err=True
            )
        with serving(lake) as server:
            typer.echo(
                f"serving, read only, jdbc:hive2://{address}/{lake.settings.namespace}; Ctrl-C ends it"
            )
            await_end(server)
    raise typer.Exit(1)  # it ended by itself


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
