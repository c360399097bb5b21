"""Rows of urls → rows of images, each with a status"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from recap_spark.errors import AccountingError
from recap_spark.statuses import FetchStatus
from recap_spark.workers.download import Download, Request, download_all
from recap_spark.workers.limits import FetchLimits
from recap_spark.workers.pictures import Picture, PictureError, examine

FETCHED = pa.schema(
    [
        ("uid", pa.string()),
        ("status", pa.string()),
        ("detail", pa.string()),  # null if the status says it all
        ("bytes", pa.binary()),  # null unless the status is ok
        ("sha256", pa.string()),  # of the bytes that came, null if none did
        ("sha256_matches", pa.bool_()),  # null if there are not two to compare
        ("width", pa.int32()),  # as stored, before EXIF turns it
        ("height", pa.int32()),
        ("format", pa.string()),
        ("attempts", pa.int32()),
        ("fetched_at", pa.timestamp("us", tz="UTC")),
    ]
)


def fetch_rows(batches: Iterable[pa.RecordBatch], *, settings: FetchLimits) -> Iterator[pa.RecordBatch]:
    """Give every row of (uid, url, sha256, and attempts if it is a retry) exactly one row of FETCHED."""
    tally: Counter[str] = Counter()
    downloads = download_all(_requests(batches, tally=tally), settings=settings)
    rows = (_row(download, settings=settings) for download in downloads)
    for batch in _batched(rows, settings=settings):
        tally["answered"] += batch.num_rows
        yield batch
    if tally["asked"] != tally["answered"]:
        raise AccountingError(f"fetch: {tally['asked']} rows in, {tally['answered']} rows out")


def _requests(batches: Iterable[pa.RecordBatch], *, tally: Counter[str]) -> Iterator[Request]:
    for batch in batches:
        for row in batch.to_pylist():
            tally["asked"] += 1
            attempts = row.get("attempts") or 0
            yield Request(uid=row["uid"], url=row["url"], sha256=row["sha256"], attempts=attempts)


def _row(download: Download, *, settings: FetchLimits) -> dict[str, Any]:
    status, detail = download.status, download.detail
    picture: Picture | None = None
    if download.body is not None:
        try:
            picture = examine(download.body, largest_pixels=settings.largest_pixels)
        except PictureError as error:
            # Says more than that the hash differs: a page, half a picture.
            status, detail = error.status, error.detail
        if picture and download.sha256_matches is False and settings.hash_mismatch == "refuse":
            picture, status = None, FetchStatus.HASH_MISMATCH
    return {
        "uid": download.uid,
        "status": status.value,
        # Servers' words and decoders' words end up here; Arrow takes no lone surrogates.
        "detail": None if detail is None else detail.encode(errors="replace").decode(),
        "bytes": download.body if picture else None,
        "sha256": download.sha256,
        "sha256_matches": download.sha256_matches,
        "width": picture.width if picture else None,
        "height": picture.height if picture else None,
        "format": picture.format if picture else None,
        "attempts": download.attempts,
        "fetched_at": download.fetched_at,
    }


def _batched(rows: Iterable[dict[str, Any]], *, settings: FetchLimits) -> Iterator[pa.RecordBatch]:
    """Close a batch as soon as it is full by rows or by bytes; one picture may exceed the bytes alone."""
    held: list[dict[str, Any]] = []
    held_bytes = 0
    for row in rows:
        size = len(row["bytes"] or b"")
        if held and held_bytes + size > settings.batch_bytes:
            yield pa.RecordBatch.from_pylist(held, schema=FETCHED)
            held, held_bytes = [], 0
        held.append(row)
        held_bytes += size
        if len(held) >= settings.batch_rows:
            yield pa.RecordBatch.from_pylist(held, schema=FETCHED)
            held, held_bytes = [], 0
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=FETCHED)
