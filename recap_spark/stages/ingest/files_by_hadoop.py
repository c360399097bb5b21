"""Listing of files and reading of footers through the JVM of a classic session, as Spark itself does both

Footers are read by column: Spark's own look at a file refuses all of it for one column of a type that it does
not know, such as pandas' nanoseconds in a Parquet TIME.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import types as T

from recap_spark.lake.spark_errors import SPARK_ERRORS, first_line
from recap_spark.stages.ingest.footers import Footer, is_hidden


def listed(spark: SparkSession, source: str) -> Iterator[str]:
    """The Parquet files of a folder or glob, some perhaps twice. Raises one of SPARK_ERRORS."""
    jvm: Any = spark._jvm
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    top = jvm.org.apache.hadoop.fs.Path(source)
    system = top.getFileSystem(conf)
    tops = [top] if system.exists(top) else [found.getPath() for found in system.globStatus(top) or ()]
    for each in map(system.makeQualified, tops):
        found = system.listFiles(each, True)
        while found.hasNext():
            status = found.next()
            name = status.getPath().toString()
            if name.endswith(".parquet") and not is_hidden(name[len(each.toString()) :]):
                yield name
        yield from _undecodable(each.toString())


def _undecodable(folder: str) -> Iterator[str]:
    """Local files whose names are no UTF-8, listed by Python so that they can be refused: Java omits them."""
    scheme, colon, local = folder.partition(":")
    if scheme != "file" or not colon:
        return
    for above, _, names in os.walk(os.fsencode(local)):
        for name in names:
            try:
                name.decode()
            except UnicodeDecodeError:
                if name.endswith(b".parquet"):
                    yield f"file:{os.path.join(above, name).decode(errors='backslashreplace')}"


def read_footer(spark: SparkSession, file: str) -> Footer:
    """Raises ValueError for a file that is damaged or none of Parquet's."""
    try:
        return _read_footer(spark, file)
    except SPARK_ERRORS as error:
        raise ValueError(first_line(error)) from error


def _read_footer(spark: SparkSession, file: str) -> Footer:
    jvm: Any = spark._jvm
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    parquet = jvm.org.apache.parquet.hadoop
    opened = parquet.util.HadoopInputFile.fromPath(jvm.org.apache.hadoop.fs.Path(file), conf)
    reader = parquet.ParquetFileReader.open(opened)
    try:
        schema = reader.getFooter().getFileMetaData().getSchema()
        fields = {str(field.getName()): field for field in schema.getFields()}
        return Footer(tuple(fields), int(reader.getRecordCount()), partial(_as_spark, spark, fields))
    finally:
        reader.close()


def _as_spark(spark: SparkSession, fields: Mapping[str, Any], names: Iterable[str]) -> T.StructType:
    jvm: Any = spark._jvm
    some = jvm.java.util.ArrayList()
    for name in names:
        some.add(fields[name])
    converter = jvm.org.apache.spark.sql.execution.datasources.parquet.ParquetToSparkSchemaConverter(
        spark._jsparkSession.sessionState().conf()
    )
    try:
        schema = converter.convert(jvm.org.apache.parquet.schema.MessageType("columns", some))
    except SPARK_ERRORS as error:
        raise ValueError(first_line(error)) from error
    return T._parse_datatype_json_string(schema.json())  # type: ignore[return-value]
