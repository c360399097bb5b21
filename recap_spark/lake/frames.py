"""Rows of this process → a frame"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

# Spark's own function of this kind has other parameters in each release.
_ARROW: dict[type[T.DataType], pa.DataType] = {
    T.StringType: pa.string(),
    T.LongType: pa.int64(),
    T.IntegerType: pa.int32(),
    T.FloatType: pa.float32(),
    T.DoubleType: pa.float64(),
    T.BooleanType: pa.bool_(),
    T.BinaryType: pa.binary(),
    T.TimestampType: pa.timestamp("us", tz="UTC"),
}


def frame_of(spark: SparkSession, rows: Iterable[tuple[Any, ...]], schema: T.StructType) -> DataFrame:
    """The rows, each in the schema's order, a few of them.

    They go as Arrow: sent in any other way they pass through Python workers, which have to be started first.
    """
    named = [dict(zip(schema.names, row, strict=True)) for row in rows]
    arrow = pa.schema([(field.name, _arrow(field.dataType)) for field in schema])
    return spark.createDataFrame(pa.Table.from_pylist(named, arrow), schema)


def _arrow(kind: T.DataType) -> pa.DataType:
    if isinstance(kind, T.ArrayType):
        return pa.list_(_arrow(kind.elementType))
    return _ARROW[type(kind)]
