"""rows with a uid → a subset file of DataComp's"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from pyspark.sql import DataFrame

from recap_spark.errors import InputError
from recap_spark.workers.shards.shards import storage_of
from recap_spark.workers.shards.subsets import UIDS, pack_uids

_COPIED_AT_ONCE = 1 << 22


def write_subset(rows: DataFrame, output: str) -> int:
    """Write the column `uid`, sorted, with the bytes of numpy.save. The file gets its name once it is
    complete.

    A uid that occurs several times is kept as often: DataComp's resharder then repeats its sample. Returns
    the number of uids written. Raises InputError where there is no such column, or a value is null or not 32
    lower-case hexadecimal digits.
    """
    if "uid" not in rows.columns:
        raise InputError(f"write-subset: want a column uid, found {rows.columns}")
    if not output.endswith(".npy"):
        raise InputError(f"write-subset: want an output that ends in .npy, found {output!r}")
    # On the driver's disk first: the header before the data says how many there are.
    with tempfile.TemporaryFile() as spool:
        written = _spool(rows, spool)
        spool.seek(0)
        _publish(spool, written, output)
    return written


def _spool(rows: DataFrame, spool: IO[bytes]) -> int:
    """16 bytes a uid, in order. Hexadecimal digits sort as the numbers that they are."""
    packed = rows.select("uid").orderBy("uid").mapInArrow(pack_uids, "packed binary, refused string")
    for row in packed.toLocalIterator():
        if row["refused"] is not None:
            raise InputError(f"write-subset: want 32 lower-case hexadecimal digits, found {row['refused']}")
        spool.write(row["packed"])
    return spool.tell() // UIDS.itemsize


def _publish(spool: IO[bytes], uids: int, output: str) -> None:
    storage, path = storage_of(output)
    parent = Path(path).parent
    partial = f"{parent}/_{uuid.uuid4().hex}.npy"
    storage.create_dir(str(parent), recursive=True)
    header = {"descr": np.lib.format.dtype_to_descr(UIDS), "fortran_order": False, "shape": (uids,)}
    try:
        with storage.open_output_stream(partial) as file:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(spool, file, _COPIED_AT_ONCE)
        storage.move(partial, path)
    except BaseException:
        with suppress(OSError):  # it may never have been made
            storage.delete_file(partial)
        raise
