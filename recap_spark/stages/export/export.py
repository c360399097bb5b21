"""views + images → shards on disk, with a manifest written last"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from pyarrow import fs
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from recap_spark import __version__
from recap_spark.errors import AccountingError
from recap_spark.lake import Lake
from recap_spark.progress import Progress
from recap_spark.settings.schema import Settings, ViewSettings
from recap_spark.stages.mix import Mixture, mix_captions, view_captioner
from recap_spark.stages.units import in_unit, unit_of
from recap_spark.statuses import CaptionStatus, FetchStatus
from recap_spark.tables import CAPTIONS, IMAGES, SAMPLES
from recap_spark.workers.shards.shards import ShardFormat, storage_of, write_shards

log = logging.getLogger(__name__)

_INPUTS = (SAMPLES, IMAGES, CAPTIONS)
_RANGE = 16**8
_ENDS = ("original", "recaption", "fallback", "undecodable")
_WRITTEN = "format string, name string, rows bigint, " + ", ".join(f"{end} bigint" for end in _ENDS)


def exported_rows(
    lake: Lake, view: ViewSettings, *, captioner: str, versions: Mapping[str, int]
) -> DataFrame:
    """The rows of a view that have an image and a caption, without the image's bytes."""
    ok = F.col("status") == str(CaptionStatus.OK)
    recaptions = lake.read_at(CAPTIONS, versions[CAPTIONS.name]).where(ok & (F.col("captioner") == captioner))
    samples = lake.read_at(SAMPLES, versions[SAMPLES.name]).select("uid", "url", "org_caption")
    texts = samples.join(recaptions.select("uid", F.col("caption").alias("re_caption")), on="uid", how="left")
    images = lake.read_at(IMAGES, versions[IMAGES.name])
    usable = images.where(_is_usable(view)).select("uid", "sha256", "format")
    mixed = mix_captions(texts.join(usable, on="uid", how="inner"), Mixture(view.p, view.seed, view.epoch))
    return mixed.where(F.col("caption").isNotNull())


def export_folder(lake: Lake, settings: Settings, *, captioner: str) -> tuple[str, dict[str, Any]]:
    """Where this very export goes, and what makes it this one: the view, the versions of the tables' rows and
    the format.
    """
    made_of = {
        "view": settings.export.view.model_dump(),
        "captioner": captioner,
        "tables": {table.name: lake.rows_version(table) for table in _INPUTS},
        "table_ids": {table.name: lake.identity(table) for table in _INPUTS},
        "units": settings.export.units,
        "decode": asdict(settings.export.decode),
        "rows_per_shard": settings.export.rows_per_shard,
        "jpeg_quality": settings.export.jpeg_quality,
        "formats": list(settings.export.formats),
        "code": __version__,
    }
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
    return f"{settings.export.folder}/{settings.export.view.name}-{digest}", made_of


def run(lake: Lake, settings: Settings, progress: Progress) -> Mapping[str, int]:
    """Write the view's shards, unit by unit; an export that has its manifest is complete and is not written
    again.

    Returns the rows by the source of their caption.
    """
    captioner = view_captioner(settings)
    folder, made_of = export_folder(lake, settings, captioner=captioner)
    if manifest := read_manifest(folder):
        log.info("export: %s is complete", folder)
        return dict(manifest["rows"])
    # As they are stored now: what compacting replaced may be gone.
    versions = {table.name: lake.version(table) for table in _INPUTS}
    rows = exported_rows(lake, settings.export.view, captioner=captioner, versions=versions)
    images = lake.read_at(IMAGES, versions[IMAGES.name]).select("uid", "bytes")
    units = settings.export.units
    sizes = {
        row["unit"]: row["count"] for row in rows.groupBy(unit_of(units).alias("unit")).count().collect()
    }
    written: list[Row] = []
    first_shard = 0
    with progress.stage("export", rows=sum(sizes.values())) as advance:
        for unit, size in sorted(sizes.items()):
            shards = -(-size // settings.export.rows_per_shard)
            within = in_unit(unit, units)
            sharded = rows.where(within).withColumn("shard", first_shard + _shard_of(unit, units, shards))
            written += _write_unit(sharded, images.where(within), folder, settings)
            first_shard += shards
            advance(size, note=f"unit {unit} of {units}")
    counts = _counts(written, settings.export.formats[0])
    if sum(counts.values()) != sum(sizes.values()):
        raise AccountingError(f"export: {sum(sizes.values())} rows to write, found {counts}")
    files = {row["name"]: row["rows"] for row in written}
    _forget_others(folder, files)
    _write_manifest(folder, made_of | {"read_at": versions, "rows": counts, "files": files})
    return counts


def read_manifest(folder: str) -> dict[str, Any] | None:
    """The manifest of a complete export; None for one that is not complete."""
    storage, root = storage_of(folder)
    if not storage.get_file_info(f"{root}/manifest.json").is_file:
        return None
    with storage.open_input_stream(f"{root}/manifest.json") as file:
        manifest: dict[str, Any] = json.loads(file.read())
    return manifest


def _is_usable(view: ViewSettings) -> Column:
    fetched = F.col("status") == str(FetchStatus.OK)
    matches = F.col("sha256_matches")
    by_hash = {"match": matches, "not_mismatch": F.coalesce(matches, F.lit(True)), "any": F.lit(True)}
    return fetched & F.coalesce(by_hash[view.sha256], F.lit(False))


def _shard_of(unit: int, units: int, shards: int) -> Column:
    """A row's shard, by equal parts of the unit's range of uid: it depends on the uid and the number of
    shards only.
    """
    place = F.conv(F.substring("uid", 1, 8), 16, 10).cast("double") * units / _RANGE - unit
    return F.least(F.floor(place * shards), F.lit(shards - 1)).cast("int")


def _write_unit(rows: DataFrame, images: DataFrame, folder: str, settings: Settings) -> list[Row]:
    shards = ShardFormat(
        folder=folder,
        formats=settings.export.formats,
        jpeg_quality=settings.export.jpeg_quality,
        decode=settings.export.decode,
    )
    whole = images.join(F.broadcast(rows), on="uid", how="inner")
    placed = whole.repartition(settings.export.tasks_per_unit, "shard").sortWithinPartitions("shard", "uid")
    return placed.mapInArrow(partial(write_shards, shards=shards), _WRITTEN).collect()


def _counts(written: list[Row], kind: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for row in written:
        if row["format"] == kind:
            counts += Counter({source: row[source] for source in _ENDS})
    return dict(counts)


def _forget_others(folder: str, files: Mapping[str, int]) -> None:
    """Remove the files of runs that were killed, which a loader of `*.tar` would read."""
    storage, root = storage_of(folder)
    wanted = {f"{root}/{name}" for name in files}
    for found in storage.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True)):
        if found.is_file and found.path not in wanted:
            log.info("export: %s is left from a run that was stopped: removed", found.path)
            storage.delete_file(found.path)


def _write_manifest(folder: str, manifest: dict[str, Any]) -> None:
    """Write sizes.json for the loaders of open_clip and DataComp, then the manifest, which marks the export
    as complete.
    """
    storage, root = storage_of(folder)
    storage.create_dir(root, recursive=True)
    tars = {
        name.removeprefix("webdataset/"): rows
        for name, rows in manifest["files"].items()
        if name.endswith(".tar")
    }
    contents = {"webdataset/sizes.json": tars} if tars else {}
    for name, content in (contents | {"manifest.json": manifest}).items():
        with storage.open_output_stream(f"{root}/{name}.partial") as file:
            file.write(json.dumps(content, indent=1, sort_keys=True).encode())
        storage.move(f"{root}/{name}.partial", f"{root}/{name}")
