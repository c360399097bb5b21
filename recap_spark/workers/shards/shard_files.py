"""Files that img2dataset wrote → the pictures they hold, and what each says of itself

A shard is `NNNNN.tar` of `KEY.jpg`, `KEY.json` and `KEY.txt`, with the side file `NNNNN.parquet` of its
metadata; or a Parquet file with the pictures in a column (img2dataset 1.47, writer.py). DataComp's resharder
writes tars whose keys are uids (datacomp, resharder.py), and so does this project's export.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recap_spark.workers.shards.shards import storage_of
from recap_spark.workers.shards.tars import Member, TarFault, members

PICTURE_NAMES = ("jpg", "jpeg", "png", "webp")
"""Suffixes of picture members, and names of picture columns."""

_LARGEST_JSON = 1 << 20  # img2dataset's has one of CommonPool's texts, EXIF and a few numbers
_BUFFER = 1 << 20
_ROWS_AT_ONCE = 16  # of pictures in Parquet: some megabytes
_ROWS_OF_METADATA_AT_ONCE = 4096
_UID = re.compile(r"[0-9a-f]{32}")
_UID_KEY = re.compile(r"([0-9a-f]{32})(?:-\d+)?")  # the resharder numbers the repeats of a sample
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ShardFault(Exception):  # noqa: N818  the field's word for what is wrong with a file
    """The file, or the rest of it, cannot be read. What was read before stands."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a shard says of one picture. Either may be wrong: it is a claim."""

    key: str
    uid: str | None
    sha256: str | None  # of the bytes as they were downloaded, before img2dataset resized them
    failed: bool = False  # img2dataset has no picture of this row


@dataclass(frozen=True, kw_only=True)
class Held:
    """One picture of a shard, with what stands beside it."""

    described: Described
    size: int
    body: bytes | None  # None where it was not asked for


def described_by(source: str, path: str, *, side: str | None) -> Iterator[Described]:
    """What a shard says of every picture, without the pictures: by its side file where there is one.

    Raises ShardFault at the place where the file stops being readable.
    """
    if side is not None:
        if "key" not in (found := columns_of(source, side).names):
            raise ShardFault(f"want the column key, found {found}")
        yield from _rows_described(source, side)
    elif path.endswith(".tar"):
        for held in _in_tar(source, path, wants=lambda key: False, largest_bytes=0):
            yield held.described
    else:
        yield from _rows_described(source, path)


def pictures_of(
    source: str, path: str, *, wants: Callable[[str], bool], largest_bytes: int
) -> Iterator[Held]:
    """The pictures of a shard in order; bodies only of keys that `wants` and of no more than `largest_bytes`.

    Raises ShardFault at the place where the file stops being readable.
    """
    if path.endswith(".tar"):
        return _in_tar(source, path, wants=wants, largest_bytes=largest_bytes)
    return _in_parquet(source, path, wants=wants, largest_bytes=largest_bytes)


def _in_tar(source: str, path: str, *, wants: Callable[[str], bool], largest_bytes: int) -> Iterator[Held]:
    """Members of one key stand together (the WebDataset rule); of several pictures the first counts."""

    def is_read(name: str, size: int) -> bool:
        key, suffix = _key_and_suffix(name)
        if suffix == "json":
            return size <= _LARGEST_JSON
        return suffix in PICTURE_NAMES and size <= largest_bytes and wants(key)

    storage, root = storage_of(source)
    with storage.open_input_stream(f"{root}/{path}", compression=None, buffer_size=_BUFFER) as stream:
        together: dict[str, Member] = {}
        current = ""
        try:
            for member in members(stream, wants=is_read):
                key, suffix = _key_and_suffix(member.name)
                kind = "picture" if suffix in PICTURE_NAMES else suffix
                if key != current:
                    yield from _held(current, together)
                    current, together = key, {}
                if kind in ("picture", "json"):
                    together.setdefault(kind, member)
        except TarFault as fault:
            if "json" in together:  # img2dataset's last member of a key
                yield from _held(current, together)
            raise ShardFault(str(fault)) from fault
        yield from _held(current, together)


def _key_and_suffix(name: str) -> tuple[str, str]:
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _held(key: str, together: dict[str, Member]) -> Iterator[Held]:
    if picture := together.get("picture"):
        said = _read_json(together["json"].body) if "json" in together else {}
        yield Held(described=_described(key, said), size=picture.size, body=picture.body)


def _read_json(body: bytes | None) -> dict[str, Any]:
    """An object's values; nothing where it is no JSON object, as a picture without metadata."""
    try:
        said = json.loads(body or b"{}")
    except (ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, or a number of thousands of digits
        return {}
    return said if isinstance(said, dict) else {}


def _described(key: str, said: dict[str, Any]) -> Described:
    name = _UID_KEY.fullmatch(key.rpartition("/")[2])
    uid = _matching(_UID, said.get("uid")) or (name.group(1) if name else None)
    failed = said.get("status") not in (None, "success")
    return Described(key=key, uid=uid, sha256=_matching(_SHA256, said.get("sha256")), failed=failed)


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _rows_described(source: str, path: str) -> Iterator[Described]:
    for key, said, _ in _rows(source, path, with_picture=False):
        yield _described(key, said)


def _in_parquet(
    source: str, path: str, *, wants: Callable[[str], bool], largest_bytes: int
) -> Iterator[Held]:
    for key, said, body in _rows(source, path, with_picture=True):
        if body is not None and wants(key):
            kept = body if len(body) <= largest_bytes else None
            yield Held(described=_described(key, said), size=len(body), body=kept)


def _rows(
    source: str, path: str, *, with_picture: bool
) -> Iterator[tuple[str, dict[str, Any], bytes | None]]:
    """Key, metadata and picture of every row; a file without keys is keyed by row."""
    with _opened(source, path) as file:
        names = {
            field.name for field in file.schema_arrow if field.name in ("key", "uid", "sha256", "status")
        }
        picture = picture_column(file.schema_arrow)
        columns = [*names, picture] if with_picture and picture else list(names)
        size = _ROWS_AT_ONCE if with_picture else _ROWS_OF_METADATA_AT_ONCE
        at = 0
        for batch in file.iter_batches(batch_size=size, columns=columns):
            for said in batch.to_pylist() if columns else [{} for _ in range(batch.num_rows)]:
                body = said.pop(picture, None) if picture else None
                yield str(said.get("key") or at), said, body
                at += 1


def picture_column(schema: pa.Schema) -> str | None:
    """The column that holds encoded pictures, None in a file of metadata alone."""
    for name in PICTURE_NAMES:
        at = schema.get_field_index(name)
        if at >= 0 and (
            pa.types.is_binary(schema.field(at).type) or pa.types.is_large_binary(schema.field(at).type)
        ):
            return name
    return None


def columns_of(source: str, path: str) -> pa.Schema:
    """A Parquet file's columns. Raises ShardFault where it is none."""
    with _opened(source, path) as file:
        return file.schema_arrow


@contextmanager
def _opened(source: str, path: str) -> Iterator[pq.ParquetFile]:
    storage, root = storage_of(source)
    with storage.open_input_file(f"{root}/{path}") as stream:
        try:
            # Without a buffer, Arrow would fetch whole row groups of pictures at once.
            with pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False) as file:
                yield file
        except (pa.ArrowInvalid, OSError) as error:
            # The disk's errors have numbers; those without are Arrow's, on damaged pages.
            if getattr(error, "errno", None):
                raise
            raise ShardFault(f"{type(error).__name__}: {error}"[:300]) from error
