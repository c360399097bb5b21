"""Rows of a view, sorted by shard → files of them, each under its name only once it is whole"""

from __future__ import annotations

import io
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from recap_spark.errors import InputError
from recap_spark.settings.pictures import DecodeLimits
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.pixel_decoders import PixelDecoders
from recap_spark.workers.rows import Row, rows_of

WRITTEN = pa.schema(
    [
        ("format", pa.string()),
        ("name", pa.string()),
        ("rows", pa.int64()),
        ("original", pa.int64()),
        ("recaption", pa.int64()),
        ("fallback", pa.int64()),
        ("undecodable", pa.int64()),
    ]
)

_SCHEMES = {"s3a": "s3", "s3n": "s3"}  # Hadoop's names for what Arrow calls s3
_SUFFIXES = {"webdataset": "tar", "parquet": "parquet"}
_TEXTS = ("uid", "url", "org_caption", "re_caption", "sha256")
_ROWS_PER_GROUP = 256
_COLUMNS = pa.schema(
    [(name, pa.string()) for name in (*_TEXTS, "caption", "source")] + [("jpg", pa.binary())]
)


@dataclass(frozen=True, kw_only=True)
class ShardFormat:
    """Where shards go and what their pictures are encoded as where they are no JPEG yet."""

    folder: str  # path or URL that pyarrow knows
    formats: tuple[str, ...]
    jpeg_quality: int
    decode: DecodeLimits  # of pictures that are no JPEG


class Sink(Protocol):
    """Takes the rows of one shard."""

    def __call__(self, row: Row, jpg: bytes) -> None: ...


def write_shards(batches: Iterable[pa.RecordBatch], *, shards: ShardFormat) -> Iterator[pa.RecordBatch]:
    """Write every shard of the partition in every format. One row of WRITTEN for each file.

    The same rows make the same bytes, unless a decoder ran out of time or memory: members are in uid order
    and carry no times or owners.
    """
    rows = (row for batch in batches for row in rows_of(batch))
    with closing(PixelDecoders(shards.decode)) as decoders:
        for shard, members in groupby(rows, key=lambda row: row["shard"]):
            jpegs = ((row, _as_jpeg(row, decoders, quality=shards.jpeg_quality)) for row in members)
            yield pa.RecordBatch.from_pylist(_write_shard(shard, jpegs, shards), schema=WRITTEN)


def _write_shard(shard: int, rows: Iterable[tuple[Row, bytes | None]], shards: ShardFormat) -> list[Row]:
    names = {kind: f"{kind}/{shard:08d}.{_SUFFIXES[kind]}" for kind in shards.formats}
    counts: Counter[str] = Counter()
    with _opened_all(names, shards) as sinks:
        for row, jpg in rows:
            if jpg is None:
                counts["undecodable"] += 1
                continue
            for sink in sinks:
                sink(row, jpg)
            counts[row["source"]] += 1
    ended = {end: counts[end] for end in ("original", "recaption", "fallback", "undecodable")}
    written = counts.total() - counts["undecodable"]
    return [{"format": kind, "name": name, "rows": written, **ended} for kind, name in names.items()]


@contextmanager
def _opened_all(names: dict[str, str], shards: ShardFormat) -> Iterator[list[Sink]]:
    """One sink for each format; the files get their names when all rows are in, or not at all."""
    storage, root = storage_of(shards.folder)
    partial = {name: f"{root}/_{uuid.uuid4().hex}-{Path(name).name}" for name in names.values()}
    storage.create_dir(root, recursive=True)
    try:
        with ExitStack() as files:
            yield [
                files.enter_context(_OPENERS[kind](storage, partial[name])) for kind, name in names.items()
            ]
    except BaseException:
        for path in partial.values():
            if storage.get_file_info(path).is_file:
                storage.delete_file(path)
        raise
    for name in names.values():
        storage.create_dir(f"{root}/{Path(name).parent}", recursive=True)
        storage.move(partial[name], f"{root}/{name}")


def storage_of(folder: str) -> tuple[fs.FileSystem, str]:
    """The Arrow file system of a folder or URL, and its path there."""
    scheme, colon, rest = folder.partition(":/")
    if not colon or "/" in scheme:
        return fs.LocalFileSystem(), str(Path(folder).resolve())
    try:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(f"{_SCHEMES.get(scheme, scheme)}:/{rest}")
    except pa.ArrowInvalid as error:
        raise InputError(
            f"want a folder or URL that Arrow can write to, found {folder!r}: {error}"
        ) from error
    return found


@contextmanager
def _tar(storage: fs.FileSystem, path: str) -> Iterator[Sink]:
    # It imports torch, seconds that a driver and a worker of other stages need not spend.
    from webdataset.writer import TarWriter

    with storage.open_output_stream(path) as file, TarWriter(file, encoder=False, mtime=0.0) as tar:

        def write(row: Row, jpg: bytes) -> None:
            texts = {name: row[name] for name in _TEXTS}
            described = json.dumps(texts, ensure_ascii=False, sort_keys=True).encode()
            tar.write({"__key__": row["uid"], "jpg": jpg, "json": described, "txt": row["caption"].encode()})

        yield write


@contextmanager
def _parquet(storage: fs.FileSystem, path: str) -> Iterator[Sink]:
    # JPEG does not compress again; the texts are a small part.
    with (
        storage.open_output_stream(path) as file,
        pq.ParquetWriter(file, _COLUMNS, compression="none") as writer,
    ):
        held: list[Row] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(held, schema=_COLUMNS))
            held.clear()

        def write(row: Row, jpg: bytes) -> None:
            held.append({name: row[name] for name in (*_TEXTS, "caption", "source")} | {"jpg": jpg})
            if len(held) == _ROWS_PER_GROUP:
                flush()

        yield write
        if held:
            flush()


_OPENERS = {"webdataset": _tar, "parquet": _parquet}


def _as_jpeg(row: Row, decoders: PixelDecoders, *, quality: int) -> bytes | None:
    """A JPEG as it came; anything else decoded by the usual rules and encoded once.

    None for what does not decode, and for what no JPEG can hold: its sides end at 65,500 pixels.
    """
    encoded: bytes = row["bytes"]
    if row["format"] == "jpeg":
        return encoded
    out = io.BytesIO()
    try:
        picture = decoders.decode(encoded)
    except PictureError:
        return None
    try:
        picture.save(out, "JPEG", quality=quality)
    except OSError:
        return None
    return out.getvalue()
