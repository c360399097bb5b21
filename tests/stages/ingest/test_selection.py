"""Subset files and DataComp's filters choose rows of the metadata, and each row left out has its reason."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from metadata_files import DATACOMP
from pydantic import TypeAdapter
from pyspark.sql import functions as F
from rich.console import Console

from recap_spark.errors import InputError, SettingsError
from recap_spark.progress import Progress
from recap_spark.settings.ingest import Filter
from recap_spark.stages.export.subset import write_subset
from recap_spark.stages.ingest import ingest
from recap_spark.stages.ingest.fractions import Cut, find_cut
from recap_spark.tables import REJECTS, SAMPLES
from recap_spark.workers.shards.subsets import halves

pytestmark = pytest.mark.spark

METADATA = pa.schema(list(DATACOMP)[:7])  # up to the scores
ENGLISH = "a photo of the house and a tree"
GERMAN = "ein bild von dem haus und ein baum"


def uid(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def row(name: str, **changed) -> dict:
    """A row that every filter keeps, but for what is changed."""
    good = {"uid": uid(name), "url": f"https://host.test/{name}", "text": ENGLISH}
    sizes = {"original_width": 600, "original_height": 200}
    scores = {"clip_b32_similarity_score": 0.9, "clip_l14_similarity_score": 0.9}
    return good | sizes | scores | changed


def write(path: Path, *rows: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=METADATA), path)
    return path


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> str:
    """A tiny fastText model of the kind of lid.176.bin."""
    folder = tmp_path_factory.mktemp("lid")
    (folder / "texts").write_text(f"__label__en {ENGLISH}\n__label__de {GERMAN}\n" * 50)
    model = fasttext.train_supervised(
        str(folder / "texts"), dim=8, epoch=20, thread=1, bucket=1000, verbose=0
    )
    model.save_model(str(folder / "lid.bin"))
    return str(folder / "lid.bin")


def run(lake, settings, source: Path, *filters: dict, **changed) -> Counter:
    read = TypeAdapter(tuple[Filter, ...]).validate_python(filters)
    update = {"source": str(source), "layout": "datacomp", "filters": read} | changed
    asked = settings.model_copy(update={"ingest": settings.ingest.model_copy(update=update)})
    return ingest.run(lake, asked, Progress(Console(quiet=True)))


def held(lake) -> set[str]:
    return {kept["uid"] for kept in lake.read(SAMPLES).select("uid").collect()}


def refused(lake) -> dict[tuple[str, int], str]:
    file = F.regexp_extract("source_file", "([^/]*)$", 1).alias("file")
    rows = lake.read(REJECTS).select(file, "source_row", "reason").collect()
    return {(one["file"], one["source_row"]): one["reason"] for one in rows}


BASIC, CAPTION = {"name": "basic"}, {"name": "caption"}
OF_THE_FILTERS = {
    "all hold": (row("all hold"), None),
    "three times as long": (row("three", original_width=200, original_height=600), None),
    "too long": (row("too long", original_width=200, original_height=601), "filtered_basic"),
    "too small": (row("too small", original_width=199, original_height=199), "filtered_basic"),
    "no size": (row("no size", original_width=None), "filtered_basic"),
    "zero": (row("zero", original_width=0, original_height=0), "filtered_basic"),
    "two words": (row("two words", text="a house"), "filtered_basic"),
    "three words between odd blanks": (row("odd blanks", text="the\u3000house\u00a0and\x1ca tree"), None),
    "five characters": (row("five", text="a a a"), "filtered_basic"),
    "no text": (row("no text", text=None), "filtered_basic"),
    "german": (row("german", text=GERMAN), "filtered_basic"),
    "low score": (row("low", clip_l14_similarity_score=0.69999), "filtered_clip_score"),
    "float32's own 0.7": (row("exact", clip_l14_similarity_score=0.7), None),
    "no score": (row("no score", clip_l14_similarity_score=None), "filtered_clip_score"),
    "nan": (row("nan", clip_l14_similarity_score=float("nan")), "filtered_clip_score"),
    "faulty and small": (row("faulty", url="ftp://a", original_width=1), "not_http"),
}


def test_each_filter_leaves_out_what_it_names_and_each_row_is_answered_for(
    lake, settings, tmp_path, language_model
):
    rows = [one for one, _ in OF_THE_FILTERS.values()]
    write(tmp_path / "m" / "f.parquet", *rows)
    threshold = {"name": "clip_score_threshold", "arch": "l14", "threshold": 0.7}
    counts = run(lake, settings, tmp_path / "m", BASIC, threshold, language_model=language_model)
    reasons = {("f.parquet", at): why for at, (_, why) in enumerate(OF_THE_FILTERS.values()) if why}
    assert refused(lake) == reasons
    assert held(lake) == {one["uid"] for one, why in OF_THE_FILTERS.values() if why is None}
    assert counts == Counter(reasons.values()) + Counter(added=len(rows) - len(reasons))
    (kept,) = lake.read(REJECTS).where("source_row = 2").collect()
    assert json.loads(kept["raw"])["original_height"] == 601


def test_the_first_filter_that_does_not_hold_is_the_reason(lake, settings, tmp_path, language_model):
    bad = row("bad", text=GERMAN, original_width=1, clip_b32_similarity_score=0.1)
    write(tmp_path / "m" / "f.parquet", bad)
    score = {"name": "clip_score_threshold", "arch": "b32", "threshold": 0.28}
    run(lake, settings, tmp_path / "m", CAPTION, BASIC, score, language_model=language_model)
    assert refused(lake) == {("f.parquet", 0): "filtered_caption"}
    run(lake, settings, tmp_path / "m", score, BASIC, CAPTION, language_model=language_model)
    assert refused(lake) == {("f.parquet", 0): "filtered_clip_score"}


def test_the_caption_filter_counts_words_as_fasttext_does(lake, settings, tmp_path, language_model):
    texts = ["the tree", "the\u00a0tree", "thetree", "thetree\n", "\tthe\x0btree ", "a b", "the tr"]
    write(tmp_path / "m" / "f.parquet", *(row(text, text=text) for text in texts))
    run(lake, settings, tmp_path / "m", CAPTION, language_model=language_model)
    model = fasttext.load_model(language_model)
    expected = {
        text
        for text in texts
        if len(fasttext.tokenize(text)) > 1
        and len(text) > 5
        and model.predict(text.replace("\n", " "))[0][0] == "__label__en"
    }
    assert held(lake) == {uid(text) for text in expected}
    assert 0 < len(expected) < len(texts)


def test_other_filters_another_time_take_back_what_the_first_refused(lake, settings, tmp_path):
    write(
        tmp_path / "m" / "f.parquet", *(row(str(at), clip_b32_similarity_score=at / 10) for at in range(10))
    )
    at_least = {"name": "clip_score_threshold", "arch": "b32"}
    first = run(lake, settings, tmp_path / "m", at_least | {"threshold": 0.8})
    assert first == {"added": 2, "filtered_clip_score": 8}
    again = run(lake, settings, tmp_path / "m", at_least | {"threshold": 0.8})
    assert again == {"held": 2, "filtered_clip_score": 8}
    assert len(refused(lake)) == 8
    wider = run(lake, settings, tmp_path / "m", at_least | {"threshold": 0.5})
    assert (wider["added"], wider["held"], wider["filtered_clip_score"]) == (3, 2, 5)
    assert len(refused(lake)) == 5
    assert run(lake, settings, tmp_path / "m") == {"added": 5, "held": 5}
    assert refused(lake) == {}


def test_a_fraction_is_exact_whatever_the_order_of_rows_and_files(lake, settings, tmp_path):
    draw = random.Random(3)
    scores = [round(draw.random(), 1) for _ in range(97)] + [None, float("nan"), 0.95]
    rows = [row(str(at), clip_l14_similarity_score=score) for at, score in enumerate(scores)]
    ranked = sorted(
        (
            one
            for one in rows
            if one["clip_l14_similarity_score"] == one["clip_l14_similarity_score"] is not None
        ),
        key=lambda one: (-np.float32(one["clip_l14_similarity_score"]), one["uid"]),
    )
    draw.shuffle(rows)
    for at in range(4):
        write(tmp_path / "m" / f"{at}.parquet", *rows[at::4])
    fraction = {"name": "clip_score_fraction", "arch": "l14", "fraction": 0.29}
    counts = run(lake, settings, tmp_path / "m", fraction, files_per_commit=1)
    assert held(lake) == {one["uid"] for one in ranked[:28]}  # int(100 * 0.29), as DataComp rounds
    assert counts == {"added": 28, "filtered_clip_score": 72}


@pytest.mark.parametrize("parts", [1, 3])
def test_the_cut_is_the_place_of_the_last_kept_row(spark, parts):
    rows = [
        ("a", 0.5),
        ("c", 0.25),
        ("b", 0.25),
        ("d", 0.25),
        ("e", -7.5e10),
        ("f", None),
        ("g", 1e30),
        (None, 0.25),
    ]
    frame = spark.createDataFrame(rows, "uid string, score float").repartition(parts)
    cuts = {keep: find_cut(frame, "score", fraction=keep / 8 + 0.001) for keep in range(9)}
    assert cuts[0] is None
    assert [cuts[keep] for keep in (1, 2, 3, 4, 5)] == [
        Cut(float(np.float32(1e30)), "g"),
        Cut(0.5, "a"),
        Cut(0.25, "b"),
        Cut(0.25, "c"),
        Cut(0.25, "d"),
    ]
    assert cuts[7] == cuts[8] == Cut(float(np.float32(-7.5e10)), "e")


def test_a_subset_file_leaves_in_only_its_uids_and_the_rest_is_counted(lake, settings, tmp_path):
    names = [str(number) for number in range(40)]
    bad = row("bad", url="ftp://a")
    write(
        tmp_path / "m" / "f.parquet", *map(row, names), bad, row("no uid", uid=None), row("x", uid="G" * 32)
    )
    wanted = [uid(name) for name in names[::3]] + [bad["uid"], uid("elsewhere")]
    np.save(tmp_path / "s.npy", halves(sorted(wanted)))
    counts = run(lake, settings, tmp_path / "m", subset=str(tmp_path / "s.npy"))
    assert held(lake) == {uid(name) for name in names[::3]}
    assert counts == {"added": 14, "not_in_subset": 28, "not_http": 1}
    assert refused(lake) == {("f.parquet", 40): "not_http"}


def test_a_subset_is_written_from_a_query_as_numpy_would_save_it_and_read_back(lake, settings, tmp_path):
    names = [str(number) for number in range(200)]
    write(tmp_path / "m" / "f.parquet", *map(row, names))
    run(lake, settings, tmp_path / "m")
    table = lake.name(SAMPLES.name)
    some = f"SELECT uid, url FROM {table} WHERE crc32(uid) % 2 = 0"
    rows = lake.spark.sql(f"{some} UNION ALL SELECT uid, url FROM {table} LIMIT 150").localCheckpoint()
    uids = [one["uid"] for one in rows.collect()]
    (tmp_path / "out.npy").write_text("an older file")
    assert write_subset(rows.repartition(5), str(tmp_path / "out.npy")) == 150
    expected = np.array([(int(one[:16], 16), int(one[16:], 16)) for one in uids], np.dtype("u8,u8"))
    np.save(tmp_path / "numpy.npy", np.sort(expected))
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["numpy.npy", "out.npy"]
    counts = run(lake, settings, tmp_path / "m", subset=str(tmp_path / "out.npy"))
    assert counts["held"] == len(set(uids))
    assert counts["not_in_subset"] == 200 - len(set(uids))


def test_what_cannot_be_a_subset_leaves_no_file(spark, tmp_path):
    output = tmp_path / "out.npy"
    for rows, said in (
        (spark.sql("SELECT 'x' AS name"), "want a column uid"),
        (spark.sql("SELECT CAST(NULL AS STRING) AS uid"), "found null"),
        (spark.sql("SELECT md5('a') AS uid UNION ALL SELECT 'G'"), "found 'G'"),
    ):
        with pytest.raises(InputError, match=said):
            write_subset(rows, str(output))
    assert list(tmp_path.iterdir()) == []
    assert write_subset(spark.sql("SELECT md5('a') AS uid WHERE false"), str(output)) == 0
    assert np.load(output).shape == (0,)


def test_what_a_filter_or_subset_needs_and_has_not_is_said_before_anything_is_written(
    lake, settings, tmp_path
):
    write(tmp_path / "m" / "f.parquet", row("a"))
    np.save(tmp_path / "unsorted.npy", halves(["f" * 32, "0" * 32]))
    for filters, changed, error, said in (
        ([BASIC], {"language_model": None}, SettingsError, "ingest.language_model: want fastText"),
        ([CAPTION], {"language_model": "nowhere.bin"}, InputError, "found none at 'nowhere.bin'"),
        ([BASIC], {"layout": "recap"}, SettingsError, "want ingest.layout datacomp"),
        ([], {"subset": str(tmp_path / "none.npy")}, InputError, "none.npy"),
        ([], {"subset": str(tmp_path / "unsorted.npy")}, InputError, "entry 1 out of order"),
    ):
        with pytest.raises(error, match=said):
            run(lake, settings, tmp_path / "m", *filters, **changed)
    assert not lake.holds(SAMPLES)
