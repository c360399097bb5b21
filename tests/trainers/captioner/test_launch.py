"""Spark's executors train what torchrun trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from recap_spark.errors import PlatformError
from recap_spark.machine.launch import train_on_executors
from recap_spark.settings.captioner_run import CaptionerRun
from recap_spark.trainers.captioner.run import train_captioner

pytestmark = pytest.mark.spark


def test_two_tasks_give_the_losses_of_one_process(spark, run, tmp_path):
    run = CaptionerRun.model_validate(run.model_dump() | {"epochs": 1})
    alone = run.model_dump() | {"folder": str(tmp_path / "alone")}
    losses = train_on_executors(spark, run)
    assert losses == pytest.approx(train_captioner(CaptionerRun.model_validate(alone)), rel=1e-3)
    assert list(Path(run.folder).glob("step-*/part-00001-of-00002.safetensors"))
    assert (Path(run.folder) / "captioner" / "model.safetensors").is_file()


def test_a_share_of_a_gpu_is_no_device_to_train_on(spark, run):
    with pytest.raises(PlatformError, match=r"spark\.task\.resource\.gpu\.amount: want 1 .* found nothing"):
        train_on_executors(spark, CaptionerRun.model_validate(run.model_dump() | {"device": "gpu"}))
