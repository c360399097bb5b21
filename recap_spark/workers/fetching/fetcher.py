"""Rows of urls → rows of images, each with a status"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from recap_spark.errors import AccountingError
from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.statuses import FetchStatus
from recap_spark.workers.fetching.download import Download, Request, download_all
from recap_spark.workers.pictures.decoders import Outcome, Parcel, prepare_all
from recap_spark.workers.pictures.hashes import hash_columns
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.preparing import Prepared
from recap_spark.workers.rows import rows_of, storable_text

FETCHED = pa.schema(
    [
        ("uid", pa.string()),
        ("status", pa.string()),
        ("detail", pa.string()),  # null if the status says it all
        ("bytes", pa.binary()),  # as they came, or encoded anew; null unless the status is ok
        ("sha256", pa.string()),  # of the bytes that came, null if none did
        ("sha256_matches", pa.bool_()),  # null if there are not two to compare
        ("md5", pa.string()),  # as sha256, where it is asked for
        ("sha512", pa.string()),  # likewise
        ("exif", pa.string()),  # of the bytes that came, as JSON, where it is asked for
        ("width", pa.int32()),  # of the bytes here, as stored, before EXIF turns them
        ("height", pa.int32()),
        ("format", pa.string()),
        ("attempts", pa.int32()),
        ("fetched_at", pa.timestamp("us", tz="UTC")),
    ]
)


def fetch_rows(
    batches: Iterable[pa.RecordBatch], *, settings: FetchLimits, decode: DecodeLimits, rules: PictureRules
) -> Iterator[pa.RecordBatch]:
    """Give every row of (uid, url, sha256, face_bboxes if known, and attempts if it is a retry) exactly one
    row of FETCHED.
    """
    tally: Counter[str] = Counter()
    downloads = download_all(_requests(batches, tally=tally), settings=settings)
    parcels = (Parcel(download, download.body, download.face_bboxes) for download in downloads)
    outcomes = prepare_all(parcels, rules=rules, decode=decode)
    rows = (_row(outcome, settings=settings) for outcome in outcomes)
    for batch in _batched(rows, settings=settings):
        tally["answered"] += batch.num_rows
        yield batch
    if tally["asked"] != tally["answered"]:
        raise AccountingError(f"fetch: {tally['asked']} rows in, {tally['answered']} rows out")


def _requests(batches: Iterable[pa.RecordBatch], *, tally: Counter[str]) -> Iterator[Request]:
    for batch in batches:
        for row in rows_of(batch, exact=("url",)):
            tally["asked"] += 1
            yield Request(
                uid=row["uid"],
                url=row["url"],
                sha256=row["sha256"],
                attempts=row.get("attempts") or 0,
                face_bboxes=row.get("face_bboxes") or (),
            )


def _row(outcome: Outcome[Download], *, settings: FetchLimits) -> dict[str, Any]:
    download = outcome.owner
    status, detail = download.status, download.detail
    prepared: Prepared | None = None
    if isinstance(outcome.answer, PictureError):
        # Says more than that the hash differs: a page, half a picture.
        status, detail = outcome.answer.status, outcome.answer.detail
    elif download.sha256_matches is False and settings.hash_mismatch == "refuse" and outcome.answer:
        status = FetchStatus.HASH_MISMATCH
    else:
        prepared = outcome.answer
    picture = prepared.picture if prepared else None
    return {
        "uid": download.uid,
        "status": status.value,
        # Servers' words and decoders' words end up here.
        "detail": None if detail is None else storable_text(detail),
        "bytes": prepared.encoded or download.body if prepared else None,
        "sha256": download.sha256,
        "sha256_matches": download.sha256_matches,
        **hash_columns(download.body, compute_hash=settings.compute_hash),
        "exif": prepared.exif if prepared else None,
        "width": picture.width if picture else None,
        "height": picture.height if picture else None,
        "format": picture.format if picture else None,
        "attempts": download.attempts,
        "fetched_at": download.fetched_at,
    }


def _batched(rows: Iterable[dict[str, Any]], *, settings: FetchLimits) -> Iterator[pa.RecordBatch]:
    """Close a batch as soon as its rows or bytes reach their limit; one picture alone may exceed the
    bytes.
    """
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
