"""The device Spark scheduled for the running task."""

from __future__ import annotations

import os

from pyspark import TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from recap_spark.errors import PlatformError
from recap_spark.lake.connect import is_connect


def check_access(spark: SparkSession, *, wanted: str, by: str) -> None:
    """Raises PlatformError where a GPU is wanted of Spark Connect, whose session neither gives whole GPUs to
    tasks nor starts workers with models' libraries; `by` is what wants it.
    """
    if wanted != "cpu" and is_connect(spark):
        raise PlatformError(
            f"{by}: want a session with a JVM of its own for the device {wanted!r}, found Spark Connect: "
            "run it where the cluster's access mode is dedicated, or by spark-submit"
        )


def task_device(wanted: str) -> str:
    """`cpu` when conf asks for it; otherwise the GPU Spark assigned, or PlatformError, never a silent CPU.

    Where something before us left one GPU in CUDA_VISIBLE_DEVICES (RAPIDS' Python daemon does), that one is
    the process's first; otherwise (Spark itself never sets it) the address in the task's resources counts.
    """
    if wanted == "cpu":
        return "cpu"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        raise PlatformError("device 'gpu' wanted, but CUDA_VISIBLE_DEVICES is set and empty")
    seen = visible.split(",") if visible else []
    if len(seen) == 1:
        return "cuda:0"
    task = TaskContext.get()
    assigned = task.resources() if task else {}
    if "gpu" not in assigned:
        found = ", ".join(sorted(assigned)) or "no resources"
        raise PlatformError(f"device 'gpu' wanted, but Spark gave this task {found}")
    address = assigned["gpu"].addresses[0]
    # CUDA counts the visible GPUs from 0, Spark's discovery script names them as the machine does.
    return f"cuda:{seen.index(address) if address in seen else address}"


def task_profile(spark: SparkSession, wanted: str) -> ResourceProfile | None:
    """A whole GPU for every task of a stage, by a stage-level profile; None where `needs_profile` says so."""
    if wanted == "cpu":  # asked first: a session of Spark Connect has no such settings
        return None
    task_gpus = spark.sparkContext.getConf().get("spark.task.resource.gpu.amount")
    if not needs_profile(wanted, master=str(spark.sparkContext.master), task_gpus=task_gpus):
        return None
    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(1).resource("gpu", 1)).build


def needs_profile(wanted: str, *, master: str, task_gpus: str | None) -> bool:
    """Whether tasks get their GPU by a profile of their stage.

    Outside the GPU stages a task holds 1/cores of one, so that all cores work (design: GPU stages). No
    profile where the session gives every task a whole GPU anyway, as on a cluster for these stages alone:
    there are platforms that take none. Nor on `local[*]`, which refuses them and has no GPUs to share out.
    """
    is_local = master.partition("[")[0] == "local"
    return wanted != "cpu" and not is_local and float(task_gpus or 0) != 1
