"""What every command takes, and how every command ends

Imports nothing heavy: `recap-spark --help` imports all commands.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from recap_spark.errors import RecapError

if TYPE_CHECKING:
    from recap_spark.lake import Lake
    from recap_spark.progress import Progress
    from recap_spark.settings.schema import Settings

LAPTOP = [Path("conf/base.yml"), Path("conf/laptop.yml")]

Conf = Annotated[
    list[Path],
    typer.Option("--conf", help="Settings files; later ones override earlier ones.", envvar="RECAP_CONF"),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting that overrides all files, such as fetch.limits.deadline_s=5.",
    ),
]


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread as Python raises KeyboardInterrupt."""


@contextmanager
def said_plainly() -> Iterator[None]:
    """An error raised on purpose ends the command with its message alone, and so does being stopped."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except (RecapError, OSError) as error:
        typer.echo(_said(error), err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise _stopped("Ctrl-C", signal.SIGINT) from None
    except _Terminated:
        raise _stopped("SIGTERM", signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def opened(conf: list[Path], changes: list[str] | None) -> Iterator[tuple[Lake, Settings, Progress]]:
    """The lake that the settings name, in a Spark session that ends with the command."""
    import logging

    from rich.console import Console

    from recap_spark.settings.loading import load

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("py4j", "alembic", "mlflow", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with said_plainly():
        settings = load(*conf, changes=changes or ())
        master = settings.session.master or "as the platform says"
        typer.echo(f"starting Spark ({master}) …", err=True)
        from recap_spark.lake import Lake
        from recap_spark.machine.failures import said_in_one_line
        from recap_spark.machine.session import Platform, platform, start
        from recap_spark.progress import Progress

        spark = start(settings.session, settings.lake)
        try:
            with said_in_one_line():
                yield Lake(spark, settings.lake), settings, Progress(Console(stderr=True))
        finally:
            if platform() is Platform.LAPTOP:
                spark.stop()


def _said(error: RecapError | OSError) -> str:
    """Raises the error again where it is of no known kind."""
    if isinstance(error, OSError):
        from recap_spark.machine.failures import in_one_line

        known = in_one_line(error)
        if known is None:
            raise error
        error = known
    return f"{type(error).__name__}: {error}"


def _terminate(number: int, frame: FrameType | None) -> None:
    # As pyspark does at Ctrl-C: or the units at work would be waited for.
    pyspark = sys.modules.get("pyspark")
    if pyspark is not None and (context := pyspark.SparkContext._active_spark_context) is not None:
        context.cancelAllJobs()
    raise _Terminated


def _stopped(by: str, number: signal.Signals) -> typer.Exit:
    kept = "what is committed is kept; run the same command again to go on"
    typer.echo(f"stopped by {by}: {kept}", err=True)
    return typer.Exit(128 + number)
