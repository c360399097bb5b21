"""The SparkSession: built here on a laptop, taken as it is from a platform that brings its own."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError, SettingsError
from recap_spark.lake import connect
from recap_spark.machine.java import find_java
from recap_spark.machine.jvm_start import jvm_log
from recap_spark.machine.metastore import await_metastore, derby_url, follow_lake, write_defaults
from recap_spark.machine.platforms import Platform, is_ours, platform
from recap_spark.machine.session_end import stop
from recap_spark.settings.schema import LakeSettings, SessionSettings
from recap_spark.settings.values import is_url

log = logging.getLogger(__name__)

_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

# Delta's extension hides the parser that binds named parameters from Spark 4.1 on (delta-io/delta#7640);
# with this switch they bind by the older way. Sessions with a JVM of their own have it from the start, but
# for Databricks'; others get it only where they do not bind without it.
_BINDING = {"spark.sql.legacy.parameterSubstitution.constantsOnly": "true"}

# Columns of about as many values as rows: a dictionary of them is begun in every file and thrown away, and
# the smallest url or caption of a file tells no query anything, nor does the smallest of its few sources.
# Parquet takes a column's path behind the #. Of columns' sizes and levels Spark reads no statistics.
_FACES = "face_bboxes.list.element.list.element"
_UNORDERED = ("url", "sha256", "md5", "sha512", "exif", "org_caption", "caption", "raw", "bytes", _FACES)
_UNREPEATED = ("uid", "source_row", "clip_b32_similarity_score", "clip_l14_similarity_score", *_UNORDERED)
_UNPRUNED = (*_UNORDERED, "source_file")
_PARQUET = (
    {f"parquet.enable.dictionary#{column}": "false" for column in _UNREPEATED}
    | {f"parquet.column.statistics.enabled#{column}": "false" for column in _UNPRUNED}
    | {"parquet.size.statistics.enabled": "false"}
)

_JAVA_OPTIONS = "spark.driver.extraJavaOptions"

# Delta's own JARs and Unity Catalog's client, which Delta loads; Spark's distribution has all the rest.
_SHIPPED = (
    "org.apache.hadoop",
    "org.apache.logging.log4j",
    "org.apache.spark",
    "org.apache.parquet",
    "org.slf4j",
    "org.scala-lang",
    "org.antlr",
    "org.roaringbitmap",
    "org.xerial.snappy",
    "org.locationtech.jts",
    "com.fasterxml.jackson.core",
    "com.fasterxml.jackson.module",
    "com.fasterxml.jackson.datatype",
    "com.github.luben",
    "com.google.code.findbugs",
    "commons-pool",
    "io.airlift",
    "javax.annotation",
)
ALREADY_SHIPPED = ",".join(f"{group}:*" for group in _SHIPPED)
"""As spark-submit's --exclude-packages takes them."""


def start(settings: SessionSettings, lake: LakeSettings) -> SparkSession:
    """The session that the stages run in.

    Raises PlatformError where Java, Delta or the metastore is not to be had, and as `platform` does;
    SettingsError as `laptop_conf` does.
    """
    if connect.is_named(settings.conf):
        spark = connect.connected(_PARQUET | settings.conf)
    else:
        here = platform(settings)
        spark = _built(settings, lake, here) if is_ours() else _joined(settings, here)
        if here is not Platform.DATABRICKS:
            _check_delta(spark)
        for key, value in _PARQUET.items():
            if key not in settings.conf:
                spark.conf.set(key, value)
    _make_bind(spark)
    return spark


@contextmanager
def session(settings: SessionSettings, lake: LakeSettings) -> Iterator[SparkSession]:
    """The same, stopped at the end where this process has started it."""
    ours = is_ours()
    spark = start(settings, lake)
    try:
        yield spark
    finally:
        if ours:
            stop(spark)


@contextmanager
def session_conf(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile these settings hold: for a session that does nothing else."""
    before = {key: str(spark.conf.get(key)) for key in conf}
    for key, value in conf.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, value in before.items():
            spark.conf.set(key, value)


def laptop_conf(settings: SessionSettings, lake: LakeSettings) -> dict[str, str]:
    """Spark's settings for a session of our own: Delta, and a metastore that a later process finds again.

    Raises SettingsError where an embedded metastore would keep an object store's tables in a folder here.
    """
    conf = {"spark.app.name": settings.app_name} | _DELTA | _BINDING
    if settings.master:
        conf["spark.master"] = settings.master
    if settings.metastore:
        if is_url(lake.root):
            found = f"{settings.metastore}, and lake.root {lake.root}"
            raise SettingsError(
                f"session.metastore: want null where the lake is no folder of this machine, found {found}"
            )
        folder = Path(settings.metastore).resolve()
        conf["spark.sql.catalogImplementation"] = "hive"
        conf["spark.sql.warehouse.dir"] = str(Path(lake.root).resolve())
        conf["spark.hadoop.javax.jdo.option.ConnectionURL"] = f"{derby_url(folder)};create=true"
        # Derby writes its log where the process was started, unless told.
        options = f'"-Dderby.stream.error.file={folder}.log" {settings.conf.get(_JAVA_OPTIONS, "")}'
        return conf | settings.conf | {_JAVA_OPTIONS: options.strip()}
    return conf | settings.conf


def _built(settings: SessionSettings, lake: LakeSettings, here: Platform) -> SparkSession:
    """A session that this process starts, on this machine or on the cluster that conf names."""
    os.environ["JAVA_HOME"] = str(find_java().home)
    # Workers run the interpreter named here, and the system's own python3 where nothing is named.
    os.environ["PYSPARK_PYTHON"] = _workers_python(settings, here)
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if settings.metastore:
        Path(settings.metastore).parent.mkdir(parents=True, exist_ok=True)
        await_metastore(Path(settings.metastore), timeout_s=settings.start_timeout_s)
    builder = SparkSession.builder
    for key, value in laptop_conf(settings, lake).items():
        builder = builder.config(key, value)
    if here in (Platform.LAPTOP, Platform.CLUSTER) or settings.jars:  # others have JARs of Delta
        builder = with_delta(builder, jars=settings.jars)
    with jvm_log(settings.log):
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    if settings.metastore:
        follow_lake(spark, metastore=Path(settings.metastore), root=Path(lake.root))
        write_defaults(spark, Path(settings.metastore).parent / "spark-conf")
    return spark


def _workers_python(settings: SessionSettings, here: Platform) -> str:
    """On other machines the driver's own may not be there: what conf or the environment says comes first."""
    named = settings.conf.get("spark.pyspark.python")
    if here is not Platform.LAPTOP:
        named = named or os.environ.get("PYSPARK_PYTHON")
    return named or sys.executable


def with_delta(builder: SparkSession.Builder, *, jars: str | None) -> SparkSession.Builder:
    """A session that has these JARs of Delta, or those that Maven has of the version that is installed. Where
    none is installed, Spark's own settings may name some.
    """
    if jars:
        return builder.config("spark.jars", jars)
    try:
        from delta import configure_spark_with_delta_pip
    except ImportError:
        return builder
    configured: SparkSession.Builder = configure_spark_with_delta_pip(
        builder.config("spark.jars.excludes", ALREADY_SHIPPED)
    )
    return configured


def _joined(settings: SessionSettings, here: Platform) -> SparkSession:
    """The session that is there."""
    builder = SparkSession.builder.appName(settings.app_name)
    # Databricks has a Delta, and a catalog, of its own.
    conf = settings.conf if here is Platform.DATABRICKS else _DELTA | _BINDING | settings.conf
    for key, value in conf.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _check_delta(spark: SparkSession) -> None:
    java: Any = spark.sparkContext._jvm
    if not java.org.apache.spark.util.Utils.classIsLoadable(_DELTA["spark.sql.extensions"]):
        raise PlatformError(
            "want Delta Lake among Spark's JARs, found none: spark-submit --packages "
            "io.delta:delta-spark_2.13:VERSION, or --conf spark.jars=… where the platform has them"
        )


def _make_bind(spark: SparkSession) -> None:
    """See to it that named parameters bind in spark.sql: as the session is, or else by the older way.

    By Spark Connect's servers of Spark 4.2 with Delta's extension they bind by neither, but with the switch
    in EXECUTE IMMEDIATE. No stage wants either there, so that is said and stops nothing.
    """
    if _binding_fault(spark) is None:
        return
    for key, value in _BINDING.items():
        spark.conf.set(key, value)
    if fault := _binding_fault(spark):
        if connect.is_connect(spark):
            log.warning("args of spark.sql do not bind on this server: write EXECUTE IMMEDIATE '…' USING …")
            return
        (switch,) = _BINDING
        raise PlatformError(
            f"want named parameters to bind in spark.sql, found that they do not, with {switch} and without"
        ) from fault


def _binding_fault(spark: SparkSession) -> PySparkException | None:
    try:
        spark.sql("SELECT :value AS value", args={"value": 1}).collect()
    except PySparkException as error:
        return error
    return None
