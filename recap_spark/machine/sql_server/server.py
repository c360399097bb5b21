"""Spark's Thrift server over a lake: beeline, JDBC and Python clients ask it in SQL"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from recap_spark.errors import InputError, PlatformError, SettingsError
from recap_spark.lake.connect import is_named
from recap_spark.lake.lake import Lake
from recap_spark.lake.statements import quoted
from recap_spark.machine.platforms import Platform, platform
from recap_spark.machine.session_end import unless_ended
from recap_spark.machine.sql_server.class_path import on_class_path
from recap_spark.machine.sql_server.read_only import refuse_writes
from recap_spark.settings.schema import Settings

_CLASS = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
_LOOKS_EVERY_S = 1.0


@dataclass(frozen=True)
class Address:
    """Where clients reach the server."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def is_open_to_others(self) -> bool:
        """Whether other machines may reach it."""
        try:
            return not ipaddress.ip_address(socket.gethostbyname(self.host)).is_loopback
        except socket.gaierror:  # an address of version 6
            return not ipaddress.ip_address(self.host).is_loopback


def server_conf(settings: Settings, address: Address) -> dict[str, str]:
    """What the session that serves is started with.

    Raises PlatformError where Spark is not ours to serve from, the port is taken or a JAR is absent,
    SettingsError where there is no schema for clients to use.
    """
    if settings.lake.namespace is None:
        raise SettingsError("lake.namespace: want a schema for SQL clients to USE, found null")
    here = platform(settings.session)
    if here is Platform.DATABRICKS or is_named(settings.session.conf):
        found = here if here is Platform.DATABRICKS else "Spark Connect"
        raise PlatformError(f"serve-sql: want a Spark whose JVM is this process's, found {found}")
    _check_is_free(address)
    thrift = "spark.hadoop.hive.server2.thrift"
    conf = {f"{thrift}.bind.host": address.host, f"{thrift}.port": str(address.port)}
    return conf | (on_class_path(settings.session) if here is Platform.LAPTOP else {})


@contextmanager
def serving(lake: Lake) -> Iterator[Any]:
    """Meanwhile clients are answered: Spark's own server, in whose sessions nothing can be written.

    Raises PlatformError where Spark has no such server, InputError where the lake has no tables yet.
    """
    namespace = str(lake.settings.namespace)
    if not lake.spark.catalog.databaseExists(quoted(namespace)):
        raise InputError(
            f"serve-sql: want the schema {namespace}, found none: run `recap-spark ingest` first"
        )
    start = _starter(lake.spark)
    refuse_writes(lake.spark)
    session: Any = lake.spark
    server = start(session._jsparkSession.sqlContext())
    try:
        yield server
    finally:
        with unless_ended():
            server.stop()


def await_end(server: Any) -> None:
    """Return when the server has ended by itself; signals end the wait."""
    while str(server.getServiceState()) == "STARTED":
        time.sleep(_LOOKS_EVERY_S)


def _starter(spark: SparkSession) -> Any:
    java: Any = spark.sparkContext._jvm
    try:
        java.java.lang.Thread.currentThread().getContextClassLoader().loadClass(_CLASS)
    except Py4JError as error:
        raise PlatformError(
            "serve-sql: want spark-hive-thriftserver among Spark's JARs, found none: take a Spark "
            "that was built with Hive"
        ) from error
    return java.org.apache.spark.sql.hive.thriftserver.HiveThriftServer2.startWithContext


def _check_is_free(address: Address) -> None:
    """Spark's server would end the JVM."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((address.host, address.port))
    except OSError as error:
        why = error.strerror or str(error)
        raise PlatformError(
            f"serve-sql: want a free port at an address of this machine, found {address}: {why}"
        ) from error
