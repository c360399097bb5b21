"""Every row of the metadata is a sample or a reject with a reason, whatever order files, folders and runs
come in.
"""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from metadata_files import DATACOMP, retyped, row, run, uid, write
from pyspark.sql import functions as F

from recap_spark.errors import InputError
from recap_spark.lake.lake import Lake, Transaction
from recap_spark.settings.schema import LakeSettings
from recap_spark.stages.ingest.deduplication import settle
from recap_spark.tables import CAPTIONS, IMAGES, RATINGS, REJECTS, SAMPLES, SCORES

pytestmark = pytest.mark.spark

CONTENT = [name for name in SAMPLES.schema.names if name not in {"source_file", "source_row"}]


# What each row of the folder below ends as, in the order of the files and their rows.
ENDS = {
    "part_0/rows.parquet": [
        (row("plain"), "sample"),
        (row("null uid", uid=None), "null_uid"),
        (row("null uid and url", uid=None, url=None), "null_uid"),
        (row("upper", uid=uid("upper").upper()), "malformed_uid"),
        (row("short", uid="abc"), "malformed_uid"),
        (row("line end", uid=uid("line end") + "\n"), "malformed_uid"),
        (row("no url", url=None), "empty_url"),
        (row("blank url", url="  "), "empty_url"),
        (row("ftp", url="ftp://host.test/a.jpg"), "not_http"),
        (row("data", url="data:image/png;base64,AAAA"), "not_http"),
        (row("no scheme", url="host.test/a.jpg"), "sample"),
        (row("port", url="host.test:8080/a.jpg"), "sample"),
        (row("spaced", url=" HTTPS://host.test/a.jpg "), "sample"),
        (row("a page", text="x" * 1_000_000), "text_too_long"),
    ],
    "texts.parquet": [
        (row("leak", text=r"Caf\xc3\xa9 \xC2\xAE at 5\x"), "sample"),
        (row("no utf-8", text=r"C:\xff and Caf\xc3\xa9"), "sample"),
        (row("blank", text="   "), "sample"),
        (row("tabs", text="\t\n\u00a0"), "sample"),
        (row("no text", text=None), "sample"),
        (row("long", text="é" * 150), "sample"),
    ],
    "repeats 1.parquet": [
        (row("same"), "sample"),
        (row("same"), "repeated_uid"),
        (row("bad twin", url="ftp://host.test"), "not_http"),
        (row("bad twin"), "sample"),
        (row("no faces"), "either"),
    ],
    "repeats 2.parquet": [
        (row("same"), "repeated_uid"),
        (row("no faces", face_bboxes=None), "either"),
    ],
    "width is text.parquet": [
        (row("text width", original_width="640"), "sample"),
        (row("null width", original_width=None), "sample"),
        (row("wide", original_width="wide"), "wrong_type"),
        (row("half", original_width="1e99"), "wrong_type"),
    ],
    "few columns.parquet": [(row("few"), "sample")],
    "URL and TEXT.parquet": [(row("shouted", original_width=320), "sample")],
}


def faulty_folder(folder: Path) -> Path:
    """Every fault that metadata was met with, each in its own file or row."""
    for name, ends in ENDS.items():
        rows, schema = [one for one, _ in ends], DATACOMP
        if name == "width is text.parquet":
            schema = retyped(original_width=pa.string())
        elif name == "few columns.parquet":
            schema = pa.schema([field for field in DATACOMP if field.name not in {"face_bboxes", "sha256"}])
        elif name == "URL and TEXT.parquet":
            rows = [{{"url": "URL", "text": "TEXT"}.get(key, key): one[key] for key in one} for one in rows]
            schema = retyped(original_width=pa.int32(), original_height=pa.int32())
            schema = schema.set(1, pa.field("URL", pa.string())).set(2, pa.field("TEXT", pa.string()))
        write(folder / name, *rows, schema=schema)
    whole = write(folder / "truncated.parquet", row("lost")).read_bytes()
    (folder / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    write(folder / "people.parquet", {"name": "Ann"}, schema=pa.schema([("name", pa.string())]))
    return folder


def contents(lake: Lake) -> dict[str, tuple]:
    rows = lake.read(SAMPLES).select(*CONTENT).collect()
    held = {kept["uid"]: tuple(kept) for kept in rows}
    assert len(held) == len(rows)
    return held


def refused(lake: Lake) -> list[tuple]:
    file = F.regexp_extract("source_file", "([^/]*)$", 1).alias("file")
    return sorted(map(tuple, lake.read(REJECTS).select(file, "source_row", "reason").collect()), key=str)


@dataclass(frozen=True)
class Ingested:
    """A lake, and what was told and held after each of three runs."""

    lake: Lake
    counts: list[Counter]
    contents: list[dict[str, tuple]]
    refused: list[list[tuple]]


@pytest.fixture(scope="module")
def faulty(spark, settings, tmp_path_factory) -> Ingested:
    """The faulty folder ingested twice, then a folder that overlaps with it."""
    folder = tmp_path_factory.mktemp("faulty")
    lake = Lake(spark, LakeSettings(root=str(folder / "lake"), namespace=None))
    first = faulty_folder(folder / "meta data")
    write(folder / "more" / "overlap.parquet", row("plain"), row("same"), row("later"))
    shutil.copy(first / "part_0" / "rows.parquet", folder / "more" / "copy.parquet")
    done = Ingested(lake, [], [], [])
    for source in (first, first, folder / "more"):
        done.counts.append(run(lake, settings, source, caption_cap=100))
        done.contents.append(contents(lake))
        done.refused.append(refused(lake))
    return done


def test_every_row_is_a_sample_or_a_reject_with_its_reason_and_the_counts_add_up(faulty):
    expected = [
        (name.split("/")[-1].replace(" ", "%20"), at, end)
        for name, ends in ENDS.items()
        for at, (_, end) in enumerate(ends)
    ]
    of_rows = [one for one in faulty.refused[0] if one[1] is not None]
    conflicts = [one for one in of_rows if one[2] == "conflicting_uid"]
    assert len(conflicts) == 1  # the rule decides which of the two, and that is tested below
    assert sorted(set(of_rows) - set(conflicts)) == sorted(
        one for one in expected if one[2] not in {"sample", "either"}
    )
    good = {one["uid"] for ends in ENDS.values() for one, end in ends if end in {"sample", "either"}}
    assert faulty.contents[0].keys() == good
    reasons = Counter(reason for _, _, reason in faulty.refused[0])
    assert faulty.counts[0] == reasons + Counter(added=len(good))


def test_a_file_that_cannot_be_read_is_one_reject_and_stops_nothing(faulty):
    files = [one for one in faulty.refused[0] if one[1] is None]
    assert files == [
        ("people.parquet", None, "missing_columns"),
        ("truncated.parquet", None, "unreadable_file"),
    ]
    raws = faulty.lake.read(REJECTS).where("reason = 'missing_columns'").collect()
    assert raws[0]["raw"] == "want the columns ['text', 'uid', 'url'], found ['name']"


def test_a_reject_keeps_the_raw_row(faulty):
    (kept,) = faulty.lake.read(REJECTS).where("reason = 'wrong_type' AND raw LIKE '%wide%'").collect()
    assert '"original_width":"wide"' in kept["raw"]
    assert uid("wide") in kept["raw"]


def test_captions_are_repaired_capped_and_null_where_there_is_nothing_to_read(faulty):
    at = CONTENT.index("org_caption")
    held = {name: faulty.contents[0][uid(name)][at] for name in ("leak", "no utf-8", "long", "plain")}
    assert held == {
        "leak": r"Café ® at 5\x",
        "no utf-8": r"C:\xff and Caf\xc3\xa9",
        "long": "é" * 100,
        "plain": "a picture of plain",
    }
    assert [faulty.contents[0][uid(name)][at] for name in ("blank", "tabs", "no text")] == [None] * 3


def test_columns_of_other_types_and_cases_are_read_and_missing_ones_are_null(faulty):
    def of(name: str) -> dict:
        return dict(zip(CONTENT, faulty.contents[0][uid(name)], strict=True))

    assert of("text width")["original_width"] == 640
    assert of("null width")["original_width"] is None
    assert (of("few")["face_bboxes"], of("few")["sha256"]) == (None, None)
    assert of("plain")["face_bboxes"] == []
    assert (of("shouted")["original_width"], of("shouted")["url"]) == (320, "https://host.test/shouted.jpg")
    assert of("spaced")["url"] == "HTTPS://host.test/a.jpg"


def test_a_rerun_adds_nothing(faulty):
    assert faulty.contents[1] == faulty.contents[0]
    assert faulty.refused[1] == faulty.refused[0]
    assert faulty.counts[1]["added"] == 0
    assert faulty.counts[1].total() == faulty.counts[0].total()


def test_an_overlapping_folder_adds_only_what_is_new(faulty):
    assert faulty.contents[2].keys() - faulty.contents[0].keys() == {uid("later")}
    assert faulty.counts[2]["added"] == 1
    # Four good rows of the copied file; plain and same of the overlap.
    assert faulty.counts[2]["held"] == 6
    new = Counter(file for file, _, _ in faulty.refused[2]) - Counter(
        file for file, _, _ in faulty.refused[0]
    )
    assert new == {"copy.parquet": 10}


def test_what_was_refused_and_can_be_taken_now_is_a_sample_and_no_reject(lake, settings, tmp_path):
    folder = tmp_path / "meta data"
    write(folder / "long.parquet", row("long", text="x" * 90), row("bad", url="ftp://host.test"))
    broken = write(folder / "broken.parquet", row("broken"))
    sound = broken.read_bytes()
    broken.write_bytes(sound[:-9])
    run(lake, settings, folder, longest_text=80)
    before = [("broken.parquet", None, "unreadable_file"), ("long.parquet", 0, "text_too_long")]
    assert refused(lake) == [*before, ("long.parquet", 1, "not_http")]

    broken.write_bytes(sound)
    run(lake, settings, folder, longest_text=100)
    assert refused(lake) == [("long.parquet", 1, "not_http")]
    assert contents(lake).keys() == {uid("long"), uid("broken")}


RIVALS = [f"rival {number}" for number in range(6)]


class DiesBeforeSamples(Lake):
    """A driver that is killed when the rejects are written and the samples are not."""

    def append(self, table, frame, *, transaction):
        if table is SAMPLES:
            raise KeyboardInterrupt
        return super().append(table, frame, transaction=transaction)


def add_derived(lake: Lake) -> None:
    """An image, a caption, a score and a rating for every sample."""
    derived = {
        IMAGES.name: "uid, 'ok' AS status, 1 AS attempts, now() AS fetched_at",
        CAPTIONS.name: "uid, 'c' AS captioner, 'ok' AS status",
        SCORES.name: "uid, 'c' AS captioner, 's' AS scorer, 'ok' AS status",
        RATINGS.name: "uid, 'c' AS captioner, 'j' AS judge, 5 AS rating",
    }
    for table in (IMAGES, CAPTIONS, SCORES, RATINGS):
        made = lake.read(SAMPLES).selectExpr(*derived[table.name].split(", "))
        absent = [
            F.lit(None).cast(f.dataType).alias(f.name) for f in table.schema if f.name not in made.columns
        ]
        lake.append(table, made.select("*", *absent), transaction=Transaction("derived", 1))


def test_conflicts_end_alike_in_either_order_and_after_a_kill_and_take_what_was_derived_with_them(
    spark, settings, tmp_path
):
    one, other = tmp_path / "one", tmp_path / "other"
    write(one / "rows.parquet", *(row(name) for name in RIVALS), row("only one"))
    write(other / "rows.parquet", *(row(name, text="another") for name in RIVALS), row("only other"))
    forth, back = (Lake(spark, LakeSettings(root=str(tmp_path / name), namespace=None)) for name in "fb")

    run(forth, settings, one)
    add_derived(forth)
    counts = run(forth, settings, other)
    run(back, settings, other)
    killed = DiesBeforeSamples(back.spark, back.settings)
    with pytest.raises(KeyboardInterrupt):
        run(killed, settings, one)
    run(back, settings, one)

    kept = contents(forth)
    assert contents(back) == kept
    assert kept.keys() == {uid(name) for name in [*RIVALS, "only one", "only other"]}
    by_other = {of for of, content in kept.items() if "another" in content}
    assert 0 < len(by_other) < len(RIVALS)
    assert counts == {
        "added": len(by_other) + 1,
        "displaced": len(by_other),
        "conflicting_uid": 6 - len(by_other),
    }
    reasons = [{(file, reason) for file, _, reason in refused(lake)} for lake in (forth, back)]
    assert reasons == [{("rows.parquet", "conflicting_uid")}] * 2
    assert [lake.read(REJECTS).count() for lake in (forth, back)] == [6, 6]
    for table in (IMAGES, CAPTIONS, SCORES, RATINGS):
        left = {each["uid"] for each in forth.read(table).select("uid").collect()}
        assert left == kept.keys() - by_other - {uid("only other")}


def test_a_copy_of_a_displaced_row_is_refused_too(spark):
    """One file holds the stored rows, one a copy of them, one their rivals; all three come in at once."""

    def claims(*files_and_texts: tuple[str, str]):
        held = [
            {"uid": uid(name), "org_caption": text, "url": name, "source_file": file, "source_row": 0}
            for name in RIVALS
            for file, text in files_and_texts
        ]
        return spark.createDataFrame(held, SAMPLES.schema)

    settled = settle(claims(("a", "x"), ("b", "x"), ("c", "y")), claims(("a", "x")))
    ends: dict[str, set] = {}
    for each in settled.collect():
        ends.setdefault(each["uid"], set()).add((each["source_file"], each["outcome"]))
    stays = frozenset({("a", "held"), ("b", "held"), ("c", "conflicting_uid")})
    goes = frozenset({("a", "held"), ("a", "displaced"), ("b", "conflicting_uid"), ("c", "added")})
    assert {frozenset(end) for end in ends.values()} == {stays} | {goes}


def test_a_folder_with_nothing_in_it_or_that_is_not_there_is_an_error(lake, settings, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"ingest\.source: .* found none in .*empty"):
        run(lake, settings, tmp_path / "empty")
    with pytest.raises(InputError, match=r"ingest\.source: want a folder or glob of Parquet files, .*absent"):
        run(lake, settings, tmp_path / "absent")
