"""A training run on Spark's executors: TorchDistributor starts its processes and brings them together"""

from __future__ import annotations

from typing import Any

from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError
from recap_spark.settings.captioner_run import CaptionerRun

_GPUS_A_TASK = "spark.task.resource.gpu.amount"


def train_on_executors(spark: SparkSession, run: CaptionerRun) -> list[float]:
    """Train one stage on `run.spark_processes` tasks at once. Returns the losses, as `train_captioner` does.

    Raises PlatformError where the session does not give a task whole GPUs: the stages' 1/cores of one is no
    device to train on, and TorchDistributor takes no profile.
    """
    on_gpus = run.device == "gpu"
    amount = spark.conf.get(_GPUS_A_TASK, None) or "nothing"
    if on_gpus and not amount.isdecimal():
        raise PlatformError(f"{_GPUS_A_TASK}: want 1 for a session that trains, found {amount}")
    distributor = TorchDistributor(num_processes=run.spark_processes, local_mode=False, use_gpu=on_gpus)
    losses: Any = distributor.run(_train, run.model_dump_json())
    return list(losses)


def _train(run: str) -> list[float]:
    """What each process does; torch is the executors', a driver needs none."""
    from recap_spark.trainers.captioner.run import train_captioner

    return train_captioner(CaptionerRun.model_validate_json(run))
