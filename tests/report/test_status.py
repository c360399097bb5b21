"""How far the stages are is read from the tables' logs alone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from recap_spark.frames import frame_of
from recap_spark.lake import Transaction
from recap_spark.report.status import show_status, stage_statuses
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
    (done / "manifest.json").write_text("{}")
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
