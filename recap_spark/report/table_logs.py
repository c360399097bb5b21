"""The logs of Delta tables → their rows, without a Spark session and without a look into a data file"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from recap_spark.errors import InputError, SettingsError
from recap_spark.settings.schema import LakeSettings
from recap_spark.tables import Table

SEVERAL = "several"

_OWN_CATALOG = "spark_catalog."
_NULLS = "null_count."  # before the name of a column, as deltalake has it


@dataclass(frozen=True)
class TableLog:
    """What a table's log says of it."""

    rows: int
    size: int  # bytes
    changed: datetime  # when its youngest file was written
    nulls: dict[str, int]  # by column, of those that the log has counts of
    by: dict[str, int]  # rows by the value of a column, where files hold rows of one value; see `read_log`


def folder_of_table(lake: LakeSettings, table: Table) -> str:
    """Where the table's folder is: under the root, in the schema's folder where there is one.

    Raises SettingsError for `catalog.schema`: such a catalog keeps tables where it will and tells a Spark
    session alone. Spark's own catalog keeps them under the root where that is its warehouse folder, as in a
    laptop's session; where it is another, no log is found and a stage is said not to have begun.
    """
    if lake.namespace is None:
        return f"{lake.root}/{table.name}"
    schema = lake.namespace.removeprefix(_OWN_CATALOG)
    if "." in schema:
        found = f"{schema}, whose catalog alone knows where its tables are"
        asked = f"ask it with `recap-spark sql 'SELECT count(*) FROM {schema}.{table.name}'`"
        raise SettingsError(
            f"lake.namespace: want tables under lake.root to read logs, found {found}: {asked}"
        )
    return f"{lake.root}/{schema}.db/{table.name}"


def read_log(folder: str, *, by: str | None) -> TableLog | None:
    """What the log of the table in the folder says; None where there is no table.

    `by` is a column whose smallest and largest value the log keeps of each file: rows of files that hold
    more than one value of it, or of which the log does not say it, are counted under `several`. Raises
    InputError where the log cannot be read, or does not say how many rows each file holds.
    """
    try:
        table = DeltaTable(folder)
        files = pa.table(table.get_add_actions(flatten=True))
    except TableNotFoundError as error:
        # One class for what is not there, what this user may not see and what deltalake has no client for.
        if "Permission denied" not in str(error) and not str(error).startswith("Unknown scheme"):
            return None
        raise _no_log(folder, error) from error
    except Exception as error:  # deltalake has no class for all that a store may say
        raise _no_log(folder, error) from error
    names = set(files.schema.names)
    if unsaid := files.column("num_records").null_count:
        found = f"none of {unsaid} of {files.num_rows} files"
        raise InputError(f"{folder}: want the number of rows of each file in the table's log, found {found}")
    rows = _numbers(files, "num_records")
    changed = max(_numbers(files, "modification_time", default=0), default=0)
    return TableLog(
        rows=sum(rows),
        size=sum(_numbers(files, "size_bytes")),
        changed=datetime.fromtimestamp(changed / 1000, UTC),
        nulls={
            name.removeprefix(_NULLS): sum(_numbers(files, name)) for name in names if name.startswith(_NULLS)
        },
        by=_rows_by(files, rows, by) if by and f"min.{by}" in names else {},
    )


def _no_log(folder: str, error: Exception) -> InputError:
    said = " ".join(str(error).split())
    return InputError(f"{folder}: want a Delta table's log, found: {said:.200}")


def _numbers(files: pa.Table, name: str, default: int = 0) -> list[int]:
    column = files.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", column.type.tz)).cast(pa.int64())
    return [default if value is None else int(value) for value in column.to_pylist()]


def _rows_by(files: pa.Table, rows: list[int], by: str) -> dict[str, int]:
    ends = zip(files.column(f"min.{by}").to_pylist(), files.column(f"max.{by}").to_pylist(), strict=True)
    found: Counter[str] = Counter()
    for (least, greatest), count in zip(ends, rows, strict=True):
        found[SEVERAL if least is None or least != greatest else str(least)] += count
    return dict(found)
