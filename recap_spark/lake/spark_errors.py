"""What an error of Spark or Delta is, by the condition that it names

Delta's errors come through py4j, through Spark Connect and from platforms' own builds as different classes of
Python, or as none; each says its condition in brackets.
"""

from __future__ import annotations

import re

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

SPARK_ERRORS = (PySparkException, Py4JError)

_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_.]+)\]")

# https://docs.delta.io/concurrency-control/#conflict-exceptions: of these a writer tries again
_OVERTAKEN = ("DELTA_CONCURRENT_APPEND", "DELTA_CONCURRENT_DELETE_READ", "DELTA_CONCURRENT_DELETE_DELETE")


def condition_of(error: BaseException) -> str:
    """The first condition that the error names, such as DELTA_MISSING_DELTA_TABLE; empty where none is."""
    named = error.getCondition() if isinstance(error, PySparkException) else None
    found = _CONDITION.search(str(error))
    return named or (found[1] if found else "")


def is_overtaken(error: BaseException) -> bool:
    """Whether another job's commit came first, so that the same write may succeed when tried again."""
    return condition_of(error).startswith(_OVERTAKEN)
