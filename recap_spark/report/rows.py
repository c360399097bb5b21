"""Rows of a query → text for a reader: a table for people, CSV or JSON lines for programs"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import IO, Any

from recap_spark.errors import InputError

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the end of a line


class RowFormat(StrEnum):
    """How `sql` prints its rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def write_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], *, form: RowFormat, out: IO[str]) -> None:
    """Write the rows as they come; a binary value as its size.

    CSV is RFC 4180's with a header, where null is empty as in Spark's; JSON is one object a line, with the
    columns' names, times by ISO 8601 and a NaN or infinity, for which JSON has no number, as null; a map
    whose keys are binary, or would fall together as text, is a list of pairs. A table shows control
    characters as `\\x1b`: alt-texts are strangers', and a terminal obeys them.

    Raises InputError for JSON of columns of which two have one name: an object would lose one.
    """
    write = {RowFormat.TABLE: _table, RowFormat.CSV: _csv, RowFormat.JSON: _json}[form]
    write(names, rows, out)


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]], out: IO[str]) -> None:
    # Here, since every command's --help imports this module for the formats.
    from rich.box import ASCII
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(*names, box=ASCII)
    for row in rows:
        grid.add_row(*(_CONTROL.sub(_escaped, _cell(value)) for value in row))
    # As wide as its rows: a terminal may cut them, a pipe must not.
    wide = Console(file=out, markup=False, highlight=False, emoji=False, width=1 << 20)
    wide.print(grid, soft_wrap=True)


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]], out: IO[str]) -> None:
    writer = csv.writer(out)
    writer.writerow(names)
    for row in rows:
        writer.writerow(["" if value is None else _cell(value) for value in row])


def _json(names: Sequence[str], rows: Iterable[Sequence[Any]], out: IO[str]) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"want columns of different names for JSON, found {', '.join(names)}: use AS")
    for row in rows:
        values = {name: _plain(value) for name, value in zip(names, row, strict=True)}
        out.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def _escaped(control: re.Match[str]) -> str:
    return f"\\x{ord(control[0]):02x}"


def _cell(value: Any) -> str:
    plain = _plain(value)
    if plain is None:
        return "null"
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """What JSON can say."""
    for kind, plain in _PLAIN.items():
        if isinstance(value, kind):
            return plain(value)
    # Intervals and variants say themselves.
    return value if isinstance(value, str | int | None) else str(value)


def _float(value: float) -> float | None:
    return value if abs(value) < float("inf") else None  # NaN is not below it either


def _row(value: Any) -> Any:
    # A struct is a Row, and a Row is a tuple.
    fields = getattr(value, "__fields__", None)
    if fields and len(set(fields)) == len(fields):
        return {name: _plain(part) for name, part in zip(fields, value, strict=True)}
    return [_plain(part) for part in value]


def _map(value: dict[Any, Any]) -> dict[str, Any] | list[list[Any]]:
    """A map as an object where its keys are texts, whole numbers, booleans or dates, each of which has one
    form in JSON; else as its pairs: of binary keys, say, only the sizes are shown. An empty map is an object.
    """
    shown = {key: _plain(part) for key, part in value.items()}
    if all(isinstance(key, str | int | date) for key in shown):  # bool is an int, a datetime is a date
        return {str(_plain(key)): part for key, part in shown.items()}
    return [[_plain(key), part] for key, part in shown.items()]


_PLAIN: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: f"{len(value)} bytes",
    bytearray: lambda value: f"{len(value)} bytes",
    float: _float,
    Decimal: str,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    dict: _map,
    list: _row,
    tuple: _row,
}
