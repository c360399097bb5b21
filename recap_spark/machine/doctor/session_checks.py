"""What a running session can do: Python with Arrow, Delta, GPUs"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recap_spark.errors import InputError, PlatformError
from recap_spark.lake.connect import is_connect, is_named, running_conf
from recap_spark.lake.spark_errors import SPARK_ERRORS
from recap_spark.machine.device import task_profile
from recap_spark.machine.doctor.findings import Finding, Verdict
from recap_spark.machine.doctor.settings_checks import dangerous_settings
from recap_spark.machine.platforms import platform
from recap_spark.machine.session import session
from recap_spark.settings.schema import Settings
from recap_spark.workers.shards.shards import storage_of

_RAISED: tuple[type[Exception], ...] = (*SPARK_ERRORS, InputError, OSError)


def session_findings(settings: Settings) -> Iterator[Finding]:
    """Start the session that the stages would run in, and try it."""
    with ExitStack() as ending:
        try:
            here = "Spark Connect" if is_named(settings.session.conf) else str(platform(settings.session))
            spark = ending.enter_context(session(settings.session, settings.lake))
        except PlatformError as error:
            yield from dangerous_settings(settings, {})
            yield Finding("session", Verdict.FAILED, str(error))
        else:
            yield from _tried(spark, settings, here)


def _tried(spark: SparkSession, settings: Settings, here: str) -> Iterator[Finding]:
    yield from dangerous_settings(settings, running_conf(spark))
    on = "a server" if is_connect(spark) else spark.sparkContext.master
    yield Finding("session", Verdict.OK, f"Spark {spark.version} on {on}: {here}")
    yield _arrow(spark)
    yield _delta(spark, settings.lake.root)
    if "gpu" in {settings.caption.device, settings.score.device}:
        yield from _gpus(spark)
    else:
        yield Finding("GPUs", Verdict.OK, "none wanted: caption.device and score.device are cpu")


def _arrow(spark: SparkSession) -> Finding:
    def echo(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches

    try:
        rows = spark.range(8).mapInArrow(echo, "id bigint").count()
    except SPARK_ERRORS as error:
        return Finding("Arrow", Verdict.FAILED, f"workers cannot run Python with Arrow: {str(error)[:300]}")
    return Finding(
        "Arrow", Verdict.OK if rows == 8 else Verdict.FAILED, f"{rows} of 8 rows through a Python worker"
    )


def _delta(spark: SparkSession, root: str) -> Finding:
    path = f"{root}/.doctor-{uuid.uuid4().hex}"
    try:
        spark.range(1).write.format("delta").save(path)
        rows = spark.read.format("delta").load(path).count()
        storage, local = storage_of(path)
        storage.delete_dir(local)
    except _RAISED as error:
        return Finding("Delta", Verdict.FAILED, f"cannot write and read a table: {str(error)[:300]}")
    return Finding("Delta", Verdict.OK if rows == 1 else Verdict.FAILED, "a table was written and read")


def _gpus(spark: SparkSession) -> Iterator[Finding]:
    if is_connect(spark):
        runs = "none on Spark Connect: ingest, fetch, import-images, mix and export run here"
        found = f"{runs}; caption, score and calibrate want dedicated access mode, or spark-submit"
        yield Finding("GPUs", Verdict.WARNING, found)
        return
    conf = spark.sparkContext.getConf()
    executor, task = (conf.get(f"spark.{side}.resource.gpu.amount") for side in ("executor", "task"))
    if not executor or not task:
        found = f"spark.executor.resource.gpu.amount={executor}, spark.task.resource.gpu.amount={task}"
        yield Finding(
            "GPUs", Verdict.FAILED, f"device gpu wanted, but {found}: set both (see conf/cluster.yml)"
        )
        return
    seen = _addresses(spark)
    verdict = Verdict.OK if len(seen) >= int(executor) else Verdict.FAILED
    yield Finding(
        "GPUs",
        verdict,
        f"{executor} an executor, {task} a task; tasks saw the addresses {', '.join(seen) or 'none'}",
    )
    if float(executor) > 1:
        yield Finding(
            "GPUs", Verdict.WARNING, "several an executor: one executor per GPU loads each model once"
        )


def _addresses(spark: SparkSession) -> list[str]:
    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            task = TaskContext.get()
            gpu = task.resources().get("gpu") if task else None
            yield pa.RecordBatch.from_arrays(
                [pa.array(list(gpu.addresses) if gpu else [], pa.string())], names=["address"]
            )

    profile = task_profile(spark, "gpu")  # as the GPU stages ask for theirs
    looks = spark.range(64).repartition(64).mapInArrow(look, "address string", profile=profile)
    rows = looks.select("address").distinct()
    return [row["address"] for row in rows.orderBy(F.col("address")).collect()]
