"""Published captions are made again, and the template they were made with comes first."""

from functools import partial

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from recap_spark.errors import InputError
from recap_spark.lake.lake import Transaction
from recap_spark.miniature.render import render_bytes
from recap_spark.miniature.world import HELD_OUT, draw_scene
from recap_spark.stages.caption.calibrate import OWN, published_pairs, rank_templates
from recap_spark.tables import CAPTIONS, IMAGES, SAMPLES
from recap_spark.workers.captioning.captioner import prepare_image
from recap_spark.workers.captioning.captions import stream_captions
from recap_spark.workers.captioning.engines import captioner_spec
from recap_spark.workers.partition import stream_partition

pytestmark = pytest.mark.spark

PUBLISHED = "recap-datacomp-1b"
COUNT = 6
PROMISED, OTHER = "A" * 64, "b" * 64


def uid(number: int) -> str:
    return f"{number:032x}"


def add(lake, table, rows: list[dict]) -> None:
    """Rows with nulls in the columns that they do not name."""
    lake.create(table)
    frame = lake.spark.createDataFrame(
        [tuple(row.get(name) for name in table.schema.names) for row in rows], table.loose
    )
    lake.append(table, frame, transaction=Transaction(f"test-{table.name}", 1))


@pytest.fixture(scope="module")
def published(new_lake, settings):
    """Images whose published captions the miniature made under its own template; what is not to be used
    beside them.
    """
    lake = new_lake()
    scenes = [render_bytes(draw_scene(HELD_OUT[number])) for number in range(COUNT + 3)]
    spec = captioner_spec(settings.caption)
    rows = pa.RecordBatch.from_pylist([{"uid": uid(n), "bytes": data} for n, data in enumerate(scenes)])
    stream = partial(stream_captions, key=PUBLISHED)
    answers = stream_partition([rows], spec=spec, device=lambda: "cpu", prepare=prepare_image, stream=stream)
    captions = sorted((row for batch in answers for row in batch.to_pylist()), key=lambda row: row["uid"])
    changed, unfetched = uid(COUNT), uid(COUNT + 1)
    captions[-1]["captioner"] = "somebody-else"
    samples = [
        {"uid": uid(n), "url": f"https://h.test/{n}", "source_file": "f", "source_row": n, "sha256": PROMISED}
        for n in range(COUNT + 3)
    ]
    images = [
        {"uid": row["uid"], "status": "ok", "attempts": 1, "sha256": PROMISED.lower(), "bytes": data}
        | ({"sha256": OTHER} if row["uid"] == changed else {})
        | ({"status": "gone", "bytes": None} if row["uid"] == unfetched else {})
        for row, data in zip(samples, scenes, strict=True)
    ]
    add(lake, SAMPLES, samples)
    lake.create(IMAGES)
    frame = lake.spark.createDataFrame(
        [tuple(row.get(name) for name in IMAGES.schema.names) for row in images], IMAGES.loose
    )
    lake.append(IMAGES, frame.withColumn("fetched_at", F.now()), transaction=Transaction("test-images", 1))
    add(lake, CAPTIONS, captions)
    return lake


def test_only_published_captions_of_unchanged_images_are_used(published):
    tables = [published.read(table) for table in (SAMPLES, IMAGES, CAPTIONS)]
    pairs = published_pairs(*tables, captioner=PUBLISHED, count=100).collect()
    assert [row["uid"] for row in pairs] == [uid(n) for n in range(COUNT)]
    assert len(published_pairs(*tables, captioner=PUBLISHED, count=4).collect()) == 4


def test_the_template_that_the_captions_were_made_with_comes_first(published, settings):
    candidates = {name: settings.calibrate.templates[name] for name in ("v1", "plain")}
    calibrate = settings.calibrate.model_copy(update={"templates": candidates})
    ranking = rank_templates(published, settings.model_copy(update={"calibrate": calibrate}))
    assert (ranking[0].template, ranking[0].exact, ranking[0].rouge_l) == (OWN, 1.0, 1.0)
    assert {row.template for row in ranking} == {OWN, "v1@1", "plain@1"}
    assert {row.captions for row in ranking} == {COUNT}
    assert all(row.exact < 1 for row in ranking[1:])


def test_a_lake_without_published_captions_says_what_to_do(published, settings):
    other = settings.ingest.model_copy(update={"published_captioner": "nobody"})
    with pytest.raises(InputError, match="want captions of 'nobody' whose images have the promised sha256"):
        rank_templates(published, settings.model_copy(update={"ingest": other}))
