"""readable metadata files → rows of a known layout, in its types"""

from __future__ import annotations

from functools import reduce

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recap_spark.stages.hashes import known_sha256
from recap_spark.stages.ingest.files import Readable, Survey, read_files
from recap_spark.stages.ingest.layouts import Layout
from recap_spark.stages.ingest.values import as_utf8, whole_number
from recap_spark.workers.metadata.sha256 import BLANKS, MALFORMED

MENDED = ("text_repaired", MALFORMED)  # marks of rows that go on all the same
_TEXTS = ("text", "org_caption", "re_caption")
_NUMBERS = (T.IntegralType, T.FractionalType)


def read_rows(spark: SparkSession, survey: Survey, layout: Layout) -> DataFrame:
    """Every row of the readable files: the layout's columns and types, `mistyped`, `source_file`,
    `source_row`, `raw`, and two marks of what was mended: `text_repaired`, `sha256_malformed`.
    """
    groups = [_conformed(spark, group, layout) for group in survey.readable]
    return reduce(DataFrame.unionByName, groups)


def _conformed(spark: SparkSession, group: Readable, layout: Layout) -> DataFrame:
    held = {name: group.schema[found].dataType for name, found in group.columns.items()}
    rows = read_files(spark, group).select(
        *(F.col(f"`{found}`").alias(name) for name, found in group.columns.items()),
        F.col("_metadata.file_path").alias("source_file"),
        F.col("_metadata.row_index").alias("source_row"),
    )
    values = {name: _value(spark, name, held.get(name), kind) for name, kind in layout.columns.items()}
    mistyped = [
        _is_said(name, held[name]) & values[name].isNull()
        for name, kind in layout.columns.items()
        if name in held and _shape(held[name]) != _shape(kind)
    ]
    typed = rows.select(
        *(value.alias(name) for name, value in values.items()),
        reduce(Column.__or__, mistyped, F.lit(False)).alias("mistyped"),
        "source_file",
        "source_row",
        F.to_json(F.struct(*(F.col(name) for name in held))).alias("raw"),
    )
    return _mended(typed, [name for name in _TEXTS if name in layout.columns])


def _mended(rows: DataFrame, texts: list[str]) -> DataFrame:
    """The rows with texts in UTF-8, null in place of what is no sha256, and marks where that changed
    something.
    """
    is_sound = [F.coalesce(F.is_valid_utf8(name), F.lit(True)) for name in texts]
    known = known_sha256(F.col("sha256"))
    said = F.coalesce(F.btrim(F.col("sha256"), F.lit(BLANKS)), F.lit("")) != ""
    return rows.withColumns(
        {name: as_utf8(F.col(name)) for name in texts}
        | {
            "sha256": known,
            "text_repaired": ~reduce(Column.__and__, is_sound),
            MALFORMED: known.isNull() & said,  # `said` second: it costs a trim
        }
    )


def _is_said(name: str, held: T.DataType) -> Column:
    """Whether a row has a value in the column. NaN counts as null, as in pandas."""
    value = F.col(name)
    is_nan = F.isnan(name) if isinstance(held, (T.FloatType, T.DoubleType)) else F.lit(False)
    return value.isNotNull() & ~is_nan


def _value(spark: SparkSession, name: str, held: T.DataType | None, wanted: T.DataType) -> Column:
    """The column in the wanted type; null where the value, or every value of its type, has no such form."""
    if held is None:
        return F.lit(None).cast(wanted)
    if _shape(held) == _shape(wanted):
        is_number = isinstance(wanted, (T.FloatType, T.DoubleType))
        return F.when(~F.isnan(name), F.col(name)) if is_number else F.col(name)
    if not _may_become(held, wanted):
        return F.lit(None).cast(wanted)
    if isinstance(wanted, T.IntegralType):
        return whole_number(F.col(name), held, wanted)
    try:
        spark.range(0).select(F.lit(None).cast(held).try_cast(wanted)).schema  # noqa: B018  asks the analyser
    except AnalysisException:
        return F.lit(None).cast(wanted)
    value = F.col(name).try_cast(wanted)
    return F.when(~F.isnan(value), value) if isinstance(wanted, T.FractionalType) else value


def _may_become(held: T.DataType, wanted: T.DataType) -> bool:
    """Which types may be read as another: numbers and digits as numbers, bytes as text, lists as lists.

    Spark could turn anything into text, a list of captions too, but `[one, two]` is nobody's caption.
    """
    if isinstance(wanted, T.StringType):
        return isinstance(held, (T.StringType, T.BinaryType))
    if isinstance(wanted, _NUMBERS):
        return isinstance(held, (*_NUMBERS, T.StringType))
    return isinstance(held, type(wanted))


def _shape(kind: T.DataType) -> str:
    return kind.simpleString()
