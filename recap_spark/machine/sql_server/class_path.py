"""Delta's JARs → where the threads that serve SQL clients find them

Hive gives each client's session a class loader above which is the JVM's class path alone: what `spark.jars`
names the first statement may see and a later one not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from pyspark import SparkConf
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError
from recap_spark.machine.java import find_java
from recap_spark.machine.jvm_start import jvm_log
from recap_spark.machine.session import with_delta
from recap_spark.settings.schema import SessionSettings

_CLASS_PATH = "spark.driver.extraClassPath"


def on_class_path(settings: SessionSettings) -> dict[str, str]:
    """The setting with which a session has Delta's JARs on its JVM's class path.

    Raises PlatformError where one is not there or not to be had.
    """
    paths = [_path(jar) for jar in (settings.jars or _resolved(settings)).split(",") if jar.strip()]
    if absent := [str(path) for path in paths if not path.is_file()]:
        raise PlatformError(f"session.jars: want files of this machine, found none at {', '.join(absent)}")
    before = settings.conf.get(_CLASS_PATH)
    return {_CLASS_PATH: os.pathsep.join([*map(str, paths), *([before] if before else [])])}


def _resolved(settings: SessionSettings) -> str:
    """What Maven coordinates stand for: spark-submit looks for them before it starts anything of Spark."""
    os.environ["JAVA_HOME"] = str(find_java().home)
    builder = with_delta(SparkSession.Builder(), jars=None)
    asked = settings.conf | builder._options
    launch: Any = launch_gateway
    with jvm_log(settings.log):
        gateway = launch(conf=SparkConf(loadDefaults=False).setAll(list(asked.items())))
    try:
        return str(gateway.jvm.org.apache.spark.SparkConf().get("spark.jars"))
    finally:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()


def _path(jar: str) -> Path:
    """Spark names a file by a path or by a URI."""
    parsed = urlparse(jar.strip())
    return Path(unquote(parsed.path)) if parsed.scheme == "file" else Path(jar.strip())
