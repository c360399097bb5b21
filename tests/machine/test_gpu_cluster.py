"""Two executors with made-up GPUs: every GPU works, each task's model is on its own; a broken one is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml
from repository import CONF, ROOT

pytestmark = pytest.mark.cluster

SPEC = """
import json, os, time
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class Model:
    device: str

@dataclass(frozen=True)
class NamesItsDevice:
    log: str
    batch_size: int = 4
    decode_threads: int = 1

    def load(self, device):
        with Path(self.log, str(os.getpid())).open("a") as file:
            file.write(device + chr(10))
        return Model(device)
"""

DRIVES = """
import json, os, sys, time
import pyarrow as pa
from contextlib import suppress
from functools import partial
from pyspark import TaskContext
from pyspark.sql import SparkSession
from recap_spark.machine.device import task_device, task_profile
from recap_spark.workers.partition import run_partition
from spec import NamesItsDevice

folder, gpus, more, executors = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
conf = {
    "spark.master": "local-cluster[2,2,1024]",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.executor.cores": "2",
    "spark.executor.memory": "1g",
    "spark.executorEnv.PYTHONPATH": folder + os.pathsep + os.environ["PYTHONPATH"],
    "spark.worker.resource.gpu.amount": str(gpus),
    "spark.worker.resource.gpu.discoveryScript": folder + "/gpus.sh",
    "spark.executor.resource.gpu.amount": str(gpus),
    "spark.task.resource.gpu.amount": str(gpus / 2),
    # A task starts when both executors are there, else the first takes them all.
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.locality.wait": "0",
    **more,
}
builder = SparkSession.builder
for key, value in conf.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()

def fail_on_the_executor_that_came_first():
    # The Python daemon, one an executor, by a link: only one process can make it.
    with suppress(FileExistsError):
        os.symlink(str(os.getppid()), folder + "/broken")
    if os.readlink(folder + "/broken") == str(os.getppid()):
        raise RuntimeError("CUDA error: unspecified launch failure")

def answer(model, rows):
    if executors == "broken":
        fail_on_the_executor_that_came_first()
    begun = time.time()
    time.sleep(0.3)
    seen = {
        "rows": [row["id"] for row in rows],
        "pid": os.getpid(),
        "executor": os.getppid(),  # the Python daemon, one an executor
        "address": list(TaskContext.get().resources()["gpu"].addresses),
        "model": model.device,
        "begun": begun,
        "ended": time.time(),
    }
    return pa.RecordBatch.from_pylist([{"seen": json.dumps(seen)}])

runner = partial(
    run_partition,
    spec=NamesItsDevice(folder + "/loads"),
    device=partial(task_device, "gpu"),
    prepare=lambda model, row: row,
    answer=answer,
)
tasks = spark.range(0, 16, 1, 16).mapInArrow(runner, "seen string", profile=task_profile(spark, "gpu"))
for _ in range(2):
    for row in tasks.collect():
        print(row["seen"])
spark.stop()
"""


def driven(tmp_path: Path, *, gpus: int, conf: dict[str, str], executors: str) -> list[dict[str, Any]]:
    """What each task saw of its place, of two rounds of 16 on two executors: `sound`, or one `broken`."""
    (tmp_path / "loads").mkdir()
    (tmp_path / "spec.py").write_text(SPEC)
    (tmp_path / "drives.py").write_text(DRIVES)
    script = tmp_path / "gpus.sh"
    script.write_text(
        f"""#!/bin/sh\necho '{json.dumps({"name": "gpu", "addresses": ["0", "1"][:gpus]})}'\n"""
    )
    script.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    env |= {"SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_SCALA_VERSION": "2.13"}
    env |= {"PYSPARK_PYTHON": sys.executable, "SPARK_WORKER_DIR": str(tmp_path / "work")}
    env |= {"PYTHONPATH": str(ROOT)}
    given = [str(tmp_path), str(gpus), json.dumps(conf), executors]
    command = [sys.executable, str(tmp_path / "drives.py"), *given]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    tasks = [json.loads(line) for line in ran.stdout.splitlines()]
    assert sorted(row for task in tasks for row in task["rows"]) == sorted([*range(16), *range(16)])
    return tasks


def test_an_executor_whose_gpu_is_broken_does_not_use_up_the_attempts_of_its_tasks(tmp_path):
    session = yaml.safe_load((CONF / "cluster.yml").read_text())["session"]
    about_failures = ("spark.excludeOnFailure.", "spark.task.maxFailures")
    conf = {key: value for key, value in session["conf"].items() if key.startswith(about_failures)}
    tasks = driven(tmp_path, gpus=1, conf=conf, executors="broken")
    assert len({task["executor"] for task in tasks}) == 1
    assert str(tasks[0]["executor"]) != os.readlink(tmp_path / "broken")


def test_every_gpu_of_every_executor_is_used_and_by_one_task_and_one_model_at_a_time(tmp_path):
    gpus = 2
    tasks = driven(tmp_path, gpus=gpus, conf={}, executors="sound")

    # Every GPU of both executors, and each task's model on the one GPU that Spark gave it.
    executors = {task["executor"] for task in tasks}
    assert len(executors) == 2
    used = {(task["executor"], *task["address"]) for task in tasks}
    assert used == {(executor, str(address)) for executor in executors for address in range(gpus)}
    assert all([task["model"]] == [f"cuda:{address}" for address in task["address"]] for task in tasks)

    # No GPU had two tasks at a time.
    for gpu in used:
        spans = sorted(
            (task["begun"], task["ended"]) for task in tasks if (task["executor"], *task["address"]) == gpu
        )
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))

    # A worker loads when it has no model or has been handed another GPU, and at no other time.
    for pid in {task["pid"] for task in tasks}:
        served = [
            task["model"] for task in sorted(tasks, key=lambda task: task["begun"]) if task["pid"] == pid
        ]
        handed = [one for one, before in zip(served, [None, *served], strict=False) if one != before]
        loads = (tmp_path / "loads" / str(pid)).read_text().split()
        assert loads == handed
