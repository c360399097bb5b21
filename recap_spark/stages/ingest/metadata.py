"""metadata files → rows of a known layout, and the files that could not be read as such"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recap_spark.errors import InputError
from recap_spark.statuses import RejectReason

_FOOTERS_AT_ONCE = 16


@dataclass(frozen=True)
class Layout:
    """The columns of one kind of published metadata; the first ones are required, the others null when
    absent.
    """

    required: dict[str, T.DataType]
    optional: dict[str, T.DataType]

    @property
    def columns(self) -> dict[str, T.DataType]:
        return self.required | self.optional


DATACOMP = Layout(
    required={"uid": T.StringType(), "url": T.StringType(), "text": T.StringType()},
    optional={
        "original_width": T.LongType(),
        "original_height": T.LongType(),
        "clip_b32_similarity_score": T.FloatType(),
        "clip_l14_similarity_score": T.FloatType(),
        "face_bboxes": T.ArrayType(T.ArrayType(T.DoubleType())),
        "sha256": T.StringType(),
    },
)
"""mlfoundations/datacomp: metadata of CommonPool and DataComp-1B."""

RECAP = Layout(
    required={"url": T.StringType(), "re_caption": T.StringType()},
    optional={
        "org_caption": T.StringType(),
        "sha256": T.StringType(),
        "key": T.StringType(),
        "re_clip_score": T.DoubleType(),
        "org_clip_score": T.DoubleType(),
        "re_length": T.LongType(),
        "org_length": T.LongType(),
        "re_gpt4v_score": T.LongType(),
        "org_gpt4v_score": T.LongType(),
    },
)
"""UCSC-VLAA/Recap-DataComp-1B, default configuration."""

LAYOUTS = {"datacomp": DATACOMP, "recap": RECAP}
"""By what the settings call them."""


@dataclass(frozen=True)
class Survey:
    """What a look at every file's footer found."""

    readable: dict[str, tuple[T.StructType, tuple[str, ...]]]  # files of one schema together
    refused: tuple[tuple[str, RejectReason, str], ...]  # file, reason, what was found

    @property
    def files(self) -> list[str]:
        """Those that can be read."""
        return [file for _, files in self.readable.values() for file in files]


def list_files(spark: SparkSession, source: str) -> list[str]:
    """The Parquet files of a folder or glob, on any file system Spark reads.

    Raises InputError where there are none.
    """
    listing = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    try:
        found = listing.option("pathGlobFilter", "*.parquet").load(source).select("path").collect()
    except AnalysisException as error:
        raise InputError(
            f"ingest.source: want a folder or glob of Parquet files, found {source!r}: {error}"
        ) from error
    if not found:
        raise InputError(f"ingest.source: want a folder or glob of Parquet files, found none in {source!r}")
    return sorted(row["path"] for row in found)


def survey_files(spark: SparkSession, files: Iterable[str], layout: Layout) -> Survey:
    """Read every footer: one truncated or foreign file of thousands is refused by name and stops nothing."""
    groups: dict[str, list[str]] = defaultdict(list)
    schemas: dict[str, T.StructType] = {}
    refused: list[tuple[str, RejectReason, str]] = []
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        looks = pool.map(lambda file: (file, _footer(spark, file)), files)
        for file, schema in looks:
            if isinstance(schema, str):
                refused.append((file, RejectReason.UNREADABLE_FILE, schema))
            elif missing := layout.required.keys() - {name.lower() for name in schema.names}:
                why = f"want the columns {sorted(missing)}, found {schema.names}"
                refused.append((file, RejectReason.MISSING_COLUMNS, why))
            else:
                groups[schema.json()].append(file)
                schemas[schema.json()] = schema
    readable = {key: (schemas[key], tuple(named)) for key, named in groups.items()}
    return Survey(readable, tuple(refused))


def read_rows(spark: SparkSession, survey: Survey, layout: Layout) -> DataFrame:
    """Every row of the readable files: the layout's columns and types, `mistyped`, `source_file`,
    `source_row`, `raw`.
    """
    groups = [_conformed(spark, schema, files, layout) for schema, files in survey.readable.values()]
    return reduce(DataFrame.unionByName, groups)


def count_rows(spark: SparkSession, survey: Survey) -> int:
    """Rows in the readable files, from their footers."""
    return sum(
        spark.read.schema(schema).parquet(*files).count() for schema, files in survey.readable.values()
    )


def _footer(spark: SparkSession, file: str) -> T.StructType | str:
    try:
        return spark.read.parquet(file).schema
    except PySparkException as error:
        return str(error).split("\n", 1)[0]
    except Py4JJavaError as error:  # PySpark translates most of the JVM's exceptions, SparkException not
        return str(error.java_exception.getMessage()).split("\n", 1)[0]


def _conformed(
    spark: SparkSession, schema: T.StructType, files: tuple[str, ...], layout: Layout
) -> DataFrame:
    rows = spark.read.schema(schema).parquet(*files)
    held = {name.lower(): schema[name].dataType for name in schema.names}
    values = {name: _cast(spark, name, held, kind) for name, kind in layout.columns.items()}
    mistyped = [
        F.col(name).isNotNull() & values[name].isNull()
        for name in values
        if _differs(name, held, layout.columns)
    ]
    return rows.select(
        *(value.alias(name) for name, value in values.items()),
        reduce(Column.__or__, mistyped, F.lit(False)).alias("mistyped"),
        F.col("_metadata.file_path").alias("source_file"),
        F.col("_metadata.row_index").alias("source_row"),
        F.to_json(F.struct(*(F.col(f"`{name}`") for name in schema.names))).alias("raw"),
    )


def _differs(name: str, held: Mapping[str, T.DataType], wanted: Mapping[str, T.DataType]) -> bool:
    return name in held and _shape(held[name]) != _shape(wanted[name])


def _shape(kind: T.DataType) -> str:
    return kind.simpleString()


def _cast(spark: SparkSession, name: str, held: Mapping[str, T.DataType], wanted: T.DataType) -> Column:
    """The column in the wanted type; null where the value, or every value of its type, has no such form."""
    if name not in held:
        return F.lit(None).cast(wanted)
    if _shape(held[name]) == _shape(wanted):
        return F.col(name)
    try:
        spark.range(0).select(F.lit(None).cast(held[name]).try_cast(wanted)).schema  # noqa: B018  asks the analyser
    except AnalysisException:
        return F.lit(None).cast(wanted)
    return F.col(name).try_cast(wanted)
