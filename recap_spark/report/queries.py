"""A user's SQL → its rows, if it is one that only reads"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recap_spark.errors import InputError
from recap_spark.lake.connect import is_connect
from recap_spark.lake.lake import Lake
from recap_spark.lake.spark_errors import without_trace
from recap_spark.report.queries_by_connect import read_only

# By the names of Spark's plans. Each of these reads, though Spark calls it a command.
_SHOWING = ("Describe", "Show", "ExplainCommand")
# What a query is parsed to. What is not here may write (InsertIntoDir, Call) or run a program
# (ScriptTransformation), and Spark gives all that no common mark.
_READING = frozenset(
    (
        "Project",
        "Filter",
        "UnresolvedHaving",
        "Aggregate",
        "Sort",
        "GlobalLimit",
        "LocalLimit",
        "Offset",
        "Distinct",
        "Sample",
        "Join",
        "LateralJoin",
        "AsOfJoin",
        "Union",
        "Intersect",
        "Except",
        "Pivot",
        "Unpivot",
        "UnpivotTransformer",
        "Generate",
        "UnresolvedWith",
        "SubqueryAlias",
        "UnresolvedSubqueryColumnAliases",
        "WithWindowDefinition",
        "UnresolvedHint",
        "RepartitionByExpression",
        "Repartition",
        "OneRowRelation",
        "LocalRelation",
        "UnresolvedInlineTable",
        "UnresolvedRelation",
        "RelationTimeTravel",
        "UnresolvedTableValuedFunction",
        "UnresolvedTVFAliases",
    )
)

_SAID_BY_SPARK = (
    T.TimestampType,
    T.DateType,
    T.DayTimeIntervalType,
    T.YearMonthIntervalType,
    T.CalendarIntervalType,
)


@contextmanager
def answered(lake: Lake, query: str, *, command: str, shows: bool) -> Iterator[DataFrame]:
    """The rows of a query over the lake; `shows` allows EXPLAIN, SHOW and DESCRIBE too.

    Raises InputError for a statement of another kind before any of it is run, and for a query that fails.
    """
    try:
        by_connect = is_connect(lake.spark)
        if not by_connect:
            check_reads_only(lake.spark, query, command=command, shows=shows)
        if lake.settings.namespace:
            lake.spark.sql(f"USE {lake.settings.namespace}")
        if by_connect:  # now, for its server looks at a query where it stands
            query = read_only(lake.spark, query, command=command, shows=shows)
        yield lake.spark.sql(query)
    except PySparkException as error:
        raise InputError(f"{command}: {without_trace(error)}") from error


def printable(rows: DataFrame) -> DataFrame:
    """The same rows with a binary value as its size, so that no picture travels to the driver, and a time as
    text in the session's time zone: Python would put it into the machine's own, as it still does within a
    struct or a list. Intervals, and days that may be after the year 9999, are text too, for Python has none.
    """
    kinds = [field.dataType for field in rows.schema]
    by_place = rows.toDF(*(f"c{place}" for place in range(len(kinds))))
    columns = [_printable(F.col(f"c{place}"), kind) for place, kind in enumerate(kinds)]
    return by_place.select(*columns).toDF(*rows.columns)


def _printable(column: Column, kind: T.DataType) -> Column:
    if isinstance(kind, T.BinaryType):
        return F.concat(F.octet_length(column), F.lit(" bytes"))
    return column.cast("string") if isinstance(kind, _SAID_BY_SPARK) else column


def check_reads_only(spark: SparkSession, query: str, *, command: str, shows: bool) -> None:
    """Raises InputError for more than a query, PySparkException for what is no SQL."""
    session: Any = spark
    plan = session._jsparkSession.sessionState().sqlParser().parsePlan(query)
    name = str(plan.getClass().getSimpleName())
    if shows and name.startswith(_SHOWING):
        return
    for node in _nodes(plan):
        found = str(node.getClass().getSimpleName())
        if found not in _READING:
            also = ", EXPLAIN, SHOW or DESCRIBE" if shows else ""
            kind = found.removesuffix("Statement").removesuffix("Command")
            raise InputError(f"{command}: want a query{also} that changes nothing, found {kind}")


def _nodes(plan: Any) -> Iterator[Any]:
    """A plan, its inputs and the plans of its CTEs."""
    yield plan
    for children in (plan.children(), plan.innerChildren()):
        for index in range(children.size()):
            child = children.apply(index)
            if hasattr(child, "children") and hasattr(child, "innerChildren"):
                yield from _nodes(child)
