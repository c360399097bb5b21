"""Rows of a view, sorted by shard → files of them, each under its name only once it is whole"""

from __future__ import annotations

import io
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from recap_spark.errors import InputError
from recap_spark.settings.pictures import DecodeLimits
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.pixel_decoders import PixelDecoders
from recap_spark.workers.rows import Row, rows_of
from recap_spark.workers.shards.export_layout import Fields, files_of, source_of
from recap_spark.workers.shards.sinks import Sink, open_sink

SOURCES = ("original", "recaption", "fallback")
"""Where a drawn caption is from; fallback: the drawn one is missing, and the other stands in."""

WRITTEN = pa.schema(
    [("format", pa.string()), ("name", pa.string())]
    + [(count, pa.int64()) for count in ("rows", *SOURCES, "undecodable")]
)

_SCHEMES = {"s3a": "s3", "s3n": "s3"}  # Hadoop's names for what Arrow calls s3


@dataclass(frozen=True, kw_only=True)
class ShardFormat:
    """Where shards go, what they say of each picture, and what their pictures are encoded as where they are
    no JPEG yet.
    """

    folder: str  # path or URL that pyarrow knows
    formats: tuple[str, ...]
    jpeg_quality: int
    decode: DecodeLimits  # of pictures that are no JPEG
    fields: Fields


def write_shards(batches: Iterable[pa.RecordBatch], *, shards: ShardFormat) -> Iterator[pa.RecordBatch]:
    """Write every shard of the partition in every format, and each further epoch's captions. One row of
    WRITTEN for each file, with its own epoch's sources.

    The same rows make the same bytes, unless a decoder ran out of time or memory: members are in uid order
    and carry no times or owners.
    """
    rows = (row for batch in batches for row in rows_of(batch))
    with closing(PixelDecoders(shards.decode)) as decoders:
        for shard, members in groupby(rows, key=lambda row: row["shard"]):
            jpegs = ((row, _as_jpeg(row, decoders, quality=shards.jpeg_quality)) for row in members)
            yield pa.RecordBatch.from_pylist(_write_shard(shard, jpegs, shards), schema=WRITTEN)


def _write_shard(shard: int, rows: Iterable[tuple[Row, bytes | None]], shards: ShardFormat) -> list[Row]:
    files = files_of(shard, shards.formats, shards.fields)
    sources = {kind: "source" for kind in files} | {
        f"captions/epoch-{epoch}": source_of(epoch) for epoch in shards.fields.own_epochs
    }
    columns = set(sources.values())
    counts: Counter[tuple[str, str]] = Counter()  # of a column and its value
    undecodable = 0
    with _opened_all(files, shards) as sinks:
        for row, jpg in rows:
            if jpg is None:
                undecodable += 1
                continue
            for sink in sinks:
                sink(row, jpg)
            counts.update((column, row[column]) for column in columns)
    return [
        _written(kind, name, {end: counts[sources[kind], end] for end in SOURCES}, undecodable)
        for kind, name in files.items()
    ]


def _written(kind: str, name: str, by_source: dict[str, int], undecodable: int) -> Row:
    rows = sum(by_source.values())
    return {"format": kind, "name": name, "rows": rows, "undecodable": undecodable} | by_source


@contextmanager
def _opened_all(names: dict[str, str], shards: ShardFormat) -> Iterator[list[Sink]]:
    """One sink for each file; the files get their names when all rows are in, or not at all."""
    storage, root = storage_of(shards.folder)
    partial = {name: f"{root}/_{uuid.uuid4().hex}-{Path(name).name}" for name in names.values()}
    storage.create_dir(root, recursive=True)
    try:
        with ExitStack() as files:
            yield [
                files.enter_context(open_sink(kind, storage, partial[name], shards.fields))
                for kind, name in names.items()
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
