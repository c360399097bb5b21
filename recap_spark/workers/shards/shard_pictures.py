"""Shards → what each says of its pictures; shards and the samples they are wanted for → rows of images"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.statuses import FetchStatus, RejectReason
from recap_spark.workers.fetching.fetcher import FETCHED
from recap_spark.workers.fetching.urls import opt_out
from recap_spark.workers.partition import ahead
from recap_spark.workers.pictures.decoders import Outcome, Parcel, prepare_all
from recap_spark.workers.pictures.faces import Box
from recap_spark.workers.pictures.hashes import hash_columns
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.preparing import Prepared
from recap_spark.workers.rows import Row
from recap_spark.workers.shards.shard_files import (
    Described,
    Held,
    ShardFault,
    columns_of,
    described_by,
    picture_column,
    pictures_of,
)

PICTURE, FAILED = "picture", "failed"
"""States of a described picture: it should be in the shard, or img2dataset could not get it. A third kind of
state is a RejectReason: of the file, not of a picture."""

DESCRIBED = pa.schema(
    [
        ("file", pa.string()),
        ("position", pa.int64()),  # among the shard's pictures, from 0; null for a fault
        ("key", pa.string()),
        ("uid", pa.string()),
        ("sha256", pa.string()),
        ("state", pa.string()),
        ("detail", pa.string()),
    ]
)
_DESCRIBED_AT_ONCE = 4096
_READ_AHEAD = 4  # pictures drawn from a shard while others are decoded


@dataclass(frozen=True)
class _Want:
    """A sample that a shard's picture is for."""

    uid: str
    expected: str | None  # sha256, as the metadata has it
    recorded: str | None  # sha256, as the shard has it
    url: str
    faces: tuple[Box, ...]


@dataclass(frozen=True)
class _Meant:
    """A picture, and the samples that it is for. They agree on its faces."""

    held: Held
    wants: list[_Want]


def describe_shards(batches: Iterable[pa.RecordBatch], *, source: str) -> Iterator[pa.RecordBatch]:
    """Rows of DESCRIBED for files of (file, side): one for every picture, and one for every fault."""
    rows: list[Row] = []
    for batch in batches:
        for shard in batch.to_pylist():
            for row in _describe(source, shard["file"], shard["side"]):
                rows.append(row)
                if len(rows) == _DESCRIBED_AT_ONCE:
                    yield pa.RecordBatch.from_pylist(rows, schema=DESCRIBED)
                    rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=DESCRIBED)


def read_shards(
    batches: Iterable[pa.RecordBatch],
    *,
    source: str,
    limits: FetchLimits,
    decode: DecodeLimits,
    rules: PictureRules,
) -> Iterator[pa.RecordBatch]:
    """Rows of FETCHED for files of (file, wanted), where `wanted` lists (key, uid, expected, recorded, url,
    face_bboxes). Pictures are prepared as fetched ones are, and those of opted-out urls left out.

    A picture that is not in its shard, or is another one than was described, has no row.
    """
    # Row by row: what is wanted of one shard is some megabytes as Python objects, of a batch a gigabyte.
    shards = (batch.slice(at, 1).to_pylist()[0] for batch in batches for at in range(batch.num_rows))
    parcels = (
        Parcel(meant, meant.held.body, meant.wants[0].faces)
        for shard in shards
        for meant in _meant(source, shard["file"], shard["wanted"], limits)
    )
    outcomes = prepare_all(parcels, rules=rules, decode=decode)
    held: list[Row] = []
    held_bytes = 0
    for row in (row for outcome in outcomes for row in _images(outcome, limits)):
        held.append(row)
        held_bytes += len(row["bytes"] or b"")
        if held_bytes >= limits.batch_bytes or len(held) >= limits.batch_rows:
            yield pa.RecordBatch.from_pylist(held, schema=FETCHED)
            held, held_bytes = [], 0
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=FETCHED)


def find_faults(batches: Iterable[pa.RecordBatch], *, source: str) -> Iterator[pa.RecordBatch]:
    """A fault of DESCRIBED for each file: why it held less than was said of it."""
    for batch in batches:
        rows = [_why_short(source, shard["file"]) for shard in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, schema=DESCRIBED)


def _why_short(source: str, file: str) -> Row:
    try:
        for _ in pictures_of(source, file, wants=lambda key: False, largest_bytes=0):
            pass
    except ShardFault as fault:
        return _fault(file, RejectReason.UNREADABLE_FILE, str(fault))
    return _fault(file, RejectReason.UNREADABLE_FILE, "holds other pictures than are described for it")


def _describe(source: str, file: str, side: str | None) -> Iterator[Row]:
    """By the side file; where that is damaged, which is said, by the shard itself."""
    if side is not None:
        try:
            described = list(described_by(source, file, side=side))
        except ShardFault as fault:
            yield _fault(side, RejectReason.UNREADABLE_FILE, str(fault))
        else:
            yield from (_described(file, at, one) for at, one in enumerate(described))
            return
    try:
        if file.endswith(".parquet") and picture_column(schema := columns_of(source, file)) is None:
            detail = f"want pictures in a binary column jpg, png or webp, found {schema.names}"
            yield _fault(file, RejectReason.MISSING_COLUMNS, detail)
            return
        for at, one in enumerate(described_by(source, file, side=None)):
            yield _described(file, at, one)
    except ShardFault as fault:
        yield _fault(file, RejectReason.UNREADABLE_FILE, str(fault))


def _described(file: str, position: int, one: Described) -> Row:
    state = FAILED if one.failed else PICTURE
    of_picture = {"key": one.key, "uid": one.uid, "sha256": one.sha256}
    return {"file": file, "position": position, "state": state, "detail": None} | of_picture


def _fault(file: str, reason: RejectReason, detail: str) -> Row:
    return {"file": file, "state": reason.value, "detail": _storable(detail)}


def _meant(source: str, file: str, wanted: Iterable[Row], limits: FetchLimits) -> Iterator[_Meant]:
    """The pictures of a shard that are wanted, once for all samples that see the same faces on them."""
    wants: dict[str, list[_Want]] = defaultdict(list)
    for one in wanted:
        faces = tuple(map(tuple, one["face_bboxes"] or ()))
        wants[one["key"]].append(_Want(one["uid"], one["expected"], one["recorded"], one["url"], faces))
    pictures = pictures_of(source, file, wants=wants.__contains__, largest_bytes=limits.largest_bytes)
    try:
        for held in ahead(pictures, size=_READ_AHEAD):
            by_faces: dict[tuple[Box, ...], list[_Want]] = defaultdict(list)
            key = held.described.key
            others: list[_Want] = []  # for a later picture of the same key
            for want in wants.pop(key, ()):
                (by_faces[want.faces] if _agrees(held.described, want) else others).append(want)
            if others:
                wants[key] = others
            yield from (_Meant(held, some) for some in by_faces.values())
            if not wants:
                return
    except ShardFault:
        return  # what is missing for it is found by counting, and the fault by a second look


def _agrees(described: Described, want: _Want) -> bool:
    """A side file may be another download's: what stands beside the picture itself has the last word."""
    if described.uid is not None:
        return described.uid == want.uid
    return described.sha256 is None or described.sha256 == want.recorded


def _images(outcome: Outcome[_Meant], limits: FetchLimits) -> Iterator[Row]:
    """A row for every sample that the picture is for, by the rule of fetched ones."""
    held = outcome.owner.held
    actual = hashlib.sha256(held.body).hexdigest() if held.body is not None else None
    for want in outcome.owner.wants:
        prepared, status, detail = _ended(outcome, opt_out(want.url, limits=limits))
        matches = None if limits.hash_mismatch == "ignore" else _matches(want, actual)
        refused = prepared is not None and matches is False and limits.hash_mismatch == "refuse"
        kept = None if refused else prepared
        # A picture that img2dataset has resized is not what was downloaded.
        downloaded = held.body if want.recorded in (None, actual) else None
        yield {
            "uid": want.uid,
            "status": (FetchStatus.HASH_MISMATCH if refused else status).value,
            "detail": detail,
            "bytes": kept.encoded or held.body if kept else None,
            "sha256": want.recorded or actual,
            "sha256_matches": matches,
            **hash_columns(downloaded, compute_hash=limits.compute_hash),
            "exif": kept.exif if kept else None,
            "width": kept.picture.width if kept else None,
            "height": kept.picture.height if kept else None,
            "format": kept.picture.format if kept else None,
            "attempts": 0,
            "fetched_at": datetime.now(UTC),
        }


def _ended(
    outcome: Outcome[_Meant], opted_out: str | None
) -> tuple[Prepared | None, FetchStatus, str | None]:
    if opted_out is not None:
        return None, FetchStatus.OPTED_OUT, opted_out
    if outcome.answer is None:
        return None, FetchStatus.TOO_LARGE, f"{outcome.owner.held.size} bytes"
    if isinstance(outcome.answer, PictureError):
        return None, outcome.answer.status, _storable(outcome.answer.detail)
    return outcome.answer, FetchStatus.OK, None


def _matches(want: _Want, actual: str | None) -> bool | None:
    """Whether the download was the promised one: the shard's record of it decides where there is one.

    Without a record other bytes prove nothing, since img2dataset resizes what it downloads.
    """
    if want.expected is None:
        return None
    if want.recorded is not None:
        return want.recorded == want.expected
    return True if actual == want.expected else None


def _storable(words: str) -> str:
    return words.encode(errors="replace").decode()  # Arrow takes no lone surrogates
