"""The tables' logs and the exports' manifests → how far each stage is"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pyarrow import fs
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table as Grid
from rich.text import Text

from recap_spark.errors import InputError
from recap_spark.report.table_logs import SEVERAL, TableLog, folder_of_table, read_log
from recap_spark.settings.schema import Settings
from recap_spark.tables import CAPTIONS, IMAGES, RATINGS, REJECTS, SAMPLES, SCORES, Table
from recap_spark.workers.shards.export_layout import parse_manifest
from recap_spark.workers.shards.shards import storage_of

_TABLES = (SAMPLES, REJECTS, IMAGES, CAPTIONS, SCORES, RATINGS)
_BY = {CAPTIONS.name: "captioner", SCORES.name: "scorer"}


@dataclass(frozen=True)
class StageStatus:
    """How far one stage is."""

    stage: str
    done: str  # what is there
    of: str  # of what it can work on; empty where that is not known
    size: int | None  # bytes of its table
    changed: datetime | None


def stage_statuses(settings: Settings) -> Iterator[StageStatus]:
    """One or more lines for each stage, in the path's order; a stage that made nothing yet says so.

    Rows are those of the last commit: of a unit that is at work there are none yet. Pictures are images with
    status ok: only these have a width, and a table's log counts nulls. Starts no Spark and reads no data
    file. Raises SettingsError and InputError as `folder_of_table` and `read_log` do, and InputError where the
    exports cannot be listed.
    """
    logs = {table.name: _log(settings, table) for table in _TABLES}
    samples, images = logs[SAMPLES.name], logs[IMAGES.name]
    pictures = images.rows - images.nulls.get("width", images.rows) if images else 0
    yield _status("ingest", samples, "{} samples")
    if rejects := logs[REJECTS.name]:
        yield _status("", rejects, "{} rejects")
    share = _of(images.rows, samples.rows, "samples") if images and samples else ""
    yield _status("fetch", images, f"{{}} tried, {pictures:,} pictures", of=share)
    yield from _by("caption", logs[CAPTIONS.name], "captions", pictures)
    yield from _by("score", logs[SCORES.name], "scores", None)
    if (ratings := logs[RATINGS.name]) and ratings.rows:
        yield _status("", ratings, "{} ratings")
    yield from _exports(settings.export.folder)


def show_status(settings: Settings, console: Console) -> None:
    """Print the statuses as a table."""
    grid = Grid("stage", "done", "of", "size", "last commit (UTC)", box=None, pad_edge=False)
    for status in stage_statuses(settings):
        changed = f"{status.changed:%Y-%m-%d %H:%M}" if status.changed else ""
        size = "" if status.size is None else decimal(status.size)
        # Text: a folder's name may hold brackets, which rich would take for markup.
        grid.add_row(*map(Text, (status.stage, status.done, status.of, size, changed)))
    console.print(f"lake {settings.lake.root}", highlight=False, markup=False)
    console.print(grid)


def _log(settings: Settings, table: Table) -> TableLog | None:
    return read_log(folder_of_table(settings.lake, table), by=_BY.get(table.name))


def _status(stage: str, log: TableLog | None, form: str, *, of: str = "") -> StageStatus:
    if log is None:
        return StageStatus(stage, "not begun", "", None, None)
    return StageStatus(stage, form.format(f"{log.rows:,}"), of, log.size, log.changed if log.rows else None)


def _by(stage: str, log: TableLog | None, what: str, total: int | None) -> Iterator[StageStatus]:
    if log is None or not log.rows:
        yield _status(stage, log, f"{{}} {what}")
        return
    for at, (who, rows) in enumerate(sorted((log.by or {SEVERAL: log.rows}).items())):
        of = _of(rows, total, "pictures") if total else ""
        size, changed = (log.size, log.changed) if at == 0 else (None, None)
        yield StageStatus(stage if at == 0 else "", f"{rows:,} {what} by {who}", of, size, changed)


def _of(rows: int, total: int, what: str) -> str:
    # Rounded down: 100 % only when nothing is missing.
    return f"{total:,} {what}, {int(1000 * rows / total) / 10 if total else 0:.1f} %"


def _exports(folder: str) -> Iterator[StageStatus]:
    storage, root = storage_of(folder)
    try:
        found = storage.get_file_info(fs.FileSelector(root, allow_not_found=True))
    except OSError as error:
        raise InputError(f"export.folder: want a folder that can be listed, found: {error!s:.200}") from error
    exports = sorted((one for one in found if not one.is_file), key=lambda one: str(one.base_name))
    if not exports:
        yield StageStatus("export", "not begun", "", None, None)
    for at, export in enumerate(exports):
        said, changed = _export(storage, f"{export.path}/manifest.json")
        yield StageStatus("export" if at == 0 else "", f"{export.base_name}: {said}", "", None, changed)


def _export(storage: fs.FileSystem, path: str) -> tuple[str, datetime | None]:
    """What an export's manifest says, and when it was written."""
    found = storage.get_file_info(path)
    if not found.is_file:
        return "not complete", None
    with storage.open_input_stream(path) as file:
        if parse_manifest(file.read()) is None:
            return "no export of this project, by its manifest.json", None
    return "complete", found.mtime.astimezone(UTC) if found.mtime else None
