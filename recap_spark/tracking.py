"""What MLflow keeps of every stage: its settings, what came of its rows, its speed, and the table versions it
read and wrote
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel

from recap_spark import __version__
from recap_spark.errors import PlatformError, RecapError, SettingsError
from recap_spark.settings.loading import flat
from recap_spark.settings.redaction import is_secret, public
from recap_spark.settings.schema import Settings
from recap_spark.settings.values import is_url

if TYPE_CHECKING:
    from recap_spark.lake.lake import Lake
    from recap_spark.tables import Table

_ANSWERS_WITHIN_S = 10.0
_LONGEST_TAG = 5000  # characters, as MLflow takes them


def tracking_uri(settings: Settings) -> str:
    """Where the runs are: conf's MLflow, else a SQLite file under a lake's root that is a folder."""
    if settings.tracking.uri:
        return settings.tracking.uri
    if is_url(settings.lake.root):
        found = f"null, and lake.root is {settings.lake.root}"
        raise SettingsError(f"tracking.uri: want an MLflow server, found {found}")
    return f"sqlite:///{Path(settings.lake.root).resolve()}/mlflow.db"


class Recorder:
    """Takes what a stage wants to be remembered."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def count(self, prefix: str, counts: Mapping[str, int]) -> None:
        self.metrics |= {f"{prefix}.{name}": float(count) for name, count in counts.items()}


@contextmanager
def stage_run(
    lake: Lake, settings: Settings, stage: str, *, reads: tuple[Table, ...], writes: tuple[Table, ...]
) -> Iterator[Recorder]:
    """One MLflow run around one stage.

    A stage that raises leaves a run that failed, one that is killed leaves it open.
    """
    import mlflow

    await_server(settings)
    # Migrations of a new SQLite store write dozens of lines that tell a user nothing.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _answering(settings):
        mlflow.set_tracking_uri(tracking_uri(settings))
        mlflow.set_experiment(settings.tracking.experiment)
        run = mlflow.start_run(run_name=stage, tags={"stage": stage, "recap_spark": __version__})
    with _answering(settings), run:
        mlflow.log_params(public_params(settings))
        mlflow.set_tags(_versions(lake, "input", reads))
        recorder, started = Recorder(), time.monotonic()
        try:
            yield recorder
        except RecapError as error:
            mlflow.set_tag("error", f"{type(error).__name__}: {error}"[:_LONGEST_TAG])
            raise
        mlflow.log_metric("seconds", time.monotonic() - started)
        mlflow.log_metrics(recorder.metrics)
        mlflow.set_tags(_versions(lake, "output", writes))


@contextmanager
def _answering(settings: Settings) -> Iterator[None]:
    """An MLflow that fails is said in one line, unless it fails while it is told what a stage failed by: then
    that is said. What a stage had committed by then stays.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if stage := next((each for each in _contexts(error) if isinstance(each, RecapError)), None):
            raise stage from None
        where = public(tracking_uri(settings))
        raise PlatformError(
            f"tracking.uri: want MLflow at {where} to answer, found: {error!s:.300}"
        ) from error


def _contexts(error: BaseException) -> Iterator[BaseException]:
    """The errors that were being handled when this one was raised, the last first."""
    while error.__context__ is not None:
        error = error.__context__
        yield error


_PORTS = {"http": 80, "https": 443, **dict.fromkeys(("socks4", "socks4a", "socks5", "socks5h"), 1080)}


def await_server(settings: Settings) -> None:
    """See that an MLflow that is a server, or the proxy before it, takes connections: its client would try
    for minutes.

    Raises PlatformError where it does not.
    """
    uri = tracking_uri(settings)
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    try:
        server, proxy = _address(uri), _proxy(uri)
    except ValueError:  # its words may have a proxy's password
        wanted = (
            "want a host, and a port that is a number if any, of the server and of the environment's proxy"
        )
        raise PlatformError(f"tracking.uri: {wanted}; found one without") from None
    host, port = proxy or server
    try:
        socket.create_connection((host, port), timeout=_ANSWERS_WITHIN_S).close()
    except OSError as error:
        wanted = f"want an MLflow server at {urlsplit(uri).scheme}://{server[0]}:{server[1]}"
        wanted += f" by the environment's proxy {host}:{port}" if proxy else ""
        raise PlatformError(f"tracking.uri: {wanted}, found: {error}") from error


def _address(url: str) -> tuple[str, int]:
    """Raises ValueError where the URL has no host, or a port that is none."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"no host in an address of the scheme {parts.scheme!r}")
    return parts.hostname, parts.port or _PORTS.get(parts.scheme, 80)


def _proxy(uri: str) -> tuple[str, int] | None:
    """The address of the proxy that MLflow's client, which is requests, takes by HTTP_PROXY, HTTPS_PROXY,
    ALL_PROXY and NO_PROXY; None where it takes none.
    """
    from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

    proxy = select_proxy(uri, get_environ_proxies(uri))
    return _address(prepend_scheme_if_needed(proxy, "http")) if proxy else None


def public_params(settings: BaseModel) -> dict[str, str]:
    """Settings as a run records them: nothing whose name speaks of a secret, and no more than MLflow holds of
    each.
    """
    shown = {path: value for path, value in flat(settings).items() if not is_secret(path)}
    return {path: public(value)[:500] for path, value in shown.items()}


def _versions(lake: Lake, side: str, tables: tuple[Table, ...]) -> dict[str, str]:
    return {f"{side}.{table.name}": str(lake.version(table)) for table in tables if lake.holds(table)}
