"""What one worker finds wanting is said before all of them begin"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

import pyarrow as pa
from pyspark.sql import SparkSession

from recap_spark.machine.device import task_profile


def ask_a_worker(
    spark: SparkSession,
    check: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    *,
    device: str,
    libraries: AbstractContextManager[None],
) -> None:
    """Let one worker, on such a device as the stage has, look at what its model wants; `libraries` is the
    context in which the stage's own workers are asked for: what they have imported.

    Raises what it finds wanting, in seconds: units fail after four attempts, each of which loads weights.
    """
    with libraries:
        one = spark.range(1, numPartitions=1)
        one.mapInArrow(check, "id bigint", profile=task_profile(spark, device)).collect()
