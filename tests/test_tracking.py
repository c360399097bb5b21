"""MLflow away costs a stage one line, before it begins."""

from __future__ import annotations

import socket

import pytest

from recap_spark.errors import PlatformError
from recap_spark.tracking import await_server


def tracked(settings, uri):
    return settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"uri": uri})})


def test_a_server_that_takes_no_connection_is_said_with_its_address(settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        await_server(tracked(settings, f"http://127.0.0.1:{port}"))
    away = f"http://user:secret@127.0.0.1:{port}/mlflow"
    with pytest.raises(PlatformError, match=rf"want an MLflow server at http://127\.0\.0\.1:{port}, found: "):
        await_server(tracked(settings, away))


@pytest.mark.parametrize("uri", [None, "sqlite:////tmp/mlflow.db", "databricks"])
def test_what_is_no_server_of_its_own_is_not_asked(settings, uri):
    await_server(tracked(settings, uri))
