"""The GPU that a task works on is the one that Spark gave it; never a silent CPU, never another task's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from recap_spark.device import task_device, task_profile
from recap_spark.errors import PlatformError

# Importable by the workers, as the package's own specs are.
SPEC = """
import os
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class NamesItsDevice:
    log: str

    def load(self, device):
        with Path(self.log, str(os.getpid())).open("a") as file:
            file.write(device + chr(10))
        return device
"""

LOOKS = """
import json, os, sys, time
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession
from recap_spark.device import task_device, task_profile
from recap_spark.workers.partition import loaded
from spec import NamesItsDevice

folder = sys.argv[1]
conf = {
    "spark.master": "local-cluster[1,4,3072]",
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.executor.cores": "4",
    "spark.executor.memory": "1g",
    "spark.executorEnv.PYTHONPATH": folder,
    "spark.worker.resource.gpu.amount": "4",
    "spark.worker.resource.gpu.discoveryScript": folder + "/gpus.sh",
    "spark.executor.resource.gpu.amount": "4",
    "spark.task.resource.gpu.amount": "0.25",
}
builder = SparkSession.builder
for key, value in conf.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
spec = NamesItsDevice(folder + "/loads")

def look(batches):
    for _ in batches:
        device = task_device("gpu")
        addresses = list(TaskContext.get().resources()["gpu"].addresses)
        seen = {"pid": os.getpid(), "at": time.monotonic(), "device": device, "addresses": addresses}
        time.sleep(0.1)
        yield pa.RecordBatch.from_pylist([{"seen": json.dumps(seen | {"served_by": loaded(spec, device)})}])

tasks = spark.range(0, 16, 1, 16).mapInArrow(look, "seen string", profile=task_profile(spark, "gpu"))
for _ in range(3):
    for row in tasks.collect():
        print(row["seen"])
spark.stop()
"""


def test_cpu_is_cpu_whatever_the_machine_has(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert task_device("cpu") == "cpu"


def test_a_gpu_wanted_where_all_are_hidden_is_an_error(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(PlatformError, match="CUDA_VISIBLE_DEVICES is set and empty"):
        task_device("gpu")


def test_a_gpu_wanted_where_spark_gave_none_is_an_error(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(PlatformError, match="Spark gave this task no resources"):
        task_device("gpu")


def test_the_one_visible_gpu_is_the_first_to_the_process(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert task_device("gpu") == "cuda:0"


def test_several_visible_gpus_leave_the_choice_to_spark(monkeypatch):
    """An executor started with all GPUs visible would otherwise run every task on the first."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    with pytest.raises(PlatformError, match="Spark gave this task no resources"):
        task_device("gpu")


@pytest.mark.spark
def test_local_spark_gets_no_profile_since_it_would_refuse_it(spark):
    assert task_profile(spark, "gpu") is None


@pytest.mark.cluster
def test_each_task_of_a_gpu_stage_has_one_gpu_and_a_model_on_that_gpu(tmp_path: Path):
    (tmp_path / "loads").mkdir()
    (tmp_path / "spec.py").write_text(SPEC)
    (tmp_path / "looks.py").write_text(LOOKS)
    gpus = tmp_path / "gpus.sh"
    gpus.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["0", "1", "2", "3"]}'\n""")
    gpus.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    env |= {"SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_SCALA_VERSION": "2.13"}
    env |= {"PYSPARK_PYTHON": sys.executable, "SPARK_WORKER_DIR": str(tmp_path / "work")}
    command = [sys.executable, str(tmp_path / "looks.py"), str(tmp_path)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]

    tasks = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(tasks) == 48
    assert all(task["device"] == f"cuda:{address}" for task in tasks for address in task["addresses"])
    assert {len(task["addresses"]) for task in tasks} == {1}
    assert {task["device"] for task in tasks} == {"cuda:0", "cuda:1", "cuda:2", "cuda:3"}
    assert all(task["served_by"] == task["device"] for task in tasks)
    # A worker loads with its first task and when it is handed another GPU; at no other time.
    for pid in {task["pid"] for task in tasks}:
        served = [task["device"] for task in sorted(tasks, key=lambda task: task["at"]) if task["pid"] == pid]
        handed = [one for one, before in zip(served, [None, *served], strict=False) if one != before]
        assert (tmp_path / "loads" / str(pid)).read_text().split() == handed
