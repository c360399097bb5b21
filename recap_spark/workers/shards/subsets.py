"""DataComp's subset files: uids as two unsigned 64-bit halves, sorted (mlfoundations/datacomp, resharder.py)

The resharder searches such a file by bisection and repeats a sample as often as its uid is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recap_spark.errors import InputError
from recap_spark.workers.rows import values_of

UIDS = np.dtype("u8,u8")

PACKED = pa.schema([("packed", pa.binary()), ("refused", pa.string())])
"""Uids as the file holds them; or, instead, one that is no uid."""

Halves = npt.NDArray[np.void]

_UID = re.compile(r"[0-9a-f]{32}")
_PACKED_AT_ONCE = 1 << 18  # uids: 4 MiB
_CHECKED_AT_ONCE = 1 << 22


def open_subset(path: str) -> Halves:
    """The uids of a subset file, mapped into memory and shared by all processes of a machine.

    Raises InputError where it is not there, or is not of DataComp's format.
    """
    try:
        found = Path(path).stat()
        return _opened(path, (found.st_mtime_ns, found.st_size, found.st_ino))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"ingest.subset: want a readable .npy, found {path!r}: {error}") from error


@lru_cache(maxsize=1)
def _opened(path: str, version: tuple[int, ...]) -> Halves:
    """Once for all batches of a worker, and again where another file has come in its place."""
    uids: Halves = np.load(path, mmap_mode="r", allow_pickle=False)
    if uids.dtype != UIDS or uids.ndim != 1:
        found = f"{uids.dtype} in {uids.ndim} dimensions"
        raise InputError(f"ingest.subset: want one dimension of {UIDS}, found {found} in {path!r}")
    return uids


def check_sorted(uids: Halves, *, path: str) -> None:
    """Raises InputError naming the first uid that is smaller than the one before it: bisection would miss
    it.
    """
    for first in range(0, len(uids), _CHECKED_AT_ONCE):
        some = uids[first : first + _CHECKED_AT_ONCE + 1]  # one more, to compare across the seam
        high, low = some["f0"], some["f1"]
        falls = (high[1:] < high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] < low[:-1]))
        if falls.any():
            at = first + int(falls.argmax()) + 1
            raise InputError(f"ingest.subset: want sorted uids, found entry {at} out of order in {path!r}")


def halves(uids: Sequence[str]) -> Halves:
    """uids, each 32 hexadecimal digits, as the file holds them."""
    digits = np.frombuffer(bytes.fromhex("".join(uids)), dtype=">u8").reshape(-1, 2)
    packed = np.empty(len(uids), dtype=UIDS)
    packed["f0"], packed["f1"] = digits[:, 0], digits[:, 1]
    return packed


def contains(subset: Halves, uids: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of the uids the sorted subset holds."""
    if not len(subset) or not len(uids):
        return np.zeros(len(uids), dtype=np.bool_)
    wanted = halves(uids)
    at = np.minimum(np.searchsorted(subset, wanted), len(subset) - 1)
    found: npt.NDArray[np.bool_] = np.asarray(subset[at] == wanted)
    return found


def pack_uids(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows of PACKED, each with many uids, for rows of (uid), in their order."""
    held: list[Any] = []
    for batch in batches:
        for uid in values_of(batch.column(0)):
            if uid is None or not _UID.fullmatch(uid):
                yield _packed(None, "null" if uid is None else repr(uid[:80]))
                return
            held.append(uid)
        if len(held) >= _PACKED_AT_ONCE:
            yield _packed(halves(held).tobytes(), None)
            held = []
    if held:
        yield _packed(halves(held).tobytes(), None)


def _packed(packed: bytes | None, refused: str | None) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"packed": packed, "refused": refused}], schema=PACKED)
