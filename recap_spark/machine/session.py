"""The SparkSession: built here on a laptop, taken as it is from a platform that brings its own"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import pyspark
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError, SettingsError
from recap_spark.lake import connect
from recap_spark.machine import own_session
from recap_spark.settings.schema import LakeSettings, SessionSettings

log = logging.getLogger(__name__)


class Platform(StrEnum):
    LAPTOP = "laptop"  # no Spark but the one that is built here
    DATABRICKS = "databricks"
    EMR = "emr"
    DATAPROC = "dataproc"
    SUBMITTED = "spark-submit"
    OTHER = "a Spark of its own"  # a session that runs already, or a spark-defaults.conf with a master


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


def platform() -> Platform:
    """Where this process runs, by the marks that the platforms leave in the environment, by spark-submit's
    own, by the session that runs already or the master that Spark's own settings name.
    """
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return Platform.DATABRICKS
    if "DATAPROC_IMAGE_VERSION" in os.environ or Path("/etc/google-dataproc").exists():
        return Platform.DATAPROC
    if "EMR_CLUSTER_ID" in os.environ or Path("/usr/share/aws/delta/lib").exists():
        return Platform.EMR
    # spark-submit starts the JVM first and tells Python its port.
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return Platform.SUBMITTED
    running = _running()
    if running is not None:
        return Platform.LAPTOP if own_session.is_own(running) else Platform.OTHER
    return Platform.OTHER if _default_master() else Platform.LAPTOP


def start(settings: SessionSettings, lake: LakeSettings) -> SparkSession:
    """The session that the stages run in: the one that is there, else the platform's, else one of our own.

    Raises PlatformError where Java, Delta or the metastore is not to be had, SettingsError where conf names
    no master and no platform does, or both do.
    """
    if connect.is_named(settings.conf):
        spark = connect.connected(_PARQUET | settings.conf)
    else:
        spark = _classic(settings, lake)
        for key, value in _PARQUET.items():
            if key not in settings.conf:
                spark.conf.set(key, value)
    _make_bind(spark)
    return spark


@contextmanager
def session(settings: SessionSettings, lake: LakeSettings) -> Iterator[SparkSession]:
    """The same, and at the end one that was built or connected for this is stopped; a platform's goes on."""
    is_there = connect.active_session() is not None or _running() is not None
    spark = start(settings, lake)
    try:
        yield spark
    finally:
        is_client = connect.is_connect(spark) and platform() is not Platform.DATABRICKS
        if not is_there and (is_client or own_session.is_own(spark)):
            spark.stop()


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


def _classic(settings: SessionSettings, lake: LakeSettings) -> SparkSession:
    here = platform()
    if here is not Platform.LAPTOP:
        _check_is_taken_as_it_is(settings, here)
        return _configured(settings, here).getOrCreate()
    if (running := _running()) is not None:
        return running
    if settings.master is None:
        wanted = "want a master, such as that of --conf laptop, or a start by spark-submit"
        raise SettingsError(f"session.master: {wanted}; found null, and no Spark that names one")
    return own_session.build(settings, lake)


def _check_is_taken_as_it_is(settings: SessionSettings, here: Platform) -> None:
    """A laptop's settings on a cluster would make tables in a folder of the driver."""
    laptops = {"master": settings.master, "metastore": settings.metastore, "jars": settings.jars}
    for name, found in laptops.items():
        if found is not None:
            remedy = "name your own files with --conf, without laptop"
            raise SettingsError(f"session.{name}: want null on {here}, found {found}: {remedy}")


def _configured(settings: SessionSettings, here: Platform) -> SparkSession.Builder:
    builder = SparkSession.builder.appName(settings.app_name)
    # Databricks has a Delta, and a catalog, of its own.
    delta = {} if here is Platform.DATABRICKS else own_session.DELTA
    for key, value in (delta | settings.conf).items():
        builder = builder.config(key, value)
    return builder


def _running() -> SparkSession | None:
    """The session of this process with a JVM of its own, whoever built it."""
    context = getattr(getattr(pyspark, "SparkContext", None), "_active_spark_context", None)
    return SparkSession.builder.getOrCreate() if context is not None else None


def _default_master() -> str | None:
    """What spark-defaults.conf says, where this process would find one.

    https://spark.apache.org/docs/latest/configuration.html#dynamically-loading-spark-properties
    """
    home = os.environ.get("SPARK_HOME")
    folder = os.environ.get("SPARK_CONF_DIR") or (home and f"{home}/conf")
    file = Path(folder or "", "spark-defaults.conf")
    if not folder or not file.is_file():
        return None
    pairs = (line.replace("=", " ", 1).split(None, 1) for line in file.read_text().splitlines())
    found = [pair[1].strip() for pair in pairs if len(pair) == 2 and pair[0] == "spark.master"]
    return found[-1] if found else None


def _make_bind(spark: SparkSession) -> None:
    """See to it that named parameters bind in spark.sql: as the session is, or else by the older way.

    By Spark Connect's servers of Spark 4.2 with Delta's extension they bind by neither, but with the switch
    in EXECUTE IMMEDIATE. No stage wants either there, so that is said and stops nothing.
    """
    if _binding_fault(spark) is None:
        return
    for key, value in own_session.BINDING.items():
        spark.conf.set(key, value)
    if fault := _binding_fault(spark):
        if connect.is_connect(spark):
            log.warning("args of spark.sql do not bind on this server: write EXECUTE IMMEDIATE '…' USING …")
            return
        (switch,) = own_session.BINDING
        raise PlatformError(
            f"want named parameters to bind in spark.sql, found that they do not, with {switch} and without"
        ) from fault


def _binding_fault(spark: SparkSession) -> PySparkException | None:
    try:
        spark.sql("SELECT :value AS value", args={"value": 1}).collect()
    except PySparkException as error:
        return error
    return None
