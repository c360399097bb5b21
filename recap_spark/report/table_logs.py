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

    Raises SettingsError for a table that a catalog keeps in a place of its own.
    """
    if lake.namespace is None:
        return f"{lake.root}/{table.name}"
    if "." in lake.namespace:
        found = f"{lake.namespace}, a schema of a catalog that has places of its own"
        raise SettingsError(f"lake.namespace: want tables under lake.root to read their logs, found {found}")
    return f"{lake.root}/{lake.namespace}.db/{table.name}"


def read_log(folder: str, *, by: str | None) -> TableLog | None:
    """What the log of the table in the folder says; None where there is no table.

    `by` is a column whose smallest and largest value the log keeps of each file: rows of files that hold
    more than one value of it are counted under `several`. Raises InputError where the log cannot be read.
    """
    try:
        table = DeltaTable(folder)
        files = pa.table(table.get_add_actions(flatten=True))
    except TableNotFoundError:
        return None
    except Exception as error:  # deltalake has no class for all that a store may say
        raise InputError(f"{folder}: want a Delta table's log, found: {error!s:.200}") from error
    names = set(files.schema.names)
    rows = _numbers(files, "num_records")
    changed = max(_numbers(files, "modification_time", default=0), default=0)
    return TableLog(
        rows=sum(rows),
        size=sum(_numbers(files, "size_bytes")),
        changed=datetime.fromtimestamp(changed / 1000, UTC),
        nulls={name[11:]: sum(_numbers(files, name)) for name in names if name.startswith("null_count.")},
        by=_rows_by(files, rows, by) if by and f"min.{by}" in names else {},
    )


def _numbers(files: pa.Table, name: str, default: int = 0) -> list[int]:
    column = files.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", column.type.tz)).cast(pa.int64())
    return [default if value is None else int(value) for value in column.to_pylist()]


def _rows_by(files: pa.Table, rows: list[int], by: str) -> dict[str, int]:
    ends = zip(files.column(f"min.{by}").to_pylist(), files.column(f"max.{by}").to_pylist(), strict=True)
    found: Counter[str] = Counter()
    for (least, greatest), count in zip(ends, rows, strict=True):
        found[str(least) if least == greatest else SEVERAL] += count
    return dict(found)
