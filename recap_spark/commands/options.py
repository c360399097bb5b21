"""What every command takes, and how every command ends

Imports nothing heavy: `recap-spark --help` imports all commands.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recap_spark.errors import RecapError
from recap_spark.extras import missing

if TYPE_CHECKING:
    from pyspark import SparkContext

    from recap_spark.lake.lake import Lake
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


_STOPS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_CANCELLED_WITHIN_S = 10.0
_KEPT = "what is committed is kept; run the same command again to go on"


class _Stopped(BaseException):
    """A signal to stop, raised in the main thread as Python raises KeyboardInterrupt."""

    def __init__(self, number: signal.Signals, *, confirmed: bool) -> None:
        super().__init__()
        self.number = number
        self.confirmed = confirmed  # whether Spark says that its jobs are cancelled


@contextmanager
def said_plainly(*, stopped: str = _KEPT) -> Iterator[None]:
    """An error raised on purpose ends the command with its message alone, and so does being stopped."""
    before = {number: signal.getsignal(number) for number in _STOPS}
    _install_stop_handlers()
    try:
        yield
    except (RecapError, OSError, ModuleNotFoundError) as error:
        typer.echo(_said(error), err=True)
        raise typer.Exit(1) from error
    except _Stopped as stop:
        raise _said_stop(stop.number, stopped, confirmed=stop.confirmed) from None
    except KeyboardInterrupt:  # by pyspark's handler, which is in place while a session starts
        raise _said_stop(signal.SIGINT, stopped, confirmed=True) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def opened(
    conf: list[Path],
    changes: list[str] | None,
    *,
    spark_conf: Callable[[Settings], Mapping[str, str]] | None = None,
    stopped: str = _KEPT,
) -> Iterator[tuple[Lake, Settings, Progress]]:
    """The lake that the settings name, in a Spark session that ends with the command.

    `spark_conf` has settings for the session besides those of conf; `stopped` is said after a signal.
    """
    import logging

    from rich.console import Console

    from recap_spark.settings.loading import load

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("py4j", "alembic", "mlflow", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with said_plainly(stopped=stopped):
        settings = load(*conf, changes=changes or ())
        if spark_conf is not None:
            settings = _with_spark_conf(settings, spark_conf(settings))
        master = settings.session.master or "as the platform says"
        typer.echo(f"starting Spark ({master}) …", err=True)
        from recap_spark.lake.lake import Lake
        from recap_spark.machine.failures import said_in_one_line
        from recap_spark.machine.session import session
        from recap_spark.progress import Progress

        with session(settings.session, settings.lake) as spark:
            _install_stop_handlers()  # pyspark has put its own in the place of Ctrl-C's
            with said_in_one_line():
                yield Lake(spark, settings.lake), settings, Progress(Console(stderr=True))


def _said(error: RecapError | OSError | ModuleNotFoundError) -> str:
    """Raises the error again where it is of no known kind."""
    if isinstance(error, ModuleNotFoundError):
        absent = missing(error.name)
        if absent is None:
            raise error
        error = absent
    if isinstance(error, OSError):
        from recap_spark.machine.failures import in_one_line

        known = in_one_line(error)
        if known is None:
            raise error
        error = known
    return f"{type(error).__name__}: {error}"


def _with_spark_conf(settings: Settings, conf: Mapping[str, str]) -> Settings:
    session = settings.session.model_copy(update={"conf": settings.session.conf | dict(conf)})
    return settings.model_copy(update={"session": session})


def _said_stop(number: signal.Signals, kept: str, *, confirmed: bool) -> typer.Exit:
    if not confirmed:
        kept = f"Spark has not confirmed within {_CANCELLED_WITHIN_S:g} s that its jobs are cancelled; {kept}"
    typer.echo(f"stopped by {_STOPS[number]}: {kept}", err=True)
    return typer.Exit(128 + number)


def _install_stop_handlers() -> None:
    for number in _STOPS:
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    """Cancel what runs, or the units at work would be waited for, and raise _Stopped."""
    confirmed = False
    try:
        confirmed = _cancel_jobs(frame)
    finally:
        raise _Stopped(signal.Signals(number), confirmed=confirmed)  # whatever the cancelling raised


def _cancel_jobs(frame: FrameType | None) -> bool:
    """Whether no job is left, by Spark's own word.

    This thread may be waiting for an answer of the JVM, and has one connection to it: so another one cancels,
    and the connection is given up, or the answer would be taken for that to the next call. pyspark's own
    handler of Ctrl-C fails at both.
    """
    pyspark = sys.modules.get("pyspark")
    context = pyspark and getattr(getattr(pyspark, "SparkContext", None), "_active_spark_context", None)
    cancel = partial(_cancel_all, context) if context else _interrupt()
    if cancel is None:
        return True
    canceller = threading.Thread(target=cancel, daemon=True)
    canceller.start()
    canceller.join(_CANCELLED_WITHIN_S)
    if context:
        _give_up_connection(context, frame)
    return not canceller.is_alive()


def _interrupt() -> Callable[[], object] | None:
    """What stops all that the Spark Connect session of this process has begun."""
    connect = sys.modules.get("recap_spark.lake.connect")
    session = connect and connect.active_session()
    return session.interruptAll if session else None


def _give_up_connection(context: Any, frame: FrameType | None) -> None:
    # Without pinned threads (PYSPARK_PIN_THREAD=false) connections are drawn from a pool at each call.
    client = context._gateway._gateway_client
    connection = getattr(client, "get_thread_connection", lambda: None)()
    if connection is not None and _awaits_an_answer(frame):
        connection.close()


def _cancel_all(context: SparkContext) -> None:
    from recap_spark.machine.session_end import unless_ended

    with unless_ended():
        context.cancelAllJobs()


def _awaits_an_answer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("py4j."):
            return True
        frame = frame.f_back
    return False
