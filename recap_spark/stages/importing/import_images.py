"""shards of pictures + samples → images

For pictures that are there already: img2dataset's tars and Parquet files, DataComp's reshards, our own
exports. Spark joins their keys with the samples. The pictures are then read, and prepared by the rules of
fetch, in the tasks that write them: they are never shuffled. Do not run it at the same time as fetch: both
would answer the same samples.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T

from recap_spark.errors import AccountingError
from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.progress import Progress
from recap_spark.settings.schema import Settings
from recap_spark.stages.fetch.placeholders import mark_placeholders
from recap_spark.stages.fetch.takeovers import Takeovers
from recap_spark.stages.importing.imports_table import ENDS, IMPORTS
from recap_spark.stages.importing.pairing import count_ends, match, settle
from recap_spark.tables import IMAGES, REJECTS, SAMPLES
from recap_spark.workers.fetching.optouts import with_opt_outs
from recap_spark.workers.metadata.sha256 import MALFORMED
from recap_spark.workers.shards.shard_files import FAILED, PICTURE, UNREADABLE, UNRECOGNISED
from recap_spark.workers.shards.shard_listing import ShardFile, list_shards
from recap_spark.workers.shards.shard_pictures import Reading, describe_shards, find_faults, read_shards

log = logging.getLogger(__name__)

_FILE = T.StructType().add("file", T.StringType())
_FILE_AND_SIDE = T.StructType(_FILE.fields).add("side", T.StringType())
_SOURCE_FILE = T.StructType().add("source_file", T.StringType())
_DESCRIBED = (
    "file string, position bigint, key string, uid string, sha256 string, own_sha256 string, url string, "
    f"state string, detail string, {MALFORMED} boolean"
)


_EXAMPLES = 3


@dataclass(frozen=True)
class _Import:
    """One run over a source, and the tables as they were when it began."""

    lake: Lake
    reading: Reading
    takeovers: Takeovers
    tasks: int
    samples_version: int
    tables: str  # another one after samples or images were dropped: then every file is read again

    def name_of(self, path: str) -> str:
        """What tables call a file of the source."""
        return f"{self.reading.source}/{path}"


def run(lake: Lake, settings: Settings, progress: Progress) -> Counter[str]:
    """Import what the source holds for samples that have no row in images yet, then mark the placeholders.

    Returns the number of pictures by what became of them, of those with a sha256 that is none, as ingest does
    (`sha256_malformed`), and of members that cannot be read (`unreadable`); empty where no source is set.
    Raises AccountingError where another import changed images meanwhile, or counts do not add up.
    """
    source = settings.import_images.source
    counts: Counter[str] = Counter()
    if source is None:
        log.info("import-images: import_images.source is null: nothing to import")
        return counts
    work = _begun(lake, settings, source)
    files = _unread(work, list_shards(source))
    step = settings.import_images.files_per_commit
    with progress.stage("import", rows=len(files), unit="files") as advance:
        for first in range(0, len(files), step):
            some = files[first : first + step]
            counts += _import_files(work, some)
            advance(len(some), note=f"files {first} to {first + len(some) - 1}")
    mark_placeholders(lake, settings.fetch.placeholders)
    return counts


def _begun(lake: Lake, settings: Settings, source: str) -> _Import:
    lake.create(IMAGES, REJECTS, IMPORTS)
    lake.read(SAMPLES)
    return _Import(
        lake=lake,
        reading=Reading(
            source=source.rstrip("/"),
            limits=with_opt_outs(settings.fetch.limits),
            decode=settings.fetch.decode,
            rules=settings.fetch.picture,
        ),
        takeovers=Takeovers("import-images"),
        tasks=settings.import_images.tasks_per_commit,
        samples_version=lake.version(SAMPLES),
        tables=f"{lake.identity(SAMPLES)} {lake.identity(IMAGES)}",
    )


def _unread(work: _Import, files: list[ShardFile]) -> list[ShardFile]:
    """The files that are new or changed, had a fault, or hold pictures that new samples may want."""
    known = {row["file"]: row for row in work.lake.read(IMPORTS).collect()}

    def is_done(file: ShardFile) -> bool:
        row = known.get(work.name_of(file.path))
        if row is None or row["fault"] is not None or row["tables"] != work.tables:
            return False
        is_same = (row["size"], row["modified_ns"]) == (file.size, file.modified_ns)
        return is_same and (not row["unmatched"] or row["samples_version"] == work.samples_version)

    return [file for file in files if not is_done(file)]


def _import_files(work: _Import, files: list[ShardFile]) -> Counter[str]:
    lake = work.lake
    described = _described(work, files).localCheckpoint()
    version = lake.version(IMAGES)
    samples = lake.read_at(SAMPLES, work.samples_version).select("uid", "sha256", "url", "face_bboxes")
    matched = match(described.where(F.col("state") == PICTURE), samples)
    settled = settle(matched, lake.read(IMAGES).select("uid")).localCheckpoint()
    wanted = settled.where(F.col("end") == "wanted")
    added = 0 if wanted.isEmpty() else _add(work, _read(work, wanted), version)
    ends = count_ends(described, settled, lake.read(IMAGES).select("uid"))
    if (counted := sum(end["added"] for end in ends.values())) != added:
        raise AccountingError(f"import-images: {added} rows added, {counted} samples accounted for")
    if added:
        written = lake.read(IMAGES).join(F.broadcast(wanted.select("uid")), on="uid", how="left_semi")
        work.takeovers.look_at(written)
    _say_left_out(described, settled, ends)
    faults = _faults(work, files, described, ends)
    _refuse(work, files, faults)
    _remember(work, files, ends, faults)
    return sum(ends.values(), Counter())


def _say_left_out(described: DataFrame, settled: DataFrame, ends: dict[str, Counter[str]]) -> None:
    """Warn of what became no row, with examples, which show whether keys or names were misread."""
    counts = sum(ends.values(), Counter())
    if count := counts["unrecognised"]:
        unknown = described.where(F.col("state") == UNRECOGNISED)
        told = "import-images: %d keys have no member that is recognised as a picture, such as %s"
        log.warning(told, count, _examples(unknown, "key"))
    if count := counts["unreadable"]:
        spoiled = described.where(F.col("state") == UNREADABLE)
        told = "import-images: %d members cannot be read, nor what they say of pictures, such as %s"
        log.warning(told, count, _examples(spoiled, "key", "detail"))
    if count := counts["unmatched"]:
        pictures = described.where(F.col("state") == PICTURE)
        unknown = pictures.join(settled, on=["file", "position"], how="left_anti")
        told = "import-images: %d pictures match no sample by uid, hash or url, such as %s"
        log.warning(told, count, _examples(unknown, "key", "uid", "sha256", "url"))


def _examples(rows: DataFrame, *columns: str) -> str:
    """Some rows, by file and what is known of each."""
    shown = rows.select("file", *columns).limit(_EXAMPLES).collect()
    said = ([f"{name} {row[name][:80]!r}" for name in columns if row[name]] for row in shown)
    return "; ".join(f"{', '.join(words)} of {row['file']}" for words, row in zip(said, shown, strict=True))


def _described(work: _Import, files: Iterable[ShardFile]) -> DataFrame:
    rows = [(file.path, file.side) for file in files]
    listed = frame_of(work.lake.spark, rows, _FILE_AND_SIDE)
    runner = partial(describe_shards, reading=work.reading)
    return listed.repartition(min(len(rows), work.tasks)).mapInArrow(runner, _DESCRIBED)


def _read(work: _Import, wanted: DataFrame) -> DataFrame:
    one = F.struct("position", "key", "uid", "expected", "recorded", "url", "face_bboxes")
    by_file = wanted.groupBy("file").agg(F.collect_list(one).alias("wanted"))
    runner = partial(_read_partition, reading=work.reading)
    return by_file.repartition(work.tasks).mapInArrow(runner, IMAGES.loose).select(*IMAGES.schema.names)


def _read_partition(batches: Iterable[pa.RecordBatch], *, reading: Reading) -> Iterator[pa.RecordBatch]:
    # Spark matches Arrow's columns with the declared schema by place, not by name.
    for batch in read_shards(batches, reading=reading):
        yield batch.select(IMAGES.schema.names)


def _add(work: _Import, images: DataFrame, version: int) -> int:
    added = work.lake.append(IMAGES, images, transaction=Transaction("import-images", version))
    if added is None:
        raise AccountingError("import-images: another import changed images meanwhile; run this one again")
    return added


def _faults(
    work: _Import, files: list[ShardFile], described: DataFrame, ends: dict[str, Counter[str]]
) -> dict[str, Row]:
    """The faults of files, by path. Files that held less than was described are read once more to find the
    cause.
    """
    found = described.where(~F.col("state").isin(PICTURE, FAILED, UNRECOGNISED, UNREADABLE)).collect()
    faults = {row["file"]: row for row in found}
    short = [file for file in files if ends.get(file.path, Counter())["lost"] and file.path not in faults]
    if short:
        listed = frame_of(work.lake.spark, [(file.path,) for file in short], _FILE)
        runner = partial(find_faults, reading=work.reading)
        looked = listed.repartition(min(len(short), work.tasks)).mapInArrow(runner, _DESCRIBED)
        faults |= {row["file"]: row for row in looked.collect()}
    return faults


def _refuse(work: _Import, files: list[ShardFile], faults: dict[str, Row]) -> None:
    """Store the faults as rejects, in place of those that these files had before."""
    lake = work.lake
    paths = [path for file in files for path in (file.path, file.side) if path]
    names = frame_of(lake.spark, [(work.name_of(path),) for path in paths], _SOURCE_FILE)
    before = lake.read(REJECTS).where(F.col("source_row").isNull())
    if not before.join(F.broadcast(names), on="source_file", how="left_semi").isEmpty():
        lake.delete(REJECTS, names)
    if faults:
        rows = [(None, row["state"], work.name_of(path), row["detail"]) for path, row in faults.items()]
        lake.upsert(REJECTS, frame_of(lake.spark, rows, REJECTS.schema))


def _remember(
    work: _Import, files: list[ShardFile], ends: dict[str, Counter[str]], faults: dict[str, Row]
) -> None:
    rows = []
    for file in files:
        counts = ends.get(file.path, Counter())
        fault = faults[file.path]["detail"] if file.path in faults else None
        seen = (
            work.name_of(file.path),
            file.size,
            file.modified_ns,
            work.samples_version,
            work.tables,
        )
        rows.append((*seen, *(counts[end] for end in ENDS), fault))
    work.lake.upsert(IMPORTS, frame_of(work.lake.spark, rows, IMPORTS.schema))
