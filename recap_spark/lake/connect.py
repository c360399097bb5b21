"""Spark Connect: sessions whose JVM is a server's, which Databricks' standard access mode gives

Such a session has no SparkContext, no gateway to Java and no resource profiles; the client may be without
py4j.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Mapping
from urllib.parse import urlsplit

from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError, SettingsError
from recap_spark.lake.spark_errors import SPARK_ERRORS, first_line

_MODULE = "pyspark.sql.connect.session"
_RAISED: tuple[type[Exception], ...] = (*SPARK_ERRORS, ImportError)
_URL = "spark.remote"
_VARIABLE = "SPARK_REMOTE"
_NAMED_BY = {_VARIABLE, "SPARK_CONNECT_MODE_ENABLED"}  # the second one by platforms, and by pyspark itself
_PORT = 15002  # of an address that names none
_ANSWERS_WITHIN_S = 10.0
_ERRORS_TOLD = "SQLQueryContextLogger"  # pyspark's, of errors that it raises all the same


def is_connect(spark: SparkSession) -> bool:
    return type(spark).__module__.startswith("pyspark.sql.connect.")


def is_named(conf: Mapping[str, str]) -> bool:
    """Whether a session that is asked for with this conf is one of Spark Connect."""
    return _URL in conf or bool(os.environ.keys() & _NAMED_BY) or active_session() is not None


def active_session() -> SparkSession | None:
    """The Spark Connect session of this process, of whichever thread."""
    module = sys.modules.get(_MODULE)
    if module is None:
        return None
    found: SparkSession | None = (
        module.SparkSession.getActiveSession() or module.SparkSession._default_session
    )
    return found


def connected(conf: Mapping[str, str]) -> SparkSession:
    """The session that is there, or one with the server that `spark.remote` or SPARK_REMOTE names; of conf
    it has what a session can change, the rest is the server's.

    Raises SettingsError for a secret in conf, PlatformError where no server answers as Spark Connect.
    """
    if "token=" in conf.get(_URL, ""):
        raise SettingsError(
            "session.conf.spark.remote: want no token in a settings file, found one: put the "
            "whole address into the environment as SPARK_REMOTE"
        )
    there = active_session()
    if there is None:
        _check_reach(conf.get(_URL) or os.environ.get(_VARIABLE, ""))
    builder = SparkSession.builder if there is None else type(there).builder
    logging.getLogger(_ERRORS_TOLD).setLevel(logging.CRITICAL)
    for key, value in conf.items():
        builder = builder.config(key, value)
    try:
        with warnings.catch_warnings(action="ignore"):  # one for each setting that is the server's
            spark = builder.getOrCreate()
        spark.version  # noqa: B018  asks the server
    except _RAISED as error:
        raise PlatformError(f"want a session of Spark Connect, found: {first_line(error)}") from error
    return spark


def _check_reach(address: str) -> None:
    """Raises PlatformError where nobody listens: pyspark's client would try again for ten minutes, and cannot
    be interrupted. What it reaches by a proxy is not asked.
    """
    if not address.startswith("sc://") or os.environ.keys() & {"grpc_proxy", "https_proxy", "http_proxy"}:
        return
    try:
        server = urlsplit(address)
        socket.create_connection((server.hostname, server.port or _PORT), _ANSWERS_WITHIN_S).close()
    except (OSError, ValueError) as error:  # never with the address, which may hold a token
        raise PlatformError(f"want a server of Spark Connect at SPARK_REMOTE, found: {error}") from None


def running_conf(spark: SparkSession) -> dict[str, str]:
    """Every setting of the running session, those of its cluster among them."""
    if is_connect(spark):
        return dict(spark.conf.getAll)
    return dict(spark.sparkContext.getConf().getAll())
