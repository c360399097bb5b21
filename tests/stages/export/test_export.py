"""An export says where every sample went, and draws any number of epochs over one set of pictures."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import Row
from rich.console import Console

from recap_spark.draw import keeps_original
from recap_spark.errors import AccountingError, InputError
from recap_spark.lake.frames import frame_of
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.progress import Progress
from recap_spark.settings.schema import Settings
from recap_spark.stages.export import export
from recap_spark.stages.export.accounting import account, tally
from recap_spark.stages.export.view_rows import View, judged_samples
from recap_spark.statuses import FetchStatus, LeftOut
from recap_spark.tables import CAPTIONS
from recap_spark.workers.shards.export_layout import Fields, parse_manifest
from recap_spark.workers.shards.shards import SOURCES

P, SEED, EPOCHS = 0.5, 3, (1, 0, 2)
CAPTIONER = "someone-1"
SOUND = [f"sound-{number}" for number in range(12)]
PICTURES = {
    "gone": {"status": "gone"},
    "slow": {"status": "timeout"},
    "slower": {"status": "timeout"},
    "other bytes": {"sha256_matches": False},
    "no promise": {"sha256_matches": None},
    "silent": {},
    "broken": {"bytes": b"broken", "format": "png"},
    "only new": {},
    **{name: {} for name in SOUND},
}
LEFT_OUT = {
    "gone": 1,
    "timeout": 2,
    "not_fetched": 1,
    "sha256_mismatch": 1,
    "sha256_unknown": 1,
    "no_caption": 1,
    "no_jpeg": 1,
}


def uid_of(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


@dataclass(frozen=True)
class Exported:
    lake: Lake
    settings: Settings
    counts: dict[str, int]

    @property
    def folder(self) -> Path:
        (manifest,) = Path(self.settings.export.folder).glob("*/manifest.json")
        return manifest.parent

    @property
    def manifest(self) -> dict:
        return json.loads((self.folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def exported(new_lake, fill, settings, tmp_path_factory) -> Exported:
    """One sample for each reason, and some of each kind that is written, in three epochs; no scores."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "JPEG")
    sound = {"bytes": out.getvalue(), "format": "jpeg", "sha256": "0" * 64, "sha256_matches": True}
    lake = fill(
        new_lake(),
        samples=[
            {"uid": uid_of(name), "org_caption": None if name in ("silent", "only new") else f"alt of {name}"}
            for name in (*PICTURES, "not asked for")
        ],
        images=[{"uid": uid_of(name)} | sound | said for name, said in PICTURES.items()],
    )
    lake.create(CAPTIONS)
    values = [
        (uid_of(name), CAPTIONER, "ok", "stop", 3, f"new of {name}") for name in ("only new", *SOUND[3:])
    ]
    values += [(uid_of("silent"), CAPTIONER, "refused", None, None, None)]
    values += [(uid_of("silent"), "another-1", "ok", "stop", 3, "another's")]
    lake.append(CAPTIONS, frame_of(lake.spark, values, CAPTIONS.schema), transaction=Transaction("test", 0))
    view = {"p": P, "seed": SEED, "epoch": EPOCHS, "captioner": CAPTIONER}
    view = settings.export.view.model_copy(update=view)
    changed = {"view": view, "folder": str(tmp_path_factory.mktemp("exports")), "units": 1}
    # Tars, whose writer imports torch for seconds, are the shards' own tests'.
    changed |= {"rows_per_shard": 5, "tasks_per_unit": 1, "formats": ("parquet",)}
    asked = settings.model_copy(update={"export": settings.export.model_copy(update=changed)})
    counts = export.run(lake, asked, Progress(Console(quiet=True)))
    return Exported(lake, asked, dict(counts))


def drawn(name: str, epoch: int) -> tuple[str, str]:
    """The caption and its source, by the rule as Python has it."""
    texts = {"original": f"alt of {name}", "recaption": f"new of {name}"}
    if name == "only new":
        del texts["original"]
    if name in SOUND[:3]:
        del texts["recaption"]
    source = "original" if keeps_original(uid_of(name), p=P, seed=SEED, epoch=epoch) else "recaption"
    return (texts[source], source) if source in texts else (*texts.values(), "fallback")


WRITTEN = sorted(["only new", *SOUND], key=uid_of)


@pytest.mark.spark
def test_every_sample_is_written_or_left_out_for_a_reason_that_is_counted(exported):
    assert exported.manifest["left_out"] == LEFT_OUT
    by_source = Counter(drawn(name, EPOCHS[0])[1] for name in WRITTEN)
    assert {name: count for name, count in exported.manifest["rows"].items() if count} == by_source
    assert exported.counts == exported.manifest["rows"] | LEFT_OUT
    assert parse_manifest((exported.folder / "manifest.json").read_bytes())
    assert sum(exported.counts.values()) == len(PICTURES) + 1


@pytest.mark.spark
def test_each_epoch_has_its_captions_in_the_order_of_the_pictures_which_are_there_once(exported):
    tables = {
        kind: [
            row
            for file in sorted(exported.folder.glob(f"{kind}/*.parquet"))
            for row in pq.read_table(file).to_pylist()
        ]
        for kind in ("parquet", *(f"captions/epoch-{epoch}" for epoch in EPOCHS))
    }
    assert len(list(exported.folder.glob("parquet/*.parquet"))) > 1
    pictures = tables.pop("parquet")
    assert [row["uid"] for row in pictures] == [uid_of(name) for name in WRITTEN]
    for epoch in EPOCHS:
        wanted = [(uid_of(name), *drawn(name, epoch)) for name in WRITTEN]
        assert [tuple(row.values()) for row in tables[f"captions/epoch-{epoch}"]] == wanted
        names = ("uid", f"caption_epoch_{epoch}", f"source_epoch_{epoch}")
        assert [tuple(row[name] for name in names) for row in pictures] == wanted
        counts = Counter(source for _, _, source in wanted)
        assert exported.manifest["rows_by_epoch"][str(epoch)] == {end: counts[end] for end in SOURCES}
    first = [(row["uid"], row["caption"], row["source"]) for row in pictures]
    assert first == [(uid_of(name), *drawn(name, EPOCHS[0])) for name in WRITTEN]
    recaptioned = {row["uid"] for row in pictures if row["captioner"] == CAPTIONER}
    assert recaptioned == {uid_of(name) for name in ("only new", *SOUND[3:])}
    assert "re_clip_score" not in pictures[0]


@pytest.mark.spark
def test_what_decides_the_content_decides_the_folder(exported):
    def folder(**view: object) -> str:
        changed = exported.settings.export.view.model_copy(update=view)
        export_ = exported.settings.export.model_copy(update={"view": changed})
        asked = exported.settings.model_copy(update={"export": export_})
        return export.export_folder(exported.lake, asked, captioner=CAPTIONER)[0]

    assert folder() == str(exported.folder)
    assert len({folder(), folder(epoch=(0, 1, 2)), folder(epoch=(1,))}) == 3


@pytest.mark.spark
@pytest.mark.parametrize(("rule", "left"), [("not_mismatch", ["sha256_mismatch"]), ("any", [])])
def test_a_laxer_rule_of_the_view_leaves_out_fewer(exported, rule, left):
    view = view_of(exported, sha256=rule)
    _, left_out = tally(exported.lake, judged_samples(exported.lake, view), view, units=1)
    assert [reason for reason in left_out if reason.startswith("sha256")] == left


@pytest.mark.spark
def test_samples_that_a_join_has_doubled_stop_the_export(exported):
    view = view_of(exported)
    judged = judged_samples(exported.lake, view)
    with pytest.raises(AccountingError, match="want each of 21 samples once, found 28 to write and 14 left"):
        tally(exported.lake, judged.union(judged), view, units=1)


def view_of(exported: Exported, **changed: object) -> View:
    settings = exported.settings.export.view.model_copy(update=changed)
    versions = exported.manifest["read_at"]
    return View(settings=settings, captioner=CAPTIONER, scorer=None, versions=versions)


def test_a_kind_of_file_that_lacks_rows_stops_the_export():
    counts = {"original": 2, "recaption": 1, "fallback": 0, "undecodable": 1}
    whole, short = (Row(format=kind, **counts) for kind in ("webdataset", "captions/epoch-0"))
    short = Row(**(short.asDict() | {"recaption": 0}))
    fields = Fields(epochs=(0, 1), scored=False)
    with pytest.raises(AccountingError, match=r"want 4 rows in each kind of file, .*'captions/epoch-0': 3"):
        account([whole, short], {0: 4}, {}, fields)
    with pytest.raises(AccountingError, match="found none"):
        account([], {0: 4}, {}, fields)


def test_the_reasons_are_said_the_most_frequent_first(caplog):
    files = [Row(format="webdataset", original=2, recaption=1, fallback=0, undecodable=1)]
    with caplog.at_level(logging.INFO):
        ended = account(files, {0: 4}, {"gone": 1, "timeout": 2}, Fields(epochs=(0,), scored=False))
    assert ended == {
        "rows": {"original": 2, "recaption": 1, "fallback": 0},
        "left_out": {"gone": 1, "timeout": 2, "no_jpeg": 1},
    }
    assert "export: left out 4 of 7 samples: timeout 2, gone 1, no_jpeg 1" in caplog.text


def test_no_reason_is_the_name_of_a_source_or_of_another_reason():
    words = [*map(str, FetchStatus), *map(str, LeftOut), *SOURCES]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("content", [b"{}", b"[1]", b'{"view": {}', b'{"name": "a web app"}'])
def test_a_folder_with_another_program_s_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a manifest\.json that is no export's"):
        export.read_manifest(str(tmp_path))
