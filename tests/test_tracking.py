"""MLflow away costs a stage one line, before it begins."""

from __future__ import annotations

import socket

import mlflow
import pytest

from recap_spark.errors import PlatformError, WeightsError
from recap_spark.tracking import await_server, stage_run


def tracked(settings, uri):
    return settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"uri": uri})})


def test_a_server_that_takes_no_connection_is_said_with_its_address(settings, proxies):
    proxies()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        await_server(tracked(settings, f"http://127.0.0.1:{port}"))
    away = f"http://user:secret@127.0.0.1:{port}/mlflow"
    with pytest.raises(PlatformError, match=rf"want an MLflow server at http://127\.0\.0\.1:{port}, found: "):
        await_server(tracked(settings, away))


@pytest.fixture
def proxies(monkeypatch):
    """Sets the environment's proxies, those that are named and no others."""

    def proxies(**addresses):
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, address in addresses.items():
            monkeypatch.setenv(name, address)

    return proxies


def test_behind_a_proxy_it_is_the_proxy_that_has_to_take_connections(settings, proxies):
    beyond = tracked(settings, "http://mlflow.invalid:5000")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]
        for address in (f"http://user:secret@127.0.0.1:{port}", f"127.0.0.1:{port}"):
            proxies(HTTP_PROXY=address)
            await_server(beyond)
    said = rf"at http://mlflow\.invalid:5000 by the environment's proxy 127\.0\.0\.1:{port}, found: "
    with pytest.raises(PlatformError, match=said):
        await_server(beyond)
    for name in ("https_proxy", "HTTP_PROXY"):
        proxies(**{name: f"http://127.0.0.1:{port}", "NO_PROXY": "example.test,.invalid"})
        with pytest.raises(PlatformError, match=r"at http://mlflow\.invalid:5000, found: "):
            await_server(beyond)


def test_an_address_that_is_none_is_said_in_one_line_without_a_proxy_s_password(settings, proxies):
    for uri, proxy in (
        ("http://mlflow.invalid:abc", ""),
        ("http://:5000", ""),
        ("http://mlflow.invalid:5000", "http://user:secret@proxy.invalid:99999"),
        ("http://mlflow.invalid:5000", "http://user:secret@proxy.invalid:abc"),
    ):
        proxies(HTTP_PROXY=proxy)
        with pytest.raises(PlatformError, match=r"tracking\.uri: want a host") as raised:
            await_server(tracked(settings, uri))
        assert "secret" not in str(raised.value)


@pytest.fixture
def _same_server_after():
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("_same_server_after")
def test_an_mlflow_that_is_away_hides_no_error_of_the_stage(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # made in milliseconds, and SQLite in seconds
    here = tracked(settings, f"file:{tmp_path}/runs")

    def run(stage):
        with stage_run(None, here, "caption", reads=(), writes=()):
            mlflow.set_tracking_uri("http://127.0.0.1:9")
            stage()

    def fail():
        raise WeightsError("w.safetensors: want 3 bytes, found 2")

    with pytest.raises(WeightsError, match="want 3 bytes, found 2"):
        run(fail)
    with pytest.raises(PlatformError, match=r"tracking\.uri: want MLflow at .* to answer"):
        run(lambda: None)
    assert mlflow.active_run() is None


@pytest.mark.parametrize("uri", [None, "sqlite:////tmp/mlflow.db", "databricks"])
def test_what_is_no_server_of_its_own_is_not_asked(settings, uri):
    await_server(tracked(settings, uri))
