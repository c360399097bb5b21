"""The published Recap-DataComp-1B finds the samples it is about and brings captions, scores and ratings."""

import hashlib
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from recap_spark.lake import Transaction
from recap_spark.progress import Progress
from recap_spark.stages import ingest
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


def test_published_rows_meet_their_samples_and_a_rerun_adds_nothing(stored, settings, tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS, schema=PUBLISHED), folder / "train.parquet")
    asked = settings.ingest.model_copy(update={"source": str(folder), "layout": "recap"})
    settings = settings.model_copy(update={"ingest": asked})
    captioner, scorer, judge = asked.published_captioner, asked.published_scorer, asked.published_judge

    counts = ingest.run(stored, settings, Progress(Console(quiet=True)))
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

    held = {table.name: rows(stored, table, "*") for table in (SAMPLES, REJECTS, CAPTIONS, SCORES, RATINGS)}
    again = ingest.run(stored, settings, Progress(Console(quiet=True)))
    assert again == Counter(held=6, not_http=1, empty_url=1)
    for table in (SAMPLES, REJECTS, CAPTIONS, SCORES, RATINGS):
        assert rows(stored, table, "*") == held[table.name]
