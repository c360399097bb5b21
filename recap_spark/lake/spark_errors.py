"""What an error of Spark or Delta is, by the condition that it names

Delta's errors come through py4j, through Spark Connect and from platforms' own builds as different classes of
Python, or as none; each says its condition in brackets.
"""

from __future__ import annotations

import re

from pyspark.errors import PySparkException

try:
    from py4j.protocol import Py4JError
except ImportError:  # a client of Spark Connect alone, which talks to no JVM of its own
    SPARK_ERRORS: tuple[type[Exception], ...] = (PySparkException,)
else:
    SPARK_ERRORS = (PySparkException, Py4JError)

_LONGEST = 500
_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_.]+)\]")

# https://docs.delta.io/concurrency-control/#conflict-exceptions: of these a writer tries again
_OVERTAKEN = ("DELTA_CONCURRENT_APPEND", "DELTA_CONCURRENT_DELETE_READ", "DELTA_CONCURRENT_DELETE_DELETE")


def condition_of(error: BaseException) -> str:
    """The first condition that the error names, such as DELTA_MISSING_DELTA_TABLE; empty where none is."""
    named = error.getCondition() if isinstance(error, PySparkException) else None
    found = _CONDITION.search(str(error))
    return named or (found[1] if found else "")


def first_line(error: BaseException) -> str:
    """What the error says, without the state and the trace that py4j and Spark Connect add."""
    thrown = getattr(error, "java_exception", None)
    said = str(error) if thrown is None else str(thrown.getMessage() or thrown.toString())
    return said.strip().split("\n", 1)[0]


def without_trace(error: BaseException) -> str:
    """What the error says, where Spark Connect adds Java's trace to it."""
    return str(error).partition("\n\nJVM stacktrace:")[0].strip()


def text_of(error: BaseException) -> str:
    """All that is known of the error; Spark Connect may keep Java's causes apart from what it says."""
    said = str(error)
    trace = getattr(error, "getStackTrace", lambda: None)()
    return said if not trace or trace in said else f"{said}\n{trace}"


def innermost_cause(error: BaseException) -> str:
    """The last cause that Java gives a message; the error's own last line where it gives none."""
    lines = text_of(error).split("\n")
    causes = [line.partition("Caused by: ")[2] for line in lines if "Caused by: " in line]
    return (causes or lines)[-1][:_LONGEST]


def is_failed_read(error: BaseException) -> bool:
    """Whether something is wrong within one file that Spark reads."""
    return "FAILED_READ_FILE" in text_of(error)


def is_overtaken(error: BaseException) -> bool:
    """Whether another job's commit came first, so that the same write may succeed when tried again."""
    return condition_of(error).startswith(_OVERTAKEN)
