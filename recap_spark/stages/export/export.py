"""views + images → shards on disk, with a manifest written last"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from pyarrow import fs
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from recap_spark import __version__
from recap_spark.errors import InputError
from recap_spark.lake.lake import Lake
from recap_spark.progress import Progress
from recap_spark.settings.schema import ExportSettings, Settings
from recap_spark.stages.export.accounting import account, tally
from recap_spark.stages.export.view_rows import View, draw_captions, judged_samples, rows_of_view
from recap_spark.stages.mix import view_captioner, view_scorer
from recap_spark.stages.units import in_unit
from recap_spark.tables import CAPTIONS, IMAGES, ORIGINAL, SAMPLES, SCORES
from recap_spark.workers.shards.export_layout import Fields, layout_of, parse_manifest
from recap_spark.workers.shards.shards import SOURCES, ShardFormat, storage_of, write_shards

log = logging.getLogger(__name__)

_INPUTS = (SAMPLES, IMAGES, CAPTIONS)
_RANGE = 16**8
_COUNTS = ("rows", *SOURCES, "undecodable")
_WRITTEN = "format string, name string, " + ", ".join(f"{count} bigint" for count in _COUNTS)


def export_folder(lake: Lake, settings: Settings, *, captioner: str) -> tuple[str, dict[str, Any]]:
    """Where this very export goes, and what makes it this one: the view, the versions of the tables' rows and
    the format. Its `scorer` is None where no caption of the view has a score.
    """
    scorer = _scorer(lake, settings, captioner=captioner)
    tables = _INPUTS if scorer is None else (*_INPUTS, SCORES)
    fields = Fields(epochs=settings.export.view.epoch, scored=scorer is not None)
    made_of = {
        "view": settings.export.view.model_dump(),
        "captioner": captioner,
        "scorer": scorer,
        "tables": {table.name: lake.rows_version(table) for table in tables},
        "table_ids": {table.name: lake.identity(table) for table in tables},
        "units": settings.export.units,
        "decode": asdict(settings.export.decode),
        "rows_per_shard": settings.export.rows_per_shard,
        "jpeg_quality": settings.export.jpeg_quality,
        "formats": list(settings.export.formats),
        "layout": layout_of(settings.export.formats, fields),
        "code": __version__,
    }
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
    return f"{settings.export.folder}/{settings.export.view.name}-{digest}", made_of


def run(lake: Lake, settings: Settings, progress: Progress) -> Mapping[str, int]:
    """Write the view's shards, unit by unit; an export that has its manifest is complete and is not written
    again.

    Returns the samples by what became of them: where the caption of the first epoch comes from, or why they
    are left out.
    """
    captioner = view_captioner(settings)
    folder, made_of = export_folder(lake, settings, captioner=captioner)
    if manifest := read_manifest(folder):
        log.info("export: %s is complete", folder)
        return {**manifest["rows"], **manifest["left_out"]}
    # As they are stored now: what compacting replaced may be gone.
    versions = {
        table.name: lake.version(table) for table in (*_INPUTS, SCORES) if table.name in made_of["tables"]
    }
    view = View(
        settings=settings.export.view, captioner=captioner, scorer=made_of["scorer"], versions=versions
    )
    judged = judged_samples(lake, view)
    sizes, left_out = tally(lake, judged, view, units=settings.export.units)
    images = lake.read_at(IMAGES, versions[IMAGES.name]).select("uid", "bytes")
    written = _write_units(
        rows_of_view(lake, judged, view),
        images,
        sizes,
        write=partial(_write_unit, view=view, shards=_shard_format(folder, settings.export, view.fields)),
        settings=settings.export,
        progress=progress,
    )
    ends = account(written, sizes, left_out, view.fields)
    files = {row["name"]: row["rows"] for row in written}
    _forget_others(folder, files)
    _write_manifest(folder, made_of | {"read_at": versions, "files": files} | ends)
    return {**ends["rows"], **ends["left_out"]}


def read_manifest(folder: str) -> dict[str, Any] | None:
    """The manifest of a complete export; None for one that is not complete.

    Raises InputError where the folder has a manifest.json that is no export's.
    """
    storage, root = storage_of(folder)
    if not storage.get_file_info(f"{root}/manifest.json").is_file:
        return None
    with storage.open_input_stream(f"{root}/manifest.json") as file:
        manifest = parse_manifest(file.read())
    if manifest is None:
        raise InputError(
            f"export.folder: want a folder without another program's files, found in {folder} "
            "a manifest.json that is no export's: name another folder, or remove it"
        )
    return manifest


def _scorer(lake: Lake, settings: Settings, *, captioner: str) -> str | None:
    """The scorer of the view, where it has scored any of the view's captions."""
    if not lake.holds(SCORES):
        return None
    scorer = view_scorer(settings, captioner=captioner)
    of_view = F.col("captioner").isin(ORIGINAL, captioner) & (F.col("scorer") == scorer)
    return None if lake.read(SCORES).where(of_view).isEmpty() else scorer


def _shard_format(folder: str, settings: ExportSettings, fields: Fields) -> ShardFormat:
    return ShardFormat(
        folder=folder,
        formats=settings.formats,
        jpeg_quality=settings.jpeg_quality,
        decode=settings.decode,
        fields=fields,
    )


def _write_units(
    rows: DataFrame,
    images: DataFrame,
    sizes: Mapping[int, int],
    *,
    write: Callable[..., list[Row]],
    settings: ExportSettings,
    progress: Progress,
) -> list[Row]:
    """One row of WRITTEN for each file."""
    written: list[Row] = []
    first_shard = 0
    with progress.stage("export", rows=sum(sizes.values())) as advance:
        for unit, size in sorted(sizes.items()):
            count = -(-size // settings.rows_per_shard)
            within = in_unit(unit, settings.units)
            sharded = rows.where(within).withColumn(
                "shard", first_shard + _shard_of(unit, settings.units, count)
            )
            written += write(sharded, images.where(within), tasks=settings.tasks_per_unit)
            first_shard += count
            advance(size, note=f"unit {unit} of {settings.units}")
    return written


def _shard_of(unit: int, units: int, shards: int) -> Column:
    """A row's shard, by equal parts of the unit's range of uid: it depends on the uid and the number of
    shards only.
    """
    place = F.conv(F.substring("uid", 1, 8), 16, 10).cast("double") * units / _RANGE - unit
    return F.least(F.floor(place * shards), F.lit(shards - 1)).cast("int")


def _write_unit(
    rows: DataFrame, images: DataFrame, *, view: View, shards: ShardFormat, tasks: int
) -> list[Row]:
    whole = images.join(F.broadcast(rows), on="uid", how="inner")
    placed = whole.repartition(tasks, "shard").sortWithinPartitions("shard", "uid")
    # Drawn where they are written: many epochs' captions of a unit are too many to broadcast or to shuffle.
    drawn = draw_captions(placed, view)
    return drawn.mapInArrow(partial(write_shards, shards=shards), _WRITTEN).collect()


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
