"""The embedded metastore of a laptop's lake: one process at a time, and it goes where its lake goes

A metastore keeps each table's place as an absolute path. Where it lies inside its lake, the lake can be moved
and copied as a folder: the places are made those of the folder before anybody asks for them.
"""

from __future__ import annotations

import fcntl
import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError
from recap_spark.lake.upkeep import mark_of

log = logging.getLogger(__name__)

# Hive's tables that keep places (hive-schema-2.3.0.derby.sql). A Delta table's is a serde parameter as well.
_PLACES = (("DBS", "DB_LOCATION_URI"), ("SDS", "LOCATION"), ("SERDE_PARAMS", "PARAM_VALUE"))
_MARKS = ("DATABASE_PARAMS", "PARAM_VALUE")  # what a schema says of itself
_NO_DATABASE = "XJ004"  # SQLSTATE of Derby


def derby_url(metastore: Path) -> str:
    """How Java names the metastore in a folder.

    Raises PlatformError for a path with a semicolon, after which Derby reads attributes, or with a colon,
    before which it reads the name of a store.
    """
    if set(";:") & set(str(metastore.resolve())):
        found = str(metastore.resolve())
        raise PlatformError(f"session.metastore: want a path without ; and : for Derby, found {found}")
    return f"jdbc:derby:;databaseName={metastore.resolve()}"


def await_metastore(folder: Path, *, timeout_s: float) -> None:
    """Wait until no other process has the embedded metastore open: a killed driver's JVM lives some seconds
    longer.
    """
    lock = folder / "dbex.lck"
    deadline = time.monotonic() + timeout_s
    while lock.exists() and _is_locked(lock):
        if time.monotonic() > deadline:
            raise PlatformError(
                f"want the metastore {folder} for this process alone, found another that has it open: "
                "wait for that job's end, or stop it"
            )
        time.sleep(0.2)


def _is_locked(path: Path) -> bool:
    try:
        file = path.open("r+b")
    except FileNotFoundError:  # let go of since it was seen
        return False
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.lockf(file, fcntl.LOCK_UN)
        return False


def follow_lake(spark: SparkSession, *, metastore: Path, root: Path) -> None:
    """Give the tables their places under `root` where the lake was moved or copied since it was used last.

    Call it before the session's catalog is used. Raises PlatformError where the metastore lies outside of
    the lake and keeps the tables of another one: nobody can tell whether that was moved.
    """
    from py4j.protocol import Py4JJavaError  # which a client of Spark Connect may be without

    now = root.resolve()
    java: Any = spark.sparkContext._jvm
    try:
        connection = java.java.sql.DriverManager.getConnection(derby_url(metastore))
    except Py4JJavaError as error:
        if str(error.java_exception.getSQLState()) == _NO_DATABASE:
            return
        raise PlatformError(
            f"metastore {metastore}: want to read it, found: {error.java_exception}"
        ) from error
    try:
        before = _warehouse(connection)
        if before is None or before == now:
            return
        if not metastore.resolve().is_relative_to(now):
            raise PlatformError(
                f"session.metastore: want one of the lake {now}, found {metastore}, which keeps the tables "
                f'of the lake {before}: write "{{lake}}/metastore", so that each lake has its own'
            )
        _move(connection, before, now)
    finally:
        connection.close()
    log.info("the lake was at %s and is now at %s: its tables are those of this folder", before, now)


def _warehouse(connection: Any) -> Path | None:
    """The lake's root as the metastore knows it."""
    found = connection.createStatement().executeQuery(
        "SELECT DB_LOCATION_URI FROM DBS WHERE NAME = 'default'"
    )
    return Path(str(found.getString(1)).removeprefix("file:")) if found.next() else None


def _move(connection: Any, before: Path, now: Path) -> None:
    connection.setAutoCommit(False)
    for table, column in _PLACES:
        # Some are kept as they are spelled, some as a URI.
        for old, new in ((str(before), str(now)), (quote(str(before)), quote(str(now)))):
            _replace(connection, table, column, f"file:{old}", f"file:{new}")
    _replace(connection, *_MARKS, mark_of(str(before)), mark_of(str(now)))
    connection.commit()


def _replace(connection: Any, table: str, column: str, before: str, now: str) -> None:
    """Replace a path, and the paths below it."""
    length = len(before)
    begins = f"SUBSTR({column}, 1, {length}) = ?"
    is_whole = f"(LENGTH({column}) = {length} OR SUBSTR({column}, {length + 1}, 1) = '/')"
    statement = connection.prepareStatement(
        f"UPDATE {table} SET {column} = CAST(? AS VARCHAR(4000)) || SUBSTR({column}, {length + 1}) "
        f"WHERE LENGTH({column}) >= {length} AND {begins} AND {is_whole}"
    )
    statement.setString(1, now)
    statement.setString(2, before)
    statement.executeUpdate()
    statement.close()


def write_defaults(spark: SparkSession, folder: Path) -> None:
    """Leave a SPARK_CONF_DIR with which plain spark-sql, or any other Spark, sees this lake."""
    kept = [
        "spark.jars",
        "spark.sql.extensions",
        "spark.sql.catalog.spark_catalog",
        "spark.sql.catalogImplementation",
        "spark.sql.warehouse.dir",
        "spark.hadoop.javax.jdo.option.ConnectionURL",
        "spark.sql.shuffle.partitions",
        "spark.databricks.delta.snapshotPartitions",
    ]
    conf = spark.sparkContext.getConf()
    lines = [f"{key} {value}" for key in kept if (value := conf.get(key))]
    folder.mkdir(exist_ok=True)
    (folder / "spark-defaults.conf").write_text("\n".join(lines) + "\n")
