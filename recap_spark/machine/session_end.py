"""The end of a session of ours, whose JVM may have ended before

A signal to a whole group of processes, as timeout and systemd send, is one to the JVM too.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pyspark
from pyspark.sql import SparkSession

from recap_spark.lake.spark_errors import SPARK_ERRORS

_ENDS_WITHIN_S = 10.0
_UNANSWERED: tuple[type[Exception], ...] = (*SPARK_ERRORS, OSError)


def stop(spark: SparkSession) -> None:
    with unless_ended():
        spark.stop()


@contextmanager
def unless_ended() -> Iterator[None]:
    """What is asked of the JVM meanwhile may be left unanswered where it has ended."""
    logging.disable(logging.INFO)  # py4j tells everybody, with a trace
    try:
        yield
    except _UNANSWERED:
        if not _has_ended():
            raise
    finally:
        logging.disable(logging.NOTSET)


def _has_ended() -> bool:
    context = getattr(pyspark, "SparkContext", None)  # which a client of Spark Connect may be without
    process = getattr(getattr(context, "_gateway", None), "proc", None)
    if process is None:  # spark-submit's, or a server's
        return False
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        return False
    return True
