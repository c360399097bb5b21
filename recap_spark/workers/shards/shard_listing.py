"""A folder or URL → the shards that are in it"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from pyarrow import fs

from recap_spark.errors import InputError
from recap_spark.workers.shards.export_layout import CAPTIONS_FILE
from recap_spark.workers.shards.shard_files import is_tar, without_suffix
from recap_spark.workers.shards.shards import storage_of


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A file of pictures as a listing shows it."""

    path: str  # below the source
    size: int
    modified_ns: int  # since 1970; 0 where the storage keeps no times
    side: str | None  # the Parquet file beside a tar


def list_shards(source: str) -> list[ShardFile]:
    """The shards of a folder, on any file system that Arrow reads, in the order of their names.

    Names that begin with `_` or `.` are left out as unfinished, and an export's files of captions as they
    have no pictures. Raises InputError where there are no shards.
    """
    storage, root = storage_of(source)
    if storage.get_file_info(root).type != fs.FileType.Directory:
        raise InputError(f"import_images.source: want a folder of shards, found none at {source!r}")
    found = {
        str(PurePosixPath(info.path).relative_to(root)): info
        for info in storage.get_file_info(fs.FileSelector(root, recursive=True))
        if info.is_file
    }
    shown = {path: info for path, info in found.items() if not re.search(rf"(^|/)[_.]|{CAPTIONS_FILE}", path)}
    tars = {without_suffix(path) for path in shown if is_tar(path)}
    shards = [
        ShardFile(path=path, size=info.size, modified_ns=info.mtime_ns or 0, side=_side(path, shown))
        for path, info in sorted(shown.items())
        if is_tar(path) or (path.endswith(".parquet") and without_suffix(path) not in tars)
    ]
    if not shards:
        raise InputError(f"import_images.source: want .tar or .parquet files, found none in {source!r}")
    return shards


def _side(path: str, shown: dict[str, fs.FileInfo]) -> str | None:
    beside = without_suffix(path) + ".parquet"
    return beside if is_tar(path) and beside in shown else None
