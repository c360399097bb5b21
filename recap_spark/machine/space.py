"""Is there room for what a stage writes? Asked before it begins: a disk that fills up ends it hours later"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError

LEAST_FREE = 1 << 30
"""Bytes: what one unit's pictures, and the files that Spark sorts them in, take on a laptop."""


def check_free_space(spark: SparkSession, *, root: str) -> None:
    """Raise PlatformError where a disk of this machine that the lake or Spark writes to has less than
    LEAST_FREE free. An object store is asked nothing.
    """
    scratch = spark.sparkContext.getConf().get("spark.local.dir") or "/tmp"
    folders = {"lake.root": [root], "spark.local.dir": scratch.split(",")}
    for name, places in folders.items():
        for place, free in _free(places):
            if free < LEAST_FREE:
                raise PlatformError(
                    f"{name}: want {LEAST_FREE >> 20} MiB free at {place}, found {free >> 20} MiB"
                )


def _free(places: Iterable[str]) -> Iterable[tuple[str, int]]:
    for place in places:
        if ":/" not in place:
            folder = Path(place).resolve()
            there = next(path for path in (folder, *folder.parents) if path.exists())
            yield place, shutil.disk_usage(there).free
