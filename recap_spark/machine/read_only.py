"""SQL text → its rows, if it is a query: what reads must not write"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from py4j.java_gateway import is_instance_of
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from recap_spark.errors import InputError

_LOGICAL = "org.apache.spark.sql.catalyst.plans.logical"
# Whatever changes something is one of these, or holds one: Spark's own families of plans.
_NO_QUERIES = ("Command", "ParsedStatement", "CompoundPlanStatement", "ScriptTransformation")
_TELLS = ("Explain", "Describe", "Show")


def query(spark: SparkSession, text: str, *, tells: bool) -> DataFrame:
    """The rows of a query. With `tells` EXPLAIN, DESCRIBE and SHOW are taken too.

    Raises InputError, before anything runs, for what writes, sets or calls a program, and for what Spark
    cannot parse or resolve.
    """
    try:
        plan = spark._jsparkSession.sessionState().sqlParser().parsePlan(text)
        if not (tells and _kind(plan).startswith(_TELLS)):
            for node in _nodes(spark, plan):
                if any(_is_a(spark, node, kind) for kind in _NO_QUERIES):
                    raise InputError(f"want a query, found {_kind(node)}: this command only reads")
        return spark.sql(text)
    except PySparkException as error:
        raise InputError(f"query: {error}") from error


def _kind(plan: Any) -> str:
    return str(plan.getClass().getSimpleName())


def _nodes(spark: SparkSession, plan: Any) -> Iterator[Any]:
    """A plan, and all below it, the queries of WITH among them."""
    yield plan
    for below in (plan.children(), plan.innerChildren()):
        for child in (below.apply(place) for place in range(below.size())):
            if _is_a(spark, child, "LogicalPlan"):
                yield from _nodes(spark, child)


def _is_a(spark: SparkSession, node: Any, kind: str) -> bool:
    return bool(is_instance_of(spark.sparkContext._gateway, node, f"{_LOGICAL}.{kind}"))
