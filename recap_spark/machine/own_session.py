"""A session that recap_spark builds itself: on a laptop, or with the master that conf names"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from recap_spark.errors import SettingsError
from recap_spark.machine.java import find_java
from recap_spark.machine.metastore import await_metastore, derby_url, follow_lake, write_defaults
from recap_spark.machine.start_failure import jvm_log
from recap_spark.settings.schema import LakeSettings, SessionSettings
from recap_spark.settings.values import is_url

DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

# Delta's extension hides the parser that binds named parameters from Spark 4.1 on (delta-io/delta#7640);
# with this switch they bind by the older way.
BINDING = {"spark.sql.legacy.parameterSubstitution.constantsOnly": "true"}

_MARK = "spark.recap_spark.own"  # a setting of sessions that were built here
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
# Delta's own JARs and Unity Catalog's client, which Delta loads; Spark's distribution has all the rest.
_ALREADY_SHIPPED = (
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


def is_own(spark: SparkSession) -> bool:
    """Whether the session was built here, so that it is ours to stop."""
    return spark.conf.get(_MARK, None) == "true"


def build(settings: SessionSettings, lake: LakeSettings) -> SparkSession:
    """The session, and the metastore of a laptop's lake made to fit it.

    Raises PlatformError where Java, Delta or the metastore is not to be had, SettingsError as `own_conf`
    does.
    """
    os.environ["JAVA_HOME"] = str(find_java().home)
    # Workers run the interpreter named here, and the system's own python3 where nothing is named.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if settings.metastore:
        Path(settings.metastore).parent.mkdir(parents=True, exist_ok=True)
        await_metastore(Path(settings.metastore), timeout_s=settings.start_timeout_s)
    builder = SparkSession.builder
    for key, value in own_conf(settings, lake).items():
        builder = builder.config(key, value)
    if settings.jars:
        builder = builder.config("spark.jars", settings.jars)
    else:
        from delta import configure_spark_with_delta_pip

        excluded = ",".join(f"{group}:*" for group in _ALREADY_SHIPPED)
        builder = configure_spark_with_delta_pip(builder.config("spark.jars.excludes", excluded))
    with jvm_log(settings.log):
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    if settings.metastore:
        follow_lake(spark, metastore=Path(settings.metastore), root=Path(lake.root))
        write_defaults(spark, Path(settings.metastore).parent / "spark-conf")
    return spark


def own_conf(settings: SessionSettings, lake: LakeSettings) -> dict[str, str]:
    """Spark's settings for a session of our own: Delta, and a metastore that a later process finds again.

    Raises SettingsError where an embedded metastore would keep an object store's tables in a folder here.
    """
    conf = {"spark.app.name": settings.app_name} | DELTA | BINDING | {_MARK: "true"}
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
