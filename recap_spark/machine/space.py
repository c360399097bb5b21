"""Is there room for what a stage writes? Asked before it begins: a disk that fills up ends it hours later"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError
from recap_spark.lake.connect import is_connect
from recap_spark.settings.values import is_url


def check_free_space(spark: SparkSession, *, root: str, least_bytes: int) -> None:
    """Raise PlatformError where a disk of this machine has less than `least_bytes` free: the lake's, and,
    where tasks run on this machine, that of Spark's own files. An object store is asked nothing.
    """
    for name, place in _places(spark, root):
        folder = Path(place).resolve()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < least_bytes:
            wanted = f"want {least_bytes >> 20} MiB free at {place} (session.least_free_bytes)"
            raise PlatformError(f"{name}: {wanted}, found {free >> 20} MiB")


def _places(spark: SparkSession, root: str) -> Iterator[tuple[str, str]]:
    if not is_url(root):
        yield "lake.root", root
    if is_connect(spark):
        return  # tasks run where the server says
    if str(spark.sparkContext.master).startswith("local"):
        scratch = os.environ.get("SPARK_LOCAL_DIRS") or spark.sparkContext.getConf().get("spark.local.dir")
        yield from (("spark.local.dir", place) for place in (scratch or "/tmp").split(","))
