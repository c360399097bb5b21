"""How far the queries are that run just now, in rows

A unit's rows are in its table only when all of them are there, an hour later on a large one. Until then Spark
itself counts the rows that Python workers have answered, and tells the driver with every heartbeat. Its
server does not tell a client of Spark Connect.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession

from recap_spark.lake.connect import is_connect
from recap_spark.lake.spark_errors import SPARK_ERRORS

log = logging.getLogger(__name__)

_DESCRIPTION = "spark.job.description"
_RAISED: tuple[type[Exception], ...] = (*SPARK_ERRORS, AttributeError)
_RECENT = 64  # executions looked at: those that run are among the last
_NODE, _METRIC = "MapInArrow", "number of output rows"


@dataclass
class Underway:
    """The steps that run now, by the words that describe them in Spark's own interface."""

    spark: SparkSession
    sizes: dict[str, int] = field(default_factory=dict)  # rows of each
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if is_connect(self.spark):
            log.info("on Spark Connect the progress moves at the end of each step")

    @contextmanager
    def step(self, described: str, rows: int) -> Iterator[None]:
        """Meanwhile this thread's queries are those of one step of so many rows."""
        if is_connect(self.spark):
            yield
            return
        context: Any = self.spark.sparkContext
        before = context.getLocalProperty(_DESCRIPTION)
        context.setJobDescription(described)
        with self.lock:
            self.sizes[described] = rows
        try:
            yield
        finally:
            with self.lock:
                del self.sizes[described]
            context.setLocalProperty(_DESCRIPTION, before)

    def rows(self) -> int:
        """Rows that the workers of the running steps have answered; a task that is tried again repeats its
        own, so no step counts for more than it has.
        """
        with self.lock:
            sizes = dict(self.sizes)
        if not sizes:
            return 0
        answered = _answered(self.spark)
        return sum(min(answered.get(described, 0), rows) for described, rows in sizes.items())


def _answered(spark: SparkSession) -> Mapping[str, int]:
    """Rows by the description of the queries that run. None where Spark's own counts are not to be had: a
    display that stays at the last step's end stops no stage.
    """
    found: Counter[str] = Counter()
    session: Any = spark
    try:
        store = session._jsparkSession.sharedState().statusStore()
        first = max(0, store.executionsCount() - _RECENT)
        for execution in _all(store.executionsList(first, _RECENT)):
            if not execution.completionTime().isDefined():
                found[execution.description()] += _rows_of(store, execution.executionId())
    except _RAISED:
        return {}
    return found


def _rows_of(store: Any, execution: int) -> int:
    values = {pair._1(): pair._2() for pair in _all(store.executionMetrics(execution))}
    wanted = (
        metric.accumulatorId()
        for node in _all(store.planGraph(execution).allNodes())
        if node.name() == _NODE
        for metric in _all(node.metrics())
        if metric.name() == _METRIC
    )
    return sum(int(str(values.get(number, "0")).replace(",", "")) for number in wanted)


def _all(scala: Any) -> Iterator[Any]:
    """What a Scala collection holds."""
    iterator = scala.iterator()
    while iterator.hasNext():
        yield iterator.next()
