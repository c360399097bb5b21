"""A Parquet file of pictures, or of the metadata of a tar's pictures → its rows"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recap_spark.workers.rows import repaired_text, rows_of
from recap_spark.workers.shards.claims import SAID, SideRows, claims_of, uid_in
from recap_spark.workers.shards.member_names import PICTURE_NAMES
from recap_spark.workers.shards.shard_files import BUFFER, FAILED, PICTURE, Described, Held, ShardFault
from recap_spark.workers.shards.shards import storage_of

_ROWS_AT_ONCE = 16  # of pictures: some megabytes
_ROWS_OF_METADATA_AT_ONCE = 4096


def side_rows(source: str, path: str) -> SideRows:
    """The rows of a tar's side file. Raises ShardFault where it is none."""
    if "key" not in (found := columns_of(source, path).names):
        raise ShardFault(f"want the column key, found {found}")
    return SideRows([(key, claims_of(said)) for key, said, _ in _rows(source, path, with_picture=False)])


def describe_parquet(source: str, path: str, *, largest_bytes: int) -> Iterator[Described]:
    """A description of every row. Pictures are read only where nothing but their bytes identifies them."""
    is_known = bool({"uid", "sha256"} & set(columns_of(source, path).names))
    for at, (key, said, body) in enumerate(_rows(source, path, with_picture=not is_known)):
        claims = claims_of(said)
        is_read = body is not None and len(body) <= largest_bytes
        yield Described(
            position=at,
            key=key,
            state=FAILED if claims.failed else PICTURE,
            claims=replace(claims, uid=claims.uid or uid_in(key)),
            own_sha256=hashlib.sha256(body).hexdigest() if body is not None and is_read else None,
        )


def parquet_pictures(
    source: str, path: str, *, wants: Callable[[int], bool], largest_bytes: int
) -> Iterator[Held]:
    """The pictures in the rows that are wanted; bodies of no more than `largest_bytes`."""
    for at, (key, _, body) in enumerate(_rows(source, path, with_picture=True)):
        if body is not None and wants(at):
            kept = body if len(body) <= largest_bytes else None
            yield Held(position=at, key=key, size=len(body), body=kept)


def picture_column(schema: pa.Schema) -> str | None:
    """The column that holds encoded pictures, None in a file of metadata alone."""
    for name in PICTURE_NAMES:
        at = schema.get_field_index(name)  # -1 for none, and for more than one
        if at >= 0 and _is_binary(schema.field(at).type):
            return name
    return None


def columns_of(source: str, path: str) -> pa.Schema:
    """A Parquet file's columns. Raises ShardFault where it is none."""
    with _opened(source, path) as file:
        return file.schema_arrow


def _rows(
    source: str, path: str, *, with_picture: bool
) -> Iterator[tuple[str, dict[str, Any], bytes | None]]:
    """Key, metadata and picture of every row; a row without a key is keyed by its number."""
    with _opened(source, path) as file:
        names = [name for name in ("key", *SAID) if _is_read(file.schema_arrow, name)]
        picture = picture_column(file.schema_arrow)
        columns = [*names, picture] if with_picture and picture else names
        size = _ROWS_AT_ONCE if with_picture else _ROWS_OF_METADATA_AT_ONCE
        at = 0
        for batch in file.iter_batches(batch_size=size, columns=columns):
            for said in rows_of(batch) if columns else [{} for _ in range(batch.num_rows)]:
                body = said.pop(picture, None) if picture else None
                yield _key(said.get("key"), at), said, body
                at += 1


def _is_read(schema: pa.Schema, name: str) -> bool:
    """Whether a column is there once, and of a type that its values can be told by."""
    at = schema.get_field_index(name)
    if at < 0:
        return False
    kind = schema.field(at).type
    return _is_text(kind) or (name == "key" and pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _key(value: object, at: int) -> str:
    if isinstance(value, bytes):
        return repaired_text(value)
    return str(at if value is None or value == "" else value)


@contextmanager
def _opened(source: str, path: str) -> Iterator[pq.ParquetFile]:
    storage, root = storage_of(source)
    with storage.open_input_file(f"{root}/{path}") as stream:
        try:
            # Without a buffer, Arrow would fetch whole row groups of pictures at once.
            with pq.ParquetFile(stream, buffer_size=BUFFER, pre_buffer=False) as file:
                yield file
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, OSError) as error:
            # The disk's errors have numbers; those without are Arrow's, on damaged pages.
            if getattr(error, "errno", None):
                raise
            raise ShardFault(f"{type(error).__name__}: {error}"[:300]) from error
