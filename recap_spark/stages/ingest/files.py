"""a folder or glob of Parquet files → what each holds by its footer, and the files that cannot be read

Footers are read through Hadoop, as Spark itself reads them, but by column: Spark's own look at a file refuses
all of it for one column of a type that it does not know, such as pandas' nanoseconds in a Parquet TIME.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recap_spark.errors import InputError
from recap_spark.stages.ingest.layouts import Layout
from recap_spark.statuses import RejectReason

log = logging.getLogger(__name__)
W = TypeVar("W")

_AT_ONCE = 16
_SPECIAL_TO_HADOOP = str.maketrans({character: f"\\{character}" for character in "[]{}*?\\"})
_FAILED_READ = "FAILED_READ_FILE"  # Spark's condition for whatever goes wrong within one file


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
        found = sorted(set(_listed(spark, source)))
    except Py4JJavaError as error:
        raise InputError(
            f"ingest.source: want a folder or glob of Parquet files, found {source!r}: {_first_line(error)}"
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
    return spark.read.schema(group.schema).parquet(*(_literal(file) for file in group.files))


def damaged_files(spark: SparkSession, survey: Survey) -> dict[str, str]:
    """Of the files with a sound footer, those with a page that cannot be read, and what is wrong with each.

    Reads all columns that ingest reads: for when a job over many files has failed.
    """

    def fault(group: Readable, file: str) -> str | None:
        rows = read_files(spark, replace(group, files=(file,)))
        try:
            rows.agg(F.bit_xor(F.xxhash64(*(F.col(f"`{name}`") for name in rows.columns)))).collect()
        except (PySparkException, Py4JJavaError) as error:
            if _FAILED_READ not in str(error):
                raise
            return _cause(error)
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
    except (PySparkException, Py4JJavaError) as error:
        if _FAILED_READ not in str(error) or not (damaged := damaged_files(spark, survey)):
            raise
    log.warning("ingest: %d files have pages that cannot be read, and are refused", len(damaged))
    return work(survey.without(damaged))


def _listed(spark: SparkSession, source: str) -> Iterator[str]:
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
            if name.endswith(".parquet") and not _is_hidden(name[len(each.toString()) :]):
                yield name
        yield from _undecodable(each.toString())


def _is_hidden(below: str) -> bool:
    """What Spark leaves out: `_SUCCESS`, `.part-0.crc`, the files of unfinished writes."""
    return any(part.startswith((".", "_")) for part in below.split("/") if part)


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


def _literal(file: str) -> str:
    """The path with its glob characters escaped, so that Spark takes it literally."""
    return file.translate(_SPECIAL_TO_HADOOP)


def _look(spark: SparkSession, file: str, layout: Layout) -> tuple[Readable, int] | tuple[RejectReason, str]:
    try:
        fields, count = _footer(spark, file)
    except Py4JJavaError as error:
        return RejectReason.UNREADABLE_FILE, _first_line(error)
    columns = _chosen(list(fields), layout)
    if missing := layout.required.keys() - columns.keys():
        return RejectReason.MISSING_COLUMNS, f"want the columns {sorted(missing)}, found {list(fields)}"
    try:
        schema = _as_spark(spark, [fields[name] for name in columns.values()])
    except Py4JJavaError as error:
        return RejectReason.WRONG_TYPE, _first_line(error)
    return Readable(schema, columns, ()), count


def _footer(spark: SparkSession, file: str) -> tuple[dict[str, Any], int]:
    """A file's columns by name, as Parquet describes them, and its rows."""
    jvm: Any = spark._jvm
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    parquet = jvm.org.apache.parquet.hadoop
    opened = parquet.util.HadoopInputFile.fromPath(jvm.org.apache.hadoop.fs.Path(file), conf)
    reader = parquet.ParquetFileReader.open(opened)
    try:
        schema = reader.getFooter().getFileMetaData().getSchema()
        fields = {str(field.getName()): field for field in schema.getFields()}
        return fields, int(reader.getRecordCount())
    finally:
        reader.close()


def _chosen(names: list[str], layout: Layout) -> dict[str, str]:
    """The file's name of each of the layout's columns: the same, or else the first that differs in case."""
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.lower(), name)
    return {
        name: name if name in names else folded[name]
        for name in layout.columns
        if name in names or name in folded
    }


def _as_spark(spark: SparkSession, fields: list[Any]) -> T.StructType:
    """Spark's types of some of a file's columns. Raises Py4JJavaError where it has none for one of them."""
    jvm: Any = spark._jvm
    some = jvm.java.util.ArrayList()
    for field in fields:
        some.add(field)
    converter = jvm.org.apache.spark.sql.execution.datasources.parquet.ParquetToSparkSchemaConverter(
        spark._jsparkSession.sessionState().conf()
    )
    schema = converter.convert(jvm.org.apache.parquet.schema.MessageType("columns", some))
    return T._parse_datatype_json_string(schema.json())  # type: ignore[return-value]


def _first_line(error: Py4JJavaError) -> str:
    return str(error.java_exception.getMessage() or error.java_exception.toString()).split("\n", 1)[0]


def _cause(error: Exception) -> str:
    """What was wrong with the file: the innermost cause that Java gives a message."""
    causes = [line.partition("Caused by: ")[2] for line in str(error).split("\n") if "Caused by: " in line]
    return (causes or str(error).split("\n"))[-1][:500]
