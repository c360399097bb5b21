"""Shards → what each says of its pictures; shards and the samples they are wanted for → rows of images"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from recap_spark.settings.fetch_limits import FetchLimits
from recap_spark.settings.pictures import DecodeLimits, PictureRules
from recap_spark.statuses import FetchStatus, RejectReason
from recap_spark.workers.fetching.fetcher import FETCHED
from recap_spark.workers.fetching.urls import opt_out
from recap_spark.workers.metadata.sha256 import MALFORMED
from recap_spark.workers.partition import ahead
from recap_spark.workers.pictures.decoders import Outcome, Parcel, prepare_all
from recap_spark.workers.pictures.faces import Box
from recap_spark.workers.pictures.hashes import hash_columns
from recap_spark.workers.pictures.pictures import PictureError
from recap_spark.workers.pictures.preparing import Prepared
from recap_spark.workers.rows import Row, rows_of, storable_text
from recap_spark.workers.shards import parquet_shards
from recap_spark.workers.shards.claims import SideRows
from recap_spark.workers.shards.shard_files import Described, Held, ShardFault, is_tar
from recap_spark.workers.shards.tar_shards import describe_tar, tar_pictures

DESCRIBED = pa.schema(
    [
        ("file", pa.string()),
        ("position", pa.int64()),  # in the shard, from 0; below 0 for what is not there; null for a fault
        ("key", pa.string()),
        ("uid", pa.string()),
        ("sha256", pa.string()),  # of the download
        ("own_sha256", pa.string()),  # of the bytes in the shard; null where they were not read
        ("url", pa.string()),
        ("state", pa.string()),  # of shard_files, or a RejectReason: of the file
        ("detail", pa.string()),
        (MALFORMED, pa.bool_()),  # a hash is given for the download, and is none
    ]
)
_DESCRIBED_AT_ONCE = 4096
_READ_AHEAD = 4  # pictures drawn from a shard while others are decoded


@dataclass(frozen=True)
class _Want:
    """A sample that a shard's picture is for."""

    key: str  # of its picture
    uid: str
    expected: str | None  # sha256, as the metadata has it
    recorded: str | None  # sha256, as the shard has it
    url: str
    faces: tuple[Box | None, ...]


@dataclass(frozen=True)
class _Meant:
    """A picture and the samples that it is for, all of which have the same faces on it."""

    held: Held
    wants: list[_Want]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where shards are, and how their pictures are examined. It travels to every task."""

    source: str
    limits: FetchLimits
    decode: DecodeLimits
    rules: PictureRules


def describe_shards(batches: Iterable[pa.RecordBatch], *, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of DESCRIBED for files of (file, side): one for every picture, one for the members of every key
    without a picture, one for every unreadable member, and one for every fault.
    """
    rows: list[Row] = []
    for batch in batches:
        for shard in rows_of(batch):
            for row in _describe(reading, shard["file"], shard["side"]):
                rows.append(row)
                if len(rows) == _DESCRIBED_AT_ONCE:
                    yield pa.RecordBatch.from_pylist(rows, schema=DESCRIBED)
                    rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=DESCRIBED)


def read_shards(batches: Iterable[pa.RecordBatch], *, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of FETCHED for files of (file, wanted), where `wanted` lists (position, key, uid, expected,
    recorded, url, face_bboxes). Pictures are prepared as fetched ones are, and those of opted-out urls left
    out.

    A picture that is not in its shard, or is another one than was described, has no row.
    """
    limits = reading.limits
    # Row by row: what is wanted of one shard is some megabytes as Python objects, of a batch a gigabyte.
    shards = (rows_of(batch.slice(at, 1))[0] for batch in batches for at in range(batch.num_rows))
    parcels = (
        Parcel(meant, meant.held.body, meant.wants[0].faces)
        for shard in shards
        for meant in _meant(reading, shard["file"], shard["wanted"])
    )
    outcomes = prepare_all(parcels, rules=reading.rules, decode=reading.decode)
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


def find_faults(batches: Iterable[pa.RecordBatch], *, reading: Reading) -> Iterator[pa.RecordBatch]:
    """The fault of each file, as a row of DESCRIBED: why it held less than was described."""
    for batch in batches:
        rows = [_why_short(reading, shard["file"]) for shard in rows_of(batch)]
        yield pa.RecordBatch.from_pylist(rows, schema=DESCRIBED)


def _why_short(reading: Reading, file: str) -> Row:
    try:
        for _ in _pictures(reading, file, wants=lambda position: False):
            pass
    except ShardFault as fault:
        return _fault(file, RejectReason.UNREADABLE_FILE, str(fault))
    return _fault(file, RejectReason.UNREADABLE_FILE, "holds other pictures than are described for it")


def _describe(reading: Reading, file: str, side: str | None) -> Iterator[Row]:
    """A tar by its side file too, unless that is damaged, which is said."""
    source, largest_bytes = reading.source, reading.limits.largest_bytes
    rows = SideRows([])
    if side is not None:
        try:
            rows = parquet_shards.side_rows(source, side)
        except ShardFault as fault:
            yield _fault(side, RejectReason.UNREADABLE_FILE, str(fault))
    try:
        if is_tar(file):
            found = describe_tar(source, file, side=rows, largest_bytes=largest_bytes)
        elif parquet_shards.picture_column(schema := parquet_shards.columns_of(source, file)) is not None:
            found = parquet_shards.describe_parquet(source, file, largest_bytes=largest_bytes)
        else:
            detail = f"want pictures in a binary column jpg, png or webp, found {schema.names}"
            yield _fault(file, RejectReason.MISSING_COLUMNS, detail)
            return
        for one in found:
            yield _described(file, one)
    except ShardFault as fault:
        yield _fault(file, RejectReason.UNREADABLE_FILE, str(fault))


def _pictures(reading: Reading, file: str, *, wants: Callable[[int], bool]) -> Iterator[Held]:
    read = tar_pictures if is_tar(file) else parquet_shards.parquet_pictures
    return read(reading.source, file, wants=wants, largest_bytes=reading.limits.largest_bytes)


def _described(file: str, one: Described) -> Row:
    said = {"uid": one.claims.uid, "sha256": one.claims.sha256, "url": one.claims.url}
    malformed = {MALFORMED: one.claims.sha256_malformed and one.claims.sha256 is None}
    own = {"own_sha256": one.own_sha256, "position": one.position, "key": one.key}
    return {"file": file, "state": one.state, "detail": one.detail} | own | said | malformed


def _fault(file: str, reason: RejectReason, detail: str) -> Row:
    return {"file": file, "state": reason.value, "detail": storable_text(detail)}


def _meant(reading: Reading, file: str, wanted: Iterable[Row]) -> Iterator[_Meant]:
    """The wanted pictures of a shard, each once for all samples that have the same faces on it."""
    wants: dict[int, list[_Want]] = defaultdict(list)
    for one in wanted:
        faces = tuple(None if box is None else tuple(box) for box in one["face_bboxes"] or ())
        want = _Want(one["key"], one["uid"], one["expected"], one["recorded"], one["url"], faces)
        wants[one["position"]].append(want)
    try:
        for held in ahead(_pictures(reading, file, wants=wants.copy().__contains__), size=_READ_AHEAD):
            by_faces: dict[tuple[Box | None, ...], list[_Want]] = defaultdict(list)
            for want in wants.pop(held.position):
                if want.key == held.key:  # else the file was changed since it was described
                    by_faces[want.faces].append(want)
            yield from (_Meant(held, some) for some in by_faces.values())
            if not wants:
                return
    except ShardFault:
        return  # what is missing for it is found by counting, and the fault by a second look


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
        return None, outcome.answer.status, storable_text(outcome.answer.detail)
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
