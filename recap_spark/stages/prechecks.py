"""What one worker finds wanting is said before all of them begin"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from recap_spark.machine.device import task_profile
from recap_spark.machine.worker_daemon import models_imported


def ask_a_worker(
    spark: SparkSession,
    check: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    *,
    device: str,
    has_models: bool,
) -> None:
    """Let one worker, on such a device as the stage has, look at what its model wants; `has_models` where the
    stage's workers have models' libraries imported.

    Raises what it finds wanting, in seconds: units fail after four attempts, each of which loads weights.
    """
    looked: Any = check
    with models_imported(spark) if has_models else nullcontext():
        one = spark.range(1, numPartitions=1)
        one.mapInArrow(looked, "id bigint", profile=task_profile(spark, device)).collect()
