"""Is this machine, with these settings, fit to run the stages? Each check says what it found and what to
change.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd
import pyarrow as pa
import pyspark
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from recap_spark.errors import InputError, PlatformError
from recap_spark.lake.connect import is_connect, is_named, running_conf
from recap_spark.lake.spark_errors import SPARK_ERRORS
from recap_spark.machine.device import task_profile
from recap_spark.machine.java import find_java
from recap_spark.machine.session import Platform, platform, start
from recap_spark.settings.schema import Settings
from recap_spark.workers.shards.shards import storage_of

_RAISED: tuple[type[Exception], ...] = (*SPARK_ERRORS, InputError, OSError)
_UNCONTACTABLE = "example.org"


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but not as well or as safely as it could
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One check's outcome."""

    check: str
    verdict: Verdict
    found: str


def examine_machine(settings: Settings, console: Console) -> bool:
    """Print every finding; False where a check failed."""
    findings = []
    for finding in _findings(settings):
        colour = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red"}[finding.verdict]
        console.print(f"[{colour}]{finding.verdict:>8}[/]  {finding.check}: {finding.found}", highlight=False)
        findings.append(finding)
    return all(finding.verdict is not Verdict.FAILED for finding in findings)


def _findings(settings: Settings) -> Iterator[Finding]:
    if not is_named(settings.session.conf):  # a server's Java is none of ours
        yield _java()
    yield from _libraries()
    yield _write_access(settings.lake.root)
    try:
        spark = start(settings.session, settings.lake)
    except PlatformError as error:
        yield from dangerous_settings(settings, {})
        yield Finding("session", Verdict.FAILED, str(error))
        return
    yield from dangerous_settings(settings, running_conf(spark))
    on = "Spark Connect" if is_connect(spark) else spark.sparkContext.master
    yield Finding("session", Verdict.OK, f"Spark {spark.version} on {on}, platform {platform()}")
    yield _arrow(spark)
    yield _delta(spark, settings.lake.root)
    if "gpu" in {settings.caption.device, settings.score.device}:
        yield from _gpus(spark)
    else:
        yield Finding("GPUs", Verdict.OK, "none wanted: caption.device and score.device are cpu")
    if platform() is Platform.LAPTOP:
        spark.stop()


def _java() -> Finding:
    try:
        java = find_java()
    except PlatformError as error:
        return Finding("Java", Verdict.FAILED, str(error))
    return Finding("Java", Verdict.OK, f"{java.version} in {java.home}")


def _libraries() -> Iterator[Finding]:
    yield Finding(
        "pyspark",
        Verdict.OK if _major(pyspark.__version__) >= 4 else Verdict.FAILED,
        f"{pyspark.__version__}, want 4.0 or newer",
    )
    yield Finding(
        "pandas", Verdict.OK if _major(pd.__version__) == 2 else Verdict.FAILED, f"{pd.__version__}, want 2.x"
    )
    yield Finding(
        "pyarrow",
        Verdict.OK if _major(pa.__version__) >= 18 else Verdict.FAILED,
        f"{pa.__version__}, want 18 or newer",
    )


def _major(version: str) -> int:
    return int(version.split(".")[0])


def dangerous_settings(settings: Settings, running: Mapping[str, str]) -> Iterator[Finding]:
    """Spark settings, of conf or of the running session, known to lose work, to break CUDA or to repeat side
    effects.
    """
    conf = {key: value.lower() for key, value in (settings.session.conf | dict(running)).items()}
    on_gpus = "gpu" in {settings.caption.device, settings.score.device}
    dangers = {
        "spark.speculation": (
            conf.get("spark.speculation") == "true",
            "true: a second copy of a task fetches and captions everything twice; set it to false",
        ),
        "spark.executor.pyspark.memory": (
            on_gpus and "spark.executor.pyspark.memory" in conf,
            "set: it limits address space, which CUDA reserves freely; set memoryOverhead instead",
        ),
        "spark.dynamicAllocation.enabled": (
            on_gpus and conf.get("spark.dynamicAllocation.enabled") == "true",
            "true: executors are given back between GPU stages and their work is lost; set it to false",
        ),
        "spark.python.worker.reuse": (
            conf.get("spark.python.worker.reuse") == "false",
            "false: every task loads the model again; leave it true",
        ),
        "spark.task.maxFailures": (
            conf.get("spark.task.maxFailures") == "1",
            "1: one lost worker fails the job; leave it at 4 or more",
        ),
    }
    for name, (is_danger, advice) in dangers.items():
        if is_danger:
            yield Finding(name, Verdict.WARNING, advice)
    if _UNCONTACTABLE in settings.fetch.limits.contact_url:
        yield Finding(
            "fetch.limits.contact_url",
            Verdict.WARNING,
            "the example's: put a page there that says who you are",
        )
    if re.fullmatch(r"local(\[[^,]*\])?", settings.session.master or ""):
        yield Finding("session.master", Verdict.WARNING, "local[n] never retries a task; write local[n,4]")


def _write_access(root: str) -> Finding:
    try:
        storage, path = storage_of(root)
        probe = f"{path}/.doctor-{uuid.uuid4().hex}"
        storage.create_dir(path, recursive=True)
        with storage.open_output_stream(probe) as file:
            file.write(b"recap_spark")
        storage.delete_file(probe)
    except (OSError, InputError) as error:
        return Finding("lake.root", Verdict.FAILED, f"want to write to {root}, found: {error}")
    return Finding("lake.root", Verdict.OK, f"{root} can be written to")


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
        found = (
            "none on Spark Connect: ingest, fetch, import-images, mix and export run here; caption, score "
        )
        found += "and calibrate with device gpu want a cluster with dedicated access mode, or spark-submit"
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
