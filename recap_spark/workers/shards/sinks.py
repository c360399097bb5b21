"""One open file of a shard, row by row: a tar, Parquet with pictures, or Parquet with captions alone"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from recap_spark.workers.rows import Row
from recap_spark.workers.shards.export_layout import Fields, caption_of, source_of

_PICTURES_PER_GROUP = 256
_CAPTIONS_PER_GROUP = 10_000  # some megabytes
_CAPTIONS = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("uid", "caption", "source")])


class Sink(Protocol):
    """Takes the rows of one shard, each with its picture."""

    def __call__(self, row: Row, jpg: bytes) -> None: ...


def open_sink(kind: str, storage: fs.FileSystem, path: str, fields: Fields) -> AbstractContextManager[Sink]:
    """A new file of a kind that `files_of` names."""
    if kind == "webdataset":
        return _tar(storage, path, fields)
    if kind == "parquet":
        columns = {name: name for name in fields.columns.names}
        return _parquet(storage, path, fields.columns, columns, rows_per_group=_PICTURES_PER_GROUP)
    epoch = int(kind.rpartition("-")[2])
    columns = {"uid": "uid", "caption": caption_of(epoch), "source": source_of(epoch)}
    return _parquet(storage, path, _CAPTIONS, columns, rows_per_group=_CAPTIONS_PER_GROUP)


@contextmanager
def _tar(storage: fs.FileSystem, path: str, fields: Fields) -> Iterator[Sink]:
    # WebDataset's own writer is this, and imports torch first: 400 MB and seconds for every worker.
    with storage.open_output_stream(path) as file, tarfile.open(fileobj=file, mode="w|") as tar:

        def write(row: Row, jpg: bytes) -> None:
            described = json.dumps(fields.described(row), ensure_ascii=False, sort_keys=True).encode()
            members = {"jpg": jpg, "json": described, "txt": row["caption"].encode()}
            for suffix, body in members.items():
                member = tarfile.TarInfo(
                    f"{row['uid']}.{suffix}"
                )  # nobody's, of no time: equal rows, equal bytes
                member.size = len(body)
                member.mode = 0o444
                tar.addfile(member, io.BytesIO(body))

        yield write


@contextmanager
def _parquet(
    storage: fs.FileSystem, path: str, schema: pa.Schema, columns: Mapping[str, str], *, rows_per_group: int
) -> Iterator[Sink]:
    """`columns` names each column's value in a row; `jpg` is the picture."""
    # JPEG does not compress again; beside it the texts are a small part.
    compression = "none" if "jpg" in columns else "zstd"
    with (
        storage.open_output_stream(path) as file,
        pq.ParquetWriter(file, schema, compression=compression) as writer,
    ):
        held: list[Row] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(held, schema=schema))
            held.clear()

        def write(row: Row, jpg: bytes) -> None:
            held.append({name: jpg if name == "jpg" else row[of] for name, of in columns.items()})
            if len(held) == rows_per_group:
                flush()

        yield write
        if held:
            flush()
