"""Where a setting decides how most rows end, a run says so; once it is changed, a retry tries them again."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import pytest
from PIL import Image
from pyspark.sql import functions as F
from rich.console import Console
from uids import uid_of

from recap_spark.errors import SettingsError
from recap_spark.miniature.server import serve
from recap_spark.pipeline import named, run_stage
from recap_spark.progress import Progress
from recap_spark.stages.fetch import retry
from recap_spark.tables import IMAGES, SAMPLES
from recap_spark.workers.shards.export_layout import Fields
from recap_spark.workers.shards.shards import WRITTEN, ShardFormat, write_shards

pytestmark = pytest.mark.spark

QUIET = Progress(Console(quiet=True))
NAMES = tuple(range(40))


def with_limits(settings, tmp_path, **limits):
    changed = {"limits": replace(settings.fetch.limits, **limits)}
    changed |= {"work": settings.fetch.work.model_copy(update={"units": 2})}  # of some twenty rows each
    fetch = settings.fetch.model_copy(update=changed)
    tracking = settings.tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    return settings.model_copy(update={"fetch": fetch, "tracking": tracking})


def statuses(lake) -> dict[str, int]:
    return {row["status"]: row["count"] for row in lake.read(IMAGES).groupBy("status").count().collect()}


def write_bytes_that_are_no_utf_8(lake) -> None:
    """As a writer that checks no text leaves them: a url, and an alt-text in Latin-1."""
    at = lake.name("samples")
    lake.spark.sql(f"UPDATE {at} SET url = CAST(unhex('FF') AS STRING) WHERE uid = '{uid_of('url')}'")
    lake.spark.sql(f"UPDATE {at} SET org_caption = CAST(unhex('636166E9') AS STRING)")
    assert lake.read(SAMPLES).where("url = CAST(unhex('FF') AS STRING)").count() == 1


def test_rows_that_a_setting_refused_are_said_and_tried_again_once_it_is_changed(
    filled, settings, tmp_path, caplog
):
    (tmp_path / "web" / "images").mkdir(parents=True)
    Image.effect_noise((16, 16), 60).save(tmp_path / "web" / "images" / "a.jpg")
    with serve(tmp_path / "web") as server, caplog.at_level(logging.INFO):
        url = f"{server.base_url}/images/a.jpg"
        other = url.replace("127.0.0.1", "localhost")
        lake = filled(
            samples=[
                *({"uid": uid_of(name), "url": url, "sha256": "0" * 64} for name in NAMES),
                {"uid": uid_of("elsewhere"), "url": other},
                {"uid": uid_of("url"), "url": "http://x.test/"},
            ]
        )
        write_bytes_that_are_no_utf_8(lake)
        narrow = with_limits(settings, tmp_path, ports=(80,))
        run_stage(named("fetch"), lake, narrow, QUIET)
        assert statuses(lake) == {"bad_url": 42}
        assert "bad_url for their port: fetch.limits.ports decides" in caplog.text
        assert "this run 42 rows; table: bad_url 42" in caplog.text

        wide = with_limits(settings, tmp_path, ports=None, hash_mismatch="keep")
        again = partial(retry.retry_rows, lake, wide, QUIET)
        with pytest.raises(SettingsError, match=r"want statuses among ok, bad_url, .*; found badurl"):
            again(statuses=["badurl"], hosts=[])
        assert again(statuses=["bad_url"], hosts=["127.0.0.1"]) == 40
        assert statuses(lake) == {"ok": 40, "bad_url": 2}
        assert "40 of 40 pictures are not what samples.sha256 promises" in caplog.text
        assert again(statuses=[], hosts=["LOCALHOST.", "127.0.0.1"]) == 1  # what is ok is left
    assert statuses(lake) == {"ok": 41, "bad_url": 1}
    (left,) = lake.read(IMAGES).where("status = 'bad_url'").collect()
    assert (left["uid"], left["detail"]) == (uid_of("url"), "no UTF-8")
    assert exported_texts(lake, settings, tmp_path) == {"caf\u00e9"}


def exported_texts(lake, settings, tmp_path) -> set[str]:
    rows = lake.read(IMAGES).where("status = 'ok'").select("uid", "bytes", "format", "sha256")
    texts = lake.read(SAMPLES).select("uid", "url", "org_caption")
    named = {
        "shard": F.lit(0),
        "re_caption": F.lit("a"),
        "caption": F.col("org_caption"),
        "source": F.lit("original"),
        "captioner": F.lit("someone"),
    }
    asked = rows.join(texts, "uid").withColumns(named).coalesce(1)
    form = ShardFormat(
        folder=str(tmp_path / "out"),
        formats=("parquet",),
        jpeg_quality=90,
        decode=settings.fetch.decode,
        fields=Fields(epochs=(0,), scored=False),
    )
    written = asked.mapInArrow(
        partial(write_shards, shards=form),
        ", ".join(f"{field.name} {_SPARK[str(field.type)]}" for field in WRITTEN),
    )
    assert [row["original"] for row in written.collect()] == [41]
    shown = lake.spark.read.parquet(str(tmp_path / "out" / "parquet"))
    return {row["org_caption"] for row in shown.collect()}


_SPARK = {"string": "string", "int64": "bigint"}
