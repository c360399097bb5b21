"""In Spark, an image that kills the engine costs its worker twice and then has a row that says so."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import pyarrow as pa
import pytest
import torch

from recap_spark.machine.worker_daemon import models_imported
from recap_spark.tables import CAPTIONS
from recap_spark.workers.captioning.captions import CAPTIONED, poison_row
from recap_spark.workers.captioning.journal import Journal, Survivor
from recap_spark.workers.partition import chunks, stream_partition

pytestmark = pytest.mark.spark


def captioned(spark, tmp_path, die):
    """Rows by uid for the uids 00 to 11 in one partition, of an engine that dies of 07; and who ran what."""
    journal, log = Journal(str(tmp_path / "journal")), tmp_path / "ran"
    log.mkdir()

    # Local, so that Spark ships them by value: workers do not import the tests.
    @dataclass(frozen=True)
    class Engine:
        batch_size: int = 4
        decode_threads: int = 1

        def load(self, device):
            return device

    def answers(model, images):
        for rows in chunks(images, 4):
            with (log / str(os.getpid())).open("a") as file:
                file.write(",".join(row["uid"] for row in rows) + "\n")
            if any(row["uid"] == "07" for row in rows):
                die()
            said = [{"uid": row["uid"], "captioner": "c", "status": "ok", "caption": "A."} for row in rows]
            yield pa.RecordBatch.from_pylist(said, schema=CAPTIONED)

    alive = Survivor(
        stream=answers,
        engine_uid=itemgetter("uid"),
        poisoned=partial(poison_row, key="c"),
        journal=journal,
        together=4,
        schema=CAPTIONED,
    )
    runner = partial(
        stream_partition, spec=Engine(), device=lambda: "cpu", prepare=lambda model, row: row, stream=alive
    )
    uids = spark.createDataFrame([(f"{n:02d}",) for n in range(12)], "uid string").coalesce(1)
    with models_imported(spark):  # each worker that dies has a successor that wants torch
        answered = uids.mapInArrow(runner, CAPTIONS.loose)
    rows = {row["uid"]: row for row in answered.collect()}
    return rows, {path.name: path.read_text().splitlines() for path in log.iterdir()}, journal


@pytest.mark.parametrize("way", ["exits", "fails"])
def test_the_job_goes_on_without_the_image_and_no_worker_that_met_it_is_used_again(spark, tmp_path, way):
    def die():
        if way == "exits":
            os._exit(139)
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    rows, ran, journal = captioned(spark, tmp_path, die)
    assert {uid: row["status"] for uid, row in rows.items()} == {
        f"{n:02d}": "poison" if n == 7 else "ok" for n in range(12)
    }
    # Two processes met the image: each did nothing after it. The third was told of it.
    met = [batches for batches in ran.values() if any("07" in batch for batch in batches)]
    assert sorted(batches[-1] for batches in met) == ["04,05,06,07", "07"]
    assert len(ran) == 3
    assert journal.deaths()["07"].poisonous
    assert not journal.deaths().keys() & {"00", "08"}
