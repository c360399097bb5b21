"""Listing of files and reading of footers by a Spark Connect session, whose server has the way to the store

Files whose names are no UTF-8 are not seen: Java omits them, and the machine that they are on is the
server's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from urllib.parse import unquote

import pyarrow as pa
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type

from recap_spark.lake.spark_errors import (
    SPARK_ERRORS,
    condition_of,
    first_line,
    innermost_cause,
    is_failed_read,
)
from recap_spark.stages.ingest.footers import Footer, literal
from recap_spark.workers.metadata.arrow_schemas import SCHEMA, arrow_schemas

_UNKNOWN = re.compile(r"\btime(?:32|64)\b|\btimestamp\[ns\b")  # of Arrow's, to Spark's reader of Parquet
_LARGEST = 1 << 30  # bytes of a file that a worker is given whole


def listed(spark: SparkSession, source: str) -> Iterator[str]:
    """The Parquet files of a folder or glob. Raises one of SPARK_ERRORS."""
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    reader = reader.option("pathGlobFilter", "*.parquet")
    try:
        found = reader.load(literal(source)).inputFiles()
    except PySparkException as error:
        if condition_of(error) != "PATH_NOT_FOUND":
            raise
        found = reader.load(source).inputFiles()
    # As Hadoop writes a path, and so does a row's source_file once its escapes are gone.
    yield from (re.sub("^file:///", "file:/", unquote(name)) for name in found)


def read_footer(spark: SparkSession, file: str) -> Footer:
    """Raises ValueError for a file that is damaged or none of Parquet's, one of SPARK_ERRORS where it is the
    server that fails.
    """
    try:
        return _by_inference(spark, file)
    except AnalysisException:  # Spark has no type for one of the columns, which perhaps nobody reads
        return _by_worker(spark, file)
    except SPARK_ERRORS as error:
        if not is_failed_read(error):
            raise
        raise ValueError(innermost_cause(error)) from error


def _by_inference(spark: SparkSession, file: str) -> Footer:
    schema = spark.read.parquet(literal(file)).schema
    rows = spark.read.schema(schema).parquet(literal(file)).count()
    return Footer(tuple(schema.names), rows, lambda names: T.StructType([schema[name] for name in names]))


def _by_worker(spark: SparkSession, file: str) -> Footer:
    whole = (
        spark.read.format("binaryFile").load(literal(file)).where(f"length <= {_LARGEST}").select("content")
    )
    try:
        found = whole.mapInArrow(arrow_schemas, SCHEMA).collect()
    except AnalysisException as error:  # it is gone since it was listed
        raise ValueError(first_line(error)) from error
    if not found:
        raise ValueError(f"want at most {_LARGEST} bytes of a file with columns that Spark has no type for")
    schema = pa.ipc.read_schema(pa.py_buffer(found[0]["arrow_schema"]))
    return Footer(tuple(schema.names), found[0]["rows"], partial(_as_spark, schema))


def _as_spark(schema: pa.Schema, names: Iterable[str]) -> T.StructType:
    fields = T.StructType()
    for name in names:
        kind = schema.field(name).type
        unknown = f"{name}: {kind}, which Spark has no type for"
        if _UNKNOWN.search(str(kind)):
            raise ValueError(unknown)
        try:
            fields = fields.add(name, from_arrow_type(kind))
        except PySparkException as error:
            raise ValueError(unknown) from error
    return fields
