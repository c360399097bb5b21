"""How far the stages are is read from the tables' logs alone."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from rich.console import Console

from recap_spark.errors import InputError, SettingsError
from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Transaction
from recap_spark.report.status import show_status, stage_statuses
from recap_spark.report.table_logs import SEVERAL, read_log
from recap_spark.tables import CAPTIONS

UIDS = [f"{number:032x}" for number in range(4)]


def at(settings, root, namespace=None):
    moved = settings.lake.model_copy(update={"root": str(root), "namespace": namespace})
    export = settings.export.model_copy(update={"folder": f"{root}/exports"})
    return settings.model_copy(update={"lake": moved, "export": export})


def test_a_new_lake_has_begun_nothing(settings, tmp_path):
    found = list(stage_statuses(at(settings, tmp_path, "recap")))
    assert [(one.stage, one.done) for one in found] == [
        (stage, "not begun") for stage in ("ingest", "fetch", "caption", "score", "export")
    ]


def written(root: Path, table: str, **columns: list) -> Path:
    write_deltalake(str(root / table), pa.table(columns))
    return root / table


def without_statistics(folder: Path) -> None:
    (commit,) = folder.glob("_delta_log/*.json")
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        action.get("add", {}).pop("stats", None)
    commit.write_text("\n".join(map(json.dumps, actions)))


def damaged(folder: Path) -> None:
    (commit,) = folder.glob("_delta_log/*.json")
    commit.write_text(commit.read_text()[:-9])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (without_statistics, "want the number of rows of each file in the table's log, found none of 1 of 1"),
        (damaged, "want a Delta table's log, found: "),
    ],
)
def test_a_log_that_says_too_little_is_no_empty_table(tmp_path, harm, said):
    folder = written(tmp_path, "samples", uid=["a"])
    assert read_log(str(folder), by=None).rows == 1
    harm(folder)
    with pytest.raises(InputError, match=said) as raised:
        read_log(str(folder), by=None)
    assert "\n" not in str(raised.value)


def test_a_table_that_is_there_outlives_its_old_commits(tmp_path):
    folder = written(tmp_path, "captions", captioner=["a", "a"])
    write_deltalake(str(folder), pa.table({"captioner": ["b", "c"]}), mode="append")
    DeltaTable(str(folder)).create_checkpoint()
    for commit in folder.glob("_delta_log/*.json"):
        commit.unlink()
    assert read_log(str(folder), by="captioner").by == {"a": 2, SEVERAL: 2}


@pytest.mark.parametrize("place", ["s3n://bucket/lake", "wasbs://one@account/lake"])
def test_a_place_that_cannot_be_looked_at_is_not_taken_for_an_empty_one(settings, place):
    with pytest.raises(InputError, match="want a Delta table's log, found: Unknown scheme"):
        list(stage_statuses(at(settings, place)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(settings, tmp_path):
    written(tmp_path, "samples", uid=["a"])
    tmp_path.chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            list(stage_statuses(at(settings, tmp_path)))
    finally:
        tmp_path.chmod(0o700)


def test_captions_of_unknown_captioners_are_counted(settings, tmp_path):
    written(tmp_path, "captions", uid=["a", "b"])
    assert "2 captions by several" in [one.done for one in stage_statuses(at(settings, tmp_path))]


def test_a_file_in_the_exports_place_is_said(settings, tmp_path):
    (tmp_path / "exports").touch()
    with pytest.raises(InputError, match=r"export\.folder: want a folder that can be listed, found: "):
        list(stage_statuses(at(settings, tmp_path)))


@pytest.mark.parametrize("content", ["{}", "[]", "", '{"files": ["a"], "rows": 3}', "\xff"])
def test_another_tool_s_manifest_makes_no_complete_export(settings, tmp_path, content):
    (tmp_path / "exports" / "app").mkdir(parents=True)
    (tmp_path / "exports" / "app" / "manifest.json").write_bytes(content.encode("latin-1"))
    last = list(stage_statuses(at(settings, tmp_path)))[-1]
    assert (last.done, last.changed) == ("app: no export of this project, by its manifest.json", None)


def test_a_schema_of_spark_s_own_catalog_is_found_and_another_catalog_s_is_said(settings, tmp_path):
    written(tmp_path, "recap.db/samples", uid=["a"])
    found = list(stage_statuses(at(settings, tmp_path, "spark_catalog.recap")))
    assert found[0].done == "1 samples"
    with pytest.raises(SettingsError, match=r"whose catalog alone knows .* FROM main\.recap\.samples'`$"):
        list(stage_statuses(at(settings, tmp_path, "main.recap")))


def test_brackets_in_a_name_are_shown(settings, tmp_path):
    (tmp_path / "exports" / "clip[red]").mkdir(parents=True)
    out = io.StringIO()
    show_status(at(settings, tmp_path), Console(file=out, width=200))
    assert "clip[red]: not complete" in out.getvalue()


@pytest.mark.spark
def test_each_stage_says_its_rows_and_their_share(settings, new_lake, fill):
    lake = new_lake()
    images = [{"uid": uid, "bytes": b"x", "width": 5} for uid in UIDS[:2]]
    images.append({"uid": UIDS[2], "status": "gone"})
    fill(lake, samples=[{"uid": uid} for uid in UIDS], images=images)
    lake.create(CAPTIONS)
    for captioner, uids in (("a-1", UIDS[:2]), ("b-2", UIDS[:1])):
        rows = [(uid, captioner, "ok", "stop", 3, "a caption") for uid in uids]
        frame = frame_of(lake.spark, rows, CAPTIONS.schema)
        lake.append(CAPTIONS, frame.coalesce(1), transaction=Transaction(captioner, 1))
    root = lake.settings.root
    (done := Path(root) / "exports" / "clip-1").mkdir(parents=True)
    manifest = {part: {} for part in ("view", "tables", "files", "rows", "left_out")}
    (done / "manifest.json").write_text(json.dumps(manifest))
    (Path(root) / "exports" / "clip-2").mkdir()
    here = at(settings, root)
    assert [(one.stage, one.done, one.of) for one in stage_statuses(here)] == [
        ("ingest", "4 samples", ""),
        ("fetch", "3 tried, 2 pictures", "4 samples, 75.0 %"),
        ("caption", "2 captions by a-1", "2 pictures, 100.0 %"),
        ("", "1 captions by b-2", "2 pictures, 50.0 %"),
        ("score", "not begun", ""),
        ("export", "clip-1: complete", ""),
        ("", "clip-2: not complete", ""),
    ]
    out = io.StringIO()
    show_status(here, Console(file=out, width=200))
    assert "3 tried, 2 pictures" in out.getvalue()
