"""The GPU that a task works on is the one that Spark gave it; never a silent CPU, never another task's."""

import pytest

from recap_spark.errors import PlatformError
from recap_spark.machine.device import needs_profile, task_device, task_profile


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


@pytest.mark.parametrize(
    ("wanted", "master", "task_gpus", "needed"),
    [
        ("gpu", "yarn", "0.125", True),
        ("gpu", "local-cluster[2,2,1024]", None, True),
        ("gpu", "spark://driver:7077", "1", False),
        ("gpu", "spark://driver:7077", "1.0", False),
        ("cpu", "yarn", "0.125", False),
        ("gpu", "local[3,4]", "0.5", False),
    ],
)
def test_a_profile_is_asked_for_only_where_it_gives_what_the_session_does_not(
    wanted, master, task_gpus, needed
):
    assert needs_profile(wanted, master=master, task_gpus=task_gpus) == needed
