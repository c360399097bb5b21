"""Arrow batches → Python rows, whatever bytes their strings hold

Delta and Spark keep a string's bytes as they came and check none, so tables and foreign Parquet files may
hold strings that are no UTF-8; Python's strings cannot.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa

Row = dict[str, Any]


def rows_of(batch: pa.RecordBatch, *, exact: Collection[str] = ()) -> list[Row]:
    """A batch's rows. Strings that are no UTF-8 are repaired, as `repaired_text` does it.

    In the columns of `exact`, where a repair would give another value, invalid bytes become lone surrogates
    instead (Python's surrogateescape), which no later step takes for valid text.
    """
    try:
        rows: list[Row] = batch.to_pylist()
    except UnicodeDecodeError:
        names = batch.schema.names
        columns = [
            values_of(array, exact=name in exact) for name, array in zip(names, batch.columns, strict=True)
        ]
        rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return rows


def values_of(array: pa.Array, *, exact: bool = False) -> list[Any]:
    """A column's values, strings as in `rows_of`."""
    try:
        values: list[Any] = array.to_pylist()
    except UnicodeDecodeError:
        found = array.cast(_bytes_for_strings(array.type)).to_pylist()
        values = [_with_strings(value, array.type, exact=exact) for value in found]
    return values


def repaired_text(encoded: bytes) -> str:
    """Text of UTF-8 as it is; of damaged UTF-8 with U+FFFD in place of the damage; else of Windows-1252, the
    web's second encoding, which contains Latin-1's letters; else what is ASCII, with U+FFFD for the rest.
    """
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        damaged = encoded.decode(errors="replace")
    # Other encodings' bytes hardly ever make a letter of UTF-8: a text with some is UTF-8, cut or damaged.
    if any("\x7f" < letter != "\ufffd" for letter in damaged):
        return damaged
    try:
        return encoded.decode("cp1252")
    except UnicodeDecodeError:
        return damaged


def storable_text(text: str) -> str:
    """The same text, with `?` for the lone surrogates that Arrow's strings cannot hold."""
    return text.encode(errors="replace").decode()


def _bytes_for_strings(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        of = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return of(kind.value_field.with_type(_bytes_for_strings(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_bytes_for_strings(field.type)) for field in kind])
    if pa.types.is_dictionary(kind):
        return _bytes_for_strings(kind.value_type)
    return kind


def _with_strings(value: Any, kind: pa.DataType, *, exact: bool) -> Any:
    if value is None:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return value.decode(errors="surrogateescape") if exact else repaired_text(value)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_with_strings(one, kind.value_type, exact=exact) for one in value]
    if pa.types.is_struct(kind):
        return {field.name: _with_strings(value[field.name], field.type, exact=exact) for field in kind}
    if pa.types.is_dictionary(kind):
        return _with_strings(value, kind.value_type, exact=exact)
    return value
