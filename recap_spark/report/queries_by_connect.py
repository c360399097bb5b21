"""A user's SQL → SQL that can only read, without a parser at hand

Spark Connect runs a statement as it comes, and its client cannot parse. So the server's parser is made to
refuse what is no query: it is asked for the rows of a subquery, and no other statement can stand there.
"""

from __future__ import annotations

import re

from pyspark.errors import ParseException
from pyspark.sql import SparkSession

from recap_spark.errors import InputError
from recap_spark.lake.spark_errors import without_trace

_COMMENTS = r"(?:\s|--[^\n]*\n|/\*(?!\+).*?\*/)*"
_SHOWING = re.compile(_COMMENTS + r"(?:EXPLAIN|SHOW|DESCRIBE|DESC)\b", re.IGNORECASE | re.DOTALL)
_PLANNED = "== Parsed Logical Plan =="
_RUNS_A_PROGRAM = re.compile(r"^\W*ScriptTransformation\b", re.MULTILINE)


def read_only(spark: SparkSession, query: str, *, command: str, shows: bool) -> str:
    """The query as a subquery; `shows` leaves EXPLAIN, SHOW and DESCRIBE as they are, which only read.

    Raises InputError for a query that runs a program. What is no query fails when it is asked for.
    """
    if shows and _SHOWING.match(query):
        return query
    wrapped = subquery(query)
    _check_runs_nothing(spark, wrapped, command=command)
    return wrapped


def subquery(query: str) -> str:
    """One that ends a comment at the query's end, and takes a semicolon from there."""
    return f"SELECT * FROM (\n{query.rstrip().rstrip(';')}\n)"


def _check_runs_nothing(spark: SparkSession, query: str, *, command: str) -> None:
    """Raises InputError for a query that sends its rows through a program of the user's."""
    try:
        (explained,) = spark.sql(f"EXPLAIN EXTENDED {query}").collect()
    except ParseException as error:
        found = f"found what is none to Spark: {without_trace(error)}"
        raise InputError(f"{command}: want a query that changes nothing, {found}") from error
    if _PLANNED not in explained[0]:  # it does not say what it would run
        raise InputError(f"{command}: {explained[0]}")
    if _RUNS_A_PROGRAM.search(explained[0]):
        raise InputError(
            f"{command}: want a query that changes nothing, found TRANSFORM, which runs a program"
        )
