"""a folder or glob of Parquet files → what each holds by its footer, and the files that cannot be read"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recap_spark.errors import InputError
from recap_spark.lake.connect import is_connect
from recap_spark.lake.spark_errors import SPARK_ERRORS, first_line, innermost_cause, is_failed_read
from recap_spark.stages.ingest import files_by_connect, files_by_hadoop
from recap_spark.stages.ingest.footers import literal
from recap_spark.stages.ingest.layouts import Layout
from recap_spark.statuses import RejectReason

log = logging.getLogger(__name__)
W = TypeVar("W")

_AT_ONCE = 16


@dataclass(frozen=True)
class Readable:
    """Files whose columns of the layout have the same names and types."""

    schema: T.StructType  # by the files' own names
    columns: dict[str, str]  # the layout's names → the files'
    files: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """What a look at every file's footer found."""

    readable: tuple[Readable, ...]
    rows: dict[str, int]  # of each readable file
    refused: tuple[tuple[str, RejectReason, str], ...]  # file, reason, what was found

    @property
    def files(self) -> list[str]:
        """Those that can be read."""
        return [file for group in self.readable for file in group.files]

    @property
    def refusals(self) -> Counter[str]:
        """Files by the reason that they are refused for."""
        return Counter(str(reason) for _, reason, _ in self.refused)

    def without(self, damaged: dict[str, str]) -> Survey:
        """The same with some files refused, for what was found when they were read."""
        kept = (
            replace(group, files=tuple(file for file in group.files if file not in damaged))
            for group in self.readable
        )
        found = tuple((file, RejectReason.UNREADABLE_FILE, why) for file, why in damaged.items())
        rows = {file: count for file, count in self.rows.items() if file not in damaged}
        return Survey(tuple(group for group in kept if group.files), rows, self.refused + found)


def list_files(spark: SparkSession, source: str) -> list[str]:
    """The Parquet files of a folder or glob, empty ones too, on any file system that Spark reads.

    Raises InputError where there are none.
    """
    try:
        listed = files_by_connect.listed if is_connect(spark) else files_by_hadoop.listed
        found = sorted(set(listed(spark, source)))
    except SPARK_ERRORS as error:
        raise InputError(
            f"ingest.source: want a folder or glob of Parquet files, found {source!r}: {first_line(error)}"
        ) from error
    if not found:
        raise InputError(f"ingest.source: want a folder or glob of Parquet files, found none in {source!r}")
    return found


def survey_files(spark: SparkSession, files: Iterable[str], layout: Layout) -> Survey:
    """Read every footer. A truncated or foreign file is refused by name, and the others are read."""
    groups: dict[str, list[str]] = defaultdict(list)
    like: dict[str, Readable] = {}
    rows: dict[str, int] = {}
    refused: list[tuple[str, RejectReason, str]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for file, look in pool.map(lambda file: (file, _look(spark, file, layout)), files):
            if isinstance(look[0], RejectReason):
                refused.append((file, look[0], look[1]))
            else:
                key = look[0].schema.json()
                like[key] = look[0]
                groups[key].append(file)
                rows[file] = look[1]
    readable = tuple(replace(like[key], files=tuple(named)) for key, named in groups.items())
    return Survey(readable, rows, tuple(refused))


def read_files(spark: SparkSession, group: Readable) -> DataFrame:
    """The layout's columns of these files, by the files' own names."""
    return spark.read.schema(group.schema).parquet(*(literal(file) for file in group.files))


def damaged_files(spark: SparkSession, survey: Survey) -> dict[str, str]:
    """Of the files with a sound footer, those with a page that cannot be read, and what is wrong with each.

    Reads all columns that ingest reads: for when a job over many files has failed.
    """

    def fault(group: Readable, file: str) -> str | None:
        rows = read_files(spark, replace(group, files=(file,)))
        try:
            rows.agg(F.bit_xor(F.xxhash64(*(F.col(f"`{name}`") for name in rows.columns)))).collect()
        except SPARK_ERRORS as error:
            if not is_failed_read(error):
                raise
            return innermost_cause(error)
        return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = [(file, pool.submit(fault, group, file)) for group in survey.readable for file in group.files]
        return {file: found for file, answer in asked if (found := answer.result()) is not None}


def over_sound_files(spark: SparkSession, survey: Survey, work: Callable[[Survey], W]) -> W:
    """Do the work over the files of a survey; where a page of one cannot be read, over the others.

    A file whose footer is sound may be damaged elsewhere, which shows only when it is read.
    """
    try:
        return work(survey)
    except SPARK_ERRORS as error:
        if not is_failed_read(error) or not (damaged := damaged_files(spark, survey)):
            raise
    log.warning("ingest: %d files have pages that cannot be read, and are refused", len(damaged))
    return work(survey.without(damaged))


def _look(spark: SparkSession, file: str, layout: Layout) -> tuple[Readable, int] | tuple[RejectReason, str]:
    read_footer = files_by_connect.read_footer if is_connect(spark) else files_by_hadoop.read_footer
    try:
        footer = read_footer(spark, file)
    except ValueError as error:
        return RejectReason.UNREADABLE_FILE, str(error)
    columns = _chosen(footer.names, layout)
    if missing := layout.required.keys() - columns.keys():
        return RejectReason.MISSING_COLUMNS, f"want the columns {sorted(missing)}, found {list(footer.names)}"
    try:
        schema = footer.types(columns.values())
    except ValueError as error:
        return RejectReason.WRONG_TYPE, str(error)
    return Readable(schema, columns, ()), footer.rows


def _chosen(names: Sequence[str], layout: Layout) -> dict[str, str]:
    """The file's name of each of the layout's columns: the same, or else the first that differs in case."""
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.lower(), name)
    return {
        name: name if name in names else folded[name]
        for name in layout.columns
        if name in names or name in folded
    }
