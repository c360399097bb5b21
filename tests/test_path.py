"""The whole path on a small miniature, run once; what it leaves is read by Spark and by others."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import duckdb
import matplotlib.pyplot
import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import readme
import webdataset
from deltalake import DeltaTable
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from readme_reader import Reader
from repository import ROOT
from rich.console import Console

from recap_spark.draw import keeps_original
from recap_spark.lake.lake import Lake
from recap_spark.miniature.dataset import write_dataset
from recap_spark.miniature.server import serve
from recap_spark.pipeline import STAGES, named, run_all, run_stage
from recap_spark.progress import Progress
from recap_spark.report.summary import show_summary
from recap_spark.settings.schema import LakeSettings, Settings
from recap_spark.stages.mix import view_captioner
from recap_spark.stages.score import scorer_spec
from recap_spark.tables import ALL, CAPTIONS, IMAGES, ORIGINAL, REJECTS, SAMPLES, SCORES
from recap_spark.tracking import tracking_uri

pytestmark = pytest.mark.spark

ROWS = 120


@dataclass(frozen=True)
class Finished:
    lake: Lake
    settings: Settings
    counts: dict[str, dict[str, int]]
    progress: Progress

    @property
    def root(self) -> Path:
        return Path(self.settings.lake.root)

    @property
    def export(self) -> Path:
        (manifest,) = self.root.glob("exports/*/manifest.json")
        return manifest.parent


def _in_two_units(stage, *, in_flight):
    work = {"units": 2, "in_flight": in_flight}
    return stage.model_copy(update={"work": stage.work.model_copy(update=work)})


@pytest.fixture(scope="module")
def finished(spark: SparkSession, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Every stage, over a miniature of 120 rows on its own server."""
    # The session's catalog puts its databases under the root that it was started with.
    root = Path(urlparse(spark.conf.get("spark.sql.warehouse.dir") or "").path)
    web = tmp_path_factory.mktemp("web")
    exported = {"folder": str(root / "exports"), "rows_per_shard": 50}
    changed = settings.model_copy(
        # One after the other where every further Python worker would load its own torch first.
        update={name: _in_two_units(getattr(settings, name), in_flight=1) for name in ("caption", "score")}
        | {
            "fetch": _in_two_units(settings.fetch, in_flight=2),
            "lake": LakeSettings(root=str(root), namespace="recap"),
            "ingest": settings.ingest.model_copy(update={"source": str(web / "metadata")}),
            "export": settings.export.model_copy(update=exported),
        }
    )
    progress = Progress(Console(stderr=True, force_terminal=False))
    lake = Lake(spark, changed.lake)
    with serve(web) as server:
        write_dataset(web, rows=ROWS, seed=3, base_url=server.base_url)
        return Finished(lake, changed, run_all(lake, changed, progress), progress)


def test_every_metadata_row_is_a_sample_or_a_reject(finished):
    files = list(Path(finished.settings.ingest.source).glob("*.parquet"))
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    assert finished.lake.read(SAMPLES).count() + finished.lake.read(REJECTS).count() == rows


def test_every_sample_ends_in_one_status_of_each_stage(finished):
    samples = {row["uid"] for row in finished.lake.read(SAMPLES).select("uid").collect()}
    images = finished.lake.read(IMAGES).select("uid", "status").collect()
    assert Counter(row["uid"] for row in images) == Counter(samples)
    fetched = {row["uid"] for row in images if row["status"] == "ok"}
    captions = finished.lake.read(CAPTIONS).select("uid", "status").collect()
    assert Counter(row["uid"] for row in captions) == Counter(fetched)
    scored = finished.lake.read(SCORES).select("uid", "captioner").collect()
    assert len(scored) == len(set(scored))
    assert {row["uid"] for row in captions if row["status"] == "ok"} <= {row["uid"] for row in scored}


def test_the_web_s_faults_show_as_statuses(finished):
    assert {"ok", "gone", "not_an_image", "hash_mismatch"} <= finished.counts["fetch"].keys()


def test_images_without_faces_keep_the_bytes_and_the_hash_that_was_promised(finished):
    promised = F.col("sha256").alias("promised")
    joined = (
        finished.lake.read(IMAGES)
        .where("status = 'ok'")
        .join(finished.lake.read(SAMPLES).where("face_bboxes IS NULL").select("uid", promised), on="uid")
    )
    wrong = joined.where((F.sha2("bytes", 256) != F.col("sha256")) | (F.col("promised") != F.col("sha256")))
    assert wrong.count() == 0


def test_recaptions_are_longer_than_alt_texts_and_preferred_by_clip(finished):
    view = finished.lake.spark.read.table("recap.recap_datacomp")
    lengths = view.agg(F.avg("re_length"), F.avg("org_length")).first()
    assert lengths[0] > lengths[1]
    preference = finished.lake.read(SCORES).agg(F.avg("pair_preference")).first()[0]
    assert preference > 0.5


def test_the_view_has_the_published_columns_and_types(finished):
    view = finished.lake.spark.read.table("recap.recap_datacomp")
    assert sorted((field.dataType.simpleString(), field.name) for field in view.schema) == [
        *(("bigint", f"{of}_{what}") for of in ("org", "re") for what in ("gpt4v_score", "length")),
        *(("double", f"{of}_clip_score") for of in ("org", "re")),
        *(("string", name) for name in ("key", "org_caption", "re_caption", "sha256", "url")),
    ]


def within(lake: Lake) -> SparkSession:
    """A session whose schema is the lake's: Spark 4.0 knows no table function by its schema's name."""
    session = lake.spark.newSession()
    session.catalog.setCurrentDatabase("recap")
    return session


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_table_function_draws_as_python_does(finished, epoch):
    query = "SELECT * FROM mixed_captions(0.8, 7, :epoch)"
    rows = within(finished.lake).sql(query, args={"epoch": epoch}).collect()
    assert len(rows) > 100
    for row in rows:
        keeps = keeps_original(row["uid"], p=0.8, seed=7, epoch=epoch)
        first, second = (row["org_caption"], row["re_caption"])[:: 1 if keeps else -1]
        assert row["caption"] == (first if first is not None else second)
        drawn = "original" if keeps else "recaption"
        assert row["source"] == (drawn if first is not None else "fallback")


def test_stock_webdataset_reads_the_shards(finished):
    shards = sorted(map(str, finished.export.glob("webdataset/*.tar")))
    assert len(shards) > 1
    rows = list(
        webdataset.WebDataset(shards, shardshuffle=False)
        .decode("pil")
        .to_tuple("__key__", "jpg", "txt", "json")
    )
    manifest = json.loads((finished.export / "manifest.json").read_text())
    assert len(rows) == sum(manifest["rows"].values())
    for key, picture, caption, described in rows:
        assert set(described) == {
            *("uid", "url", "org_caption", "re_caption", "sha256", "source", "captioner"),
            *("org_clip_score", "re_clip_score"),
        }
        assert None not in described.values()
        assert described["uid"] == key
        assert picture.mode == "RGB"
        assert caption in {described["org_caption"], described["re_caption"]}
        assert described["captioner"] == (manifest["captioner"] if described["re_caption"] else "")
    assert {source: count for source, count in manifest["rows"].items() if count} == Counter(
        described["source"] for *_, described in rows
    )


def test_the_shards_hold_the_scores_of_the_table(finished):
    scores = finished.lake.read(SCORES).where(F.col("scorer") == scorer_spec(finished.settings.score).name)
    wanted = {(row["uid"], row["captioner"]): row["cosine"] for row in scores.collect()}
    captioner = view_captioner(finished.settings)
    files = sorted(finished.export.glob("parquet/*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert {row["re_clip_score"] is None for row in rows} == {row["re_caption"] is None for row in rows}
    assert [(row["org_clip_score"], row["re_clip_score"]) for row in rows] == [
        (wanted.get((row["uid"], ORIGINAL)), wanted.get((row["uid"], captioner))) for row in rows
    ]


def test_every_sample_is_in_the_export_or_in_its_reasons(finished):
    manifest = json.loads((finished.export / "manifest.json").read_text())
    fetched = Counter(row["status"] for row in finished.lake.read(IMAGES).select("status").collect())
    del fetched["ok"]
    assert {reason: manifest["left_out"].get(reason) for reason in fetched} == fetched
    assert finished.counts["export"] == manifest["rows"] | manifest["left_out"]
    assert sum(finished.counts["export"].values()) == finished.lake.read(SAMPLES).count()


def test_the_parquet_shards_hold_the_same_rows_as_the_tars(finished):
    tars = sorted(map(str, finished.export.glob("webdataset/*.tar")))
    keys = [row["__key__"] for row in webdataset.WebDataset(tars, shardshuffle=False)]
    files = sorted(finished.export.glob("parquet/*.parquet"))
    assert [uid for file in files for uid in pq.read_table(file)["uid"].to_pylist()] == keys


def test_the_manifest_says_what_was_exported_and_from_what(finished):
    manifest = json.loads((finished.export / "manifest.json").read_text())
    assert manifest["view"]["p"] == 0.8
    assert (manifest["view"]["epoch"], manifest["view"]["seed"]) == (0, 7)
    assert manifest["tables"].keys() == {"samples", "images", "captions", "scores"}
    assert manifest["layout"].keys() == {"webdataset/NNNNNNNN.tar", "parquet/NNNNNNNN.parquet"}
    assert {name.partition("/")[0] for name in manifest["files"]} == {"webdataset", "parquet"}
    sizes = json.loads((finished.export / "webdataset" / "sizes.json").read_text())
    assert sum(sizes.values()) == sum(manifest["rows"].values())
    left = {path.name for path in finished.export.rglob("*")}
    assert not [name for name in left if name.startswith("_") or name.endswith(".partial")]


def test_duckdb_and_delta_rs_read_the_tables(finished):
    captions = DeltaTable(finished.root / "recap.db" / "captions").to_pyarrow_dataset()
    assert captions.count_rows() == finished.lake.read(CAPTIONS).count()
    words = "SELECT count(*) FROM captions WHERE status = 'ok' AND length(caption) > 0"
    assert duckdb.execute(words).fetchall() == [
        (finished.lake.read(CAPTIONS).where("status = 'ok'").count(),)
    ]


@pytest.mark.parametrize("arguments", ["1.5, 7, 0", "-0.1, 7, 0", "NULL, 7, 0", "0.5, NULL, 0"])
def test_a_mixture_that_is_none_is_refused(finished, arguments):
    with pytest.raises(PySparkException, match="want p from 0 to 1"):
        within(finished.lake).sql(f"SELECT * FROM mixed_captions({arguments})").collect()


def test_a_rerun_does_nothing_twice(finished):
    before = {table.name: finished.lake.read(table).count() for table in ALL}
    exported = finished.export.stat().st_mtime_ns
    finished.lake.compact(CAPTIONS)  # the same rows in other files
    with serve(Path(finished.settings.ingest.source).parent) as server:
        for stage in STAGES:
            run_stage(stage, finished.lake, finished.settings, finished.progress)
        assert server.asked() == {}
    assert {table.name: finished.lake.read(table).count() for table in ALL} == before
    assert finished.export.stat().st_mtime_ns == exported


def test_a_change_of_prompt_is_another_captioner_whose_captions_stand_beside_the_old(finished):
    asked = {"prompt": "Describe.", "max_new_tokens": 4}
    captioner = finished.settings.caption.captioner.model_copy(update=asked)
    caption = finished.settings.caption.model_copy(update={"captioner": captioner})
    changed = finished.settings.model_copy(update={"caption": caption})
    old = finished.lake.read(CAPTIONS).count()
    run_stage(named("caption"), finished.lake, changed, finished.progress)
    per_captioner = finished.lake.read(CAPTIONS).groupBy("captioner").count().collect()
    assert [row["count"] for row in per_captioner] == [old, old]
    cut = finished.lake.read(CAPTIONS).where(F.col("captioner") == view_captioner(changed)).collect()
    # Asked what it was not trained on, the miniature has no more to say of some pictures than a word.
    assert {row["tokens"] for row in cut if row["finish_reason"] == "length"} == {4}
    assert max(row["tokens"] for row in cut) == 4


def test_mlflow_keeps_settings_counts_rates_and_versions_of_every_stage(finished):
    mlflow.set_tracking_uri(tracking_uri(finished.settings))
    runs = mlflow.search_runs(experiment_names=["recap_spark"], output_format="list")
    by_stage = {run.data.tags["stage"]: run for run in reversed(runs)}
    assert set(by_stage) == {stage.name for stage in STAGES}
    fetch = by_stage["fetch"]
    assert fetch.info.status == "FINISHED"
    assert fetch.data.params["fetch.limits.deadline_s"] == "4.0"
    assert {"rows_per_s", "seconds", "table.ok"} <= fetch.data.metrics.keys()
    assert {"input.samples", "output.images"} <= fetch.data.tags.keys()
    export = by_stage["export"].data
    assert {"rows.original", "rows.recaption", "rows.gone"} <= export.metrics.keys()
    assert "input.scores" in export.tags


def test_the_summary_shows_counts_samples_and_comparison(finished, capsys):
    captioner = view_captioner(finished.settings)
    scorer = scorer_spec(finished.settings.score).name
    show_summary(
        finished.lake, finished.counts, captioner=captioner, scorer=scorer, console=Console(width=200)
    )
    shown = capsys.readouterr().out
    wanted = {
        "Rows by stage",
        "hash_mismatch",
        "Ten samples",
        "mean length",
        "joint vocabulary",
        "preference",
    }
    assert not [words for words in wanted if words not in shown]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_over_the_tables(finished, path):
    matplotlib.use("Agg")
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    spark = finished.lake.spark
    spark.sql("USE recap")
    names: dict[str, object] = {"spark": spark, "plt": matplotlib.pyplot}
    try:
        for cell in cells[1:]:  # the first opens a session, and this one is open
            exec("".join(cell["source"]), names)
    finally:
        matplotlib.pyplot.close("all")
        spark.sql("USE default")


@pytest.fixture(scope="module")
def reader(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Somebody in a folder with this lake, shards, published metadata, and the web as it was."""
    spark = finished.lake.spark
    metadata = Path(finished.settings.ingest.source)
    web = urlparse(finished.lake.read(SAMPLES).where("url LIKE 'http://127%'").first()["url"])
    reader = Reader(tmp_path_factory.mktemp("reader"), finished.root, metadata, host=web.hostname or "")
    reader.settle()
    shutil.copytree(finished.export / "webdataset", reader.folder / "shards")
    _publish(finished, reader.folder / "published")
    # Those of a test above, whose captioner is none of conf: `all` would score them.
    others = finished.lake.read(CAPTIONS).where(F.col("captioner") != view_captioner(finished.settings))
    finished.lake.delete(CAPTIONS, others.select("captioner"))
    changed = ("spark.sql.shuffle.partitions", "spark.databricks.delta.snapshotPartitions")
    before = {key: spark.conf.get(key) for key in changed}
    with pytest.MonkeyPatch.context() as patch, serve(metadata.parent, port=web.port):
        patch.chdir(reader.folder)
        patch.delenv("RECAP_CONF", raising=False)
        patch.setenv("PYSPARK_GATEWAY_PORT", "0")  # as where a platform has a session, which is left open
        yield reader
    for key, value in before.items():
        spark.conf.set(key, value)
    spark.sql("USE default")


def _publish(finished: Finished, folder: Path) -> None:
    """Four captions as published of pictures in the lake, and four of pictures that nobody fetched yet."""
    columns = "url", "sha256", "org_caption", "caption AS re_caption"
    fetched = finished.lake.read(IMAGES).where("status = 'ok' AND sha256_matches").select("uid")
    captions = finished.lake.read(CAPTIONS).where("finish_reason = 'stop'")
    samples = finished.lake.read(SAMPLES).join(captions, on="uid").join(fetched, on="uid")
    rows = [row.asDict() for row in samples.dropDuplicates(["uid"]).selectExpr(*columns).limit(4).collect()]
    rows += [row | {"url": f"{row['url']}?again"} for row in rows]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "0.parquet")


@pytest.mark.parametrize("line", readme.RUN)
def test_a_command_of_readme_runs(reader, line):
    said = reader.run(line)
    assert said
    assert [
        words for start, words in readme.SHOWN.items() if line.startswith(start) and words not in said
    ] == []
