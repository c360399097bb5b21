"""The published Recap-DataComp-1B finds the samples it is about and brings captions, scores and ratings."""

import hashlib
import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from recap_spark.lake.lake import Lake, Transaction
from recap_spark.progress import Progress
from recap_spark.stages.ingest import ingest
from recap_spark.tables import CAPTIONERS, CAPTIONS, RATINGS, REJECTS, SAMPLES, SCORES

pytestmark = pytest.mark.spark

PUBLISHED = pa.schema(
    [(name, pa.string()) for name in ("url", "re_caption", "org_caption", "sha256", "key")]
    + [("re_clip_score", pa.float64()), ("org_clip_score", pa.float64())]
    + [(name, pa.int64()) for name in ("re_length", "org_length", "re_gpt4v_score", "org_gpt4v_score")]
)
STORED, TWIN, LATER_TWIN = ("a" * 32, "b" * 32, "c" * 32)
S, T, OTHER = ("1" * 64, "2" * 64, "3" * 64)


def url(name: str) -> str:
    return f"https://host.test/{name}"


def of_url(name: str) -> str:
    return hashlib.md5(url(name).encode()).hexdigest()


def scored(name: str, of: float | None, original: float | None, **more) -> dict:
    row = {"url": url(name), "re_caption": f"recaption of {name}", "org_caption": name, "sha256": OTHER}
    return row | {"re_clip_score": of, "org_clip_score": original} | more


ROWS = [
    scored("stored", 0.6, 0.4, sha256=S, re_gpt4v_score=5, org_gpt4v_score=2),
    scored("stored", None, None),  # other bytes at the url since
    scored("twins", 0.31, 0.25, sha256=T, re_gpt4v_score=0, org_gpt4v_score=None),
    scored("percent", 55.0, 45.0, sha256=None, org_caption=r"Caf\xc3\xa9"),
    scored("half", 0.31, None),
    scored("no caption", None, None, re_caption=" "),
    scored("ftp", 0.3, 0.2, url="ftp://host.test/a.jpg"),
    scored("no url", 0.3, 0.2, url=None),
]


@pytest.fixture
def stored(lake):
    """Three samples of DataComp's metadata; two of them are one image under two alt-texts."""
    lake.create(SAMPLES)
    samples = [(STORED, url("stored"), S), (LATER_TWIN, url("twins"), T), (TWIN, url("twins"), T)]
    frame = lake.spark.createDataFrame(samples, "uid string, url string, sha256 string")
    empty = ("BIGINT original_width", "BIGINT original_height", "FLOAT clip_b32_similarity_score")
    empty += ("FLOAT clip_l14_similarity_score", "ARRAY<ARRAY<DOUBLE>> face_bboxes", "STRING org_caption")
    nulls = [f"CAST(NULL AS {kind}) AS {name}" for kind, name in (each.split() for each in empty)]
    frame = frame.selectExpr("*", *nulls, "'datacomp' AS source_file", "0L AS source_row")
    lake.append(SAMPLES, frame, transaction=Transaction("test", 1))
    return lake


def rows(lake, table, *columns) -> list[tuple]:
    return sorted((tuple(row) for row in lake.read(table).select(*columns).collect()), key=str)


@pytest.fixture
def ingested(stored, settings, tmp_path):
    """Ingests files of published rows, so many to a commit."""

    def ingested(*files, files_per_commit=256, into=stored):
        for number, held in enumerate(files):
            path = tmp_path / "published" / f"{number}.parquet"
            path.parent.mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(held, schema=PUBLISHED), path)
        source = {"source": str(tmp_path / "published"), "layout": "recap"}
        asked = settings.ingest.model_copy(update=source | {"files_per_commit": files_per_commit})
        return ingest.run(into, settings.model_copy(update={"ingest": asked}), Progress(Console(quiet=True)))

    return ingested


def test_published_rows_meet_their_samples_and_a_rerun_adds_nothing(stored, settings, ingested):
    asked = settings.ingest
    captioner, scorer, judge = asked.published_captioner, asked.published_scorer, asked.published_judge

    counts = ingested(ROWS)
    assert counts == Counter(held=2, added=4, not_http=1, empty_url=1)
    new = [of_url(name) for name in ("stored", "percent", "half", "no caption")]
    assert {uid for (uid,) in rows(stored, SAMPLES, "uid")} == {STORED, TWIN, LATER_TWIN, *new}
    assert (of_url("percent"), "Café") in rows(stored, SAMPLES, "uid", "org_caption")
    assert rows(stored, REJECTS, "source_row", "reason") == [(6, "not_http"), (7, "empty_url")]

    # The captions of an image under two alt-texts go to the smaller uid, so that a rerun finds them there.
    captioned = {STORED: "stored", of_url("stored"): "stored", TWIN: "twins"}
    captioned |= {of_url(name): name for name in ("percent", "half")}
    assert rows(stored, CAPTIONS, "uid", "captioner", "status", "caption") == sorted(
        [(uid, captioner, "ok", f"recaption of {name}") for uid, name in captioned.items()]
        + [(of_url("no caption"), captioner, "empty_caption", None)],
        key=str,
    )
    assert [name for (name,) in rows(stored, CAPTIONERS, "captioner")] == [captioner]

    scores = rows(stored, SCORES, "uid", "captioner", "scorer", "cosine", "pair_preference")
    approximate = {
        (uid, who): (cosine and round(cosine, 5), share and round(share, 5))
        for uid, who, by, cosine, share in scores
        if by == scorer
    }
    assert approximate == {
        (STORED, captioner): (None, 0.6),  # shares of 1
        (STORED, "original"): (None, None),
        (of_url("percent"), captioner): (None, 0.55),  # shares of 100
        (of_url("percent"), "original"): (None, None),
        (TWIN, captioner): (0.31, None),
        (TWIN, "original"): (0.25, None),
        (of_url("half"), captioner): (0.31, None),
    }
    assert rows(stored, RATINGS, "uid", "captioner", "judge", "rating") == [
        (STORED, "original", judge, 2),
        (STORED, captioner, judge, 5),
    ]

    held = contents(stored)
    assert ingested(ROWS) == Counter(held=6, not_http=1, empty_url=1)
    assert contents(stored) == held


def contents(lake) -> dict[str, list[tuple]]:
    return {table.name: rows(lake, table, "*") for table in (SAMPLES, REJECTS, CAPTIONS, SCORES, RATINGS)}


# Rows that say different things of one url: of a stored sample's, and of one that is not stored yet.
RIVALS = [
    scored("stored", None, None, sha256=S, re_caption="one"),
    scored("new", None, None, sha256=S, re_caption="two", org_gpt4v_score=3),
    scored("new", None, None, sha256=S, re_caption="two", org_gpt4v_score=3),
    scored("new", None, None, sha256=T, re_caption="three", re_gpt4v_score=3),
]
LATER_RIVALS = [
    scored("stored", 0.3, 0.2, sha256=S, re_caption="four", re_gpt4v_score=4),
    scored("new", 0.4, 0.3, sha256=S, re_caption="five", re_gpt4v_score=5),
    scored("new", 0.5, 0.4, sha256=T, re_caption="six"),
    scored("new", 0.6, 0.5, sha256=None, re_caption=None),
]


def kept_captions(lake, *files) -> dict[str, str | None]:
    """What captions holds of the rivals: of their rows, one for each uid, and the rest is in rejects."""
    captions = dict(rows(lake, CAPTIONS, "uid", "caption"))
    assert captions.keys() == {STORED, of_url("new")}
    said = Counter(row["re_caption"] for file in files for row in file)
    refused = Counter(json.loads(raw).get("re_caption") for (raw,) in rows(lake, REJECTS, "raw"))
    assert said == refused + Counter(captions.values())
    return captions


def test_of_rows_that_contradict_each_other_one_is_kept_whole_and_the_others_are_rejects(stored, ingested):
    files = (RIVALS, LATER_RIVALS)
    counts = ingested(*files, files_per_commit=1)
    assert counts.total() == len(RIVALS) + len(LATER_RIVALS)
    assert (counts["held"], counts["added"]) == (1, 1)
    assert counts["conflicting_uid"] + counts["repeated_uid"] == 6

    captions = kept_captions(stored, *files)
    assert captions[STORED] == "one"
    assert captions[of_url("new")] in {"two", "three"}

    # What is known of a caption is of that caption, and the sample is the picture that it is about.
    kept = {
        uid: next(row for file in files for row in file if row["re_caption"] == caption)
        for uid, caption in captions.items()
    }
    assert (of_url("new"), kept[of_url("new")]["sha256"]) in rows(stored, SAMPLES, "uid", "sha256")
    sides = ("re", "org")
    cosines = [row[f"{side}_clip_score"] for row in kept.values() for side in sides]
    assert len(rows(stored, SCORES, "uid")) == len(cosines) - cosines.count(None)
    ratings = [row.get(f"{side}_gpt4v_score") for row in kept.values() for side in sides]
    assert sorted(rating for (rating,) in rows(stored, RATINGS, "rating")) == sorted(filter(None, ratings))

    held = contents(stored)
    again = ingested(*files, files_per_commit=2)
    assert again == counts - Counter(added=1) + Counter(held=1)
    assert contents(stored) == held


class DiesBeforeCaptions(Lake):
    """A driver that is killed when the samples are written and the captions are not."""

    def append(self, table, frame, *, transaction):
        if table is CAPTIONS:
            raise KeyboardInterrupt
        return super().append(table, frame, transaction=transaction)


def test_after_a_kill_the_same_rows_are_kept(stored, ingested):
    with pytest.raises(KeyboardInterrupt):
        ingested(RIVALS, LATER_RIVALS, into=DiesBeforeCaptions(stored.spark, stored.settings))
    samples, refused = rows(stored, SAMPLES, "*"), rows(stored, REJECTS, "*")
    counts = ingested(RIVALS, LATER_RIVALS)
    assert (counts.total(), counts["held"], counts["added"]) == (8, 2, 0)
    kept_captions(stored, RIVALS, LATER_RIVALS)
    assert (rows(stored, SAMPLES, "*"), rows(stored, REJECTS, "*")) == (samples, refused)


def test_the_row_that_a_sample_came_from_stays_however_files_are_cut_into_commits(stored, ingested):
    """Rows of one picture and recaption, with other scores: the later ones say nothing new."""
    files = [[scored("new", 0.1, None)], [scored("new", score, None) for score in (0.2, 0.3, 0.4, 0.5, 0.6)]]
    assert ingested(*files, files_per_commit=1) == Counter(added=1, held=1, repeated_uid=4)
    tables = (SAMPLES, CAPTIONS, SCORES)
    first = [rows(stored, table, "*") for table in tables]
    (source,) = [file for uid, file in rows(stored, SAMPLES, "uid", "source_file") if uid == of_url("new")]
    assert source.endswith("/0.parquet")

    assert ingested(*files, files_per_commit=2) == Counter(held=1, repeated_uid=5)
    assert [rows(stored, table, "*") for table in tables] == first
    refused = rows(stored, REJECTS, "source_file", "reason")
    assert {reason for _, reason in refused} == {"repeated_uid"}
    assert source not in {file for file, _ in refused}
