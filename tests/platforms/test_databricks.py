"""The bundle is what Databricks takes, its tasks are commands of ours, and its settings are valid."""

from __future__ import annotations

import copy
import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from databricks.sdk.service.catalog import SchemaInfo, VolumeInfo
from databricks.sdk.service.jobs import JobSettings
from databricks_bundle import deployed, read_bundle, run_time_references, words_of
from repository import ROOT
from typed_values import faults

from recap_spark.cli import app
from recap_spark.pipeline import ON_DEMAND, STAGES
from recap_spark.settings.loading import load

FOLDER = ROOT / "jobs" / "databricks"
BUNDLE = read_bundle(FOLDER)
TARGETS = {name: deployed(BUNDLE, name, contact_url="https://example.org/us") for name in BUNDLE["targets"]}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TASKS = [
    pytest.param(job, task, id=f"{name}-{task['task_key']}")
    for name, job in TARGETS["prod"]["jobs"].items()
    for task in job["tasks"]
]
ON_GPUS = ("caption", "score")
README = (FOLDER / "README.md").read_text()


def first_column(text: str) -> set[str]:
    rows = [line.split("|")[1] for line in text.split("\n") if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def cluster_of(job: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    (cluster,) = [
        each["new_cluster"]
        for each in job["job_clusters"]
        if each["job_cluster_key"] == task["job_cluster_key"]
    ]
    return cluster


def settings_of(job: dict[str, Any], task: dict[str, Any], **parameters: str) -> Any:
    """As the command line's own parser reads the task's words, which runs nothing."""
    name, *rest = words_of(job, task, **parameters)
    command = typer.main.get_command(app).get_command(None, name)
    assert command is not None, name
    taken = command.make_context(name, rest).params
    return load(*map(Path, taken["conf"]), changes=taken["changes"])


@pytest.mark.parametrize("target", TARGETS)
def test_jobs_and_volumes_have_the_fields_and_types_of_the_platform_s_api(target):
    resources = copy.deepcopy(TARGETS[target])
    for kind, hint in {"jobs": JobSettings, "schemas": SchemaInfo, "volumes": VolumeInfo}.items():
        for name, each in resources.pop(kind).items():
            assert each.pop("lifecycle", {"prevent_destroy": True}) == {"prevent_destroy": True}
            assert list(faults(each, hint, name)) == []
    assert resources == {}


@pytest.mark.parametrize("target", TARGETS)
def test_they_have_those_of_the_bundles_package_too(target):
    """Its licence allows its use with Databricks alone, so it comes with the extra `databricks` and not with
    the tests.
    """
    pytest.importorskip("databricks.bundles", reason="the extra `databricks` is not installed")
    for kind, module, name in (
        ("jobs", "jobs", "Job"),
        ("schemas", "schemas", "Schema"),
        ("volumes", "volumes", "Volume"),
    ):
        hint = getattr(importlib.import_module(f"databricks.bundles.{module}"), name)
        for key, each in TARGETS[target][kind].items():
            assert list(faults(each, hint, key)) == []
            hint.from_dict(each)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job: job["tasks"][0].update(task_key=1), "path.tasks[0].task_key: want str, found 1"),
        (lambda job: job.update(max_concurrent_runs="1"), "path.max_concurrent_runs: want int, found '1'"),
        (lambda job: job["queue"].update(enabled=1), "path.queue.enabled: want bool, found 1"),
        (lambda job: job["tasks"][0].update(librarys=[]), "path.tasks[0]: want a field of Task, found lib"),
        (lambda job: job["tasks"][0].pop("task_key"), "path.tasks[0]: want task_key, found none"),
        (
            lambda job: job["job_clusters"][0]["new_cluster"].update(data_security_mode="DEDICATED"),
            "path.job_clusters[0].new_cluster.data_security_mode: want one of DataSecurityMode, found",
        ),
        (
            lambda job: job["job_clusters"][1]["new_cluster"]["spark_conf"].update({"spark.task.cpus": 1}),
            "path.job_clusters[1].new_cluster.spark_conf.spark.task.cpus: want str, found 1",
        ),
    ],
)
def test_a_field_that_is_none_and_a_value_of_another_type_are_found(change, said):
    job = copy.deepcopy(TARGETS["dev"]["jobs"]["path"])
    change(job)
    assert [fault[: len(said)] for fault in faults(job, JobSettings, "path")][:1] == [said]


def test_every_stage_is_a_task_after_the_one_before_it():
    path, upkeep = (TARGETS["prod"]["jobs"][name]["tasks"] for name in ("path", "upkeep"))
    assert [task["task_key"] for task in path] == [stage.name for stage in STAGES]
    assert {stage.name for stage in ON_DEMAND} < {task["task_key"] for task in upkeep}
    for tasks in (path, upkeep):
        before = [[], *([{"task_key": task["task_key"]}] for task in tasks[:-1])]
        assert [task.get("depends_on", []) for task in tasks] == before


@pytest.mark.parametrize(("job", "task"), TASKS)
def test_a_task_is_a_command_of_ours_whose_settings_are_valid(job, task):
    settings = settings_of(job, task)
    assert words_of(job, task)[0] == task["task_key"]
    assert settings.lake.namespace == "main.recap"
    assert settings.ingest.source == "/Volumes/main/recap/lake/metadata"
    assert settings.import_images.source is None
    assert settings.caption.captioner.model == "/Volumes/main/recap/models/llava_llama3_8b"
    assert settings.export.folder == "/Volumes/main/recap/exports"
    assert settings.fetch.limits.contact_url == "https://example.org/us"
    assert (settings.tracking.uri, settings.tracking.experiment[:17]) == ("databricks", "/Workspace/Users/")


def test_all_tasks_of_all_jobs_are_handed_the_same_settings():
    """The captioner of mix and export is the one that conf names: it has to be that of caption."""
    handed = {tuple(words_of(*each.values)[1:]) for each in TASKS}
    assert len(handed) == 1


def test_a_run_s_parameters_reach_the_settings():
    job = TARGETS["prod"]["jobs"]["path"]
    settings = settings_of(
        job,
        job["tasks"][0],
        catalog="other",
        schema="try",
        pictures="/Volumes/other/try/tars",
        layout="recap",
    )
    assert (settings.lake.namespace, settings.ingest.layout) == ("other.try", "recap")
    assert settings.import_images.source == "/Volumes/other/try/tars"


@pytest.mark.parametrize("name", BUNDLE["resources"]["jobs"])
def test_every_parameter_is_declared_and_used(name):
    job = TARGETS["dev"]["jobs"][name]
    declared = {f"job.parameters.{each['name']}" for each in job["parameters"]}
    assert run_time_references(job) == declared | {"task.name"}


@pytest.mark.parametrize(("job", "task"), TASKS)
def test_tasks_that_want_gpus_and_no_others_are_on_clusters_with_them(job, task):
    settings, cluster = settings_of(job, task), cluster_of(job, task)
    assert settings.caption.device == settings.score.device == "gpu"
    has_gpus = task["task_key"] in ON_GPUS
    assert ("-gpu-ml-" in cluster["spark_version"]) == has_gpus
    assert cluster["spark_conf"].get("spark.task.resource.gpu.amount") == ("1" if has_gpus else None)
    assert cluster["data_security_mode"] == "DATA_SECURITY_MODE_DEDICATED"
    assert int(cluster["spark_version"].partition(".")[0]) >= 17  # Spark 4.0


def test_no_cluster_stands_idle_while_another_works():
    for job in TARGETS["prod"]["jobs"].values():
        turns = [task["job_cluster_key"] for task in job["tasks"]]
        changes = [key for key, before in zip(turns, [None, *turns], strict=False) if key != before]
        assert changes == [each["job_cluster_key"] for each in job["job_clusters"]]


@pytest.mark.parametrize(("job", "task"), TASKS)
def test_a_task_installs_the_wheel_that_is_built_and_what_its_stage_needs_of_extras(job, task):
    wheel = BUNDLE["artifacts"]["wheel"]
    assert (FOLDER / wheel["path"]).resolve() == ROOT
    assert wheel["build"].split()[-3:] == ["--wheel-dir", "dist", "."]
    (built, *others) = task["libraries"]
    assert (FOLDER / "resources" / built["whl"]).resolve() == ROOT / "dist" / "*.whl"
    wanted = PROJECT["optional-dependencies"]["caption"] if task["task_key"] in ON_GPUS else []
    assert [each["pypi"]["package"] for each in others] == wanted
    started = task["python_wheel_task"]
    assert started["package_name"] == PROJECT["name"].replace("-", "_")
    assert PROJECT["scripts"][started["entry_point"]] == "recap_spark.cli:main"


def test_the_readme_s_tables_have_every_variable_and_every_parameter():
    variables, parameters = README.partition("| run parameter |")[::2]
    assert first_column(variables) == set(BUNDLE["variables"])
    declared = {each["name"] for each in BUNDLE["resources"]["jobs"]["path"]["parameters"]}
    assert first_column(parameters.partition("## ")[0]) == declared


def test_the_readme_s_machines_and_commands_are_those_that_there_are():
    machines = README.partition("## Machines")[2].partition("## ")[0]
    for name in ("cpu_node", "gpu_node"):
        assert f"`{BUNDLE['variables'][name]['default']}`" in machines
    command, *rest = shlex.split(re.findall(r"`recap-spark (plan .+)`", README)[0])
    typer.main.get_command(app).get_command(None, command).make_context(command, rest)


def test_every_path_that_is_uploaded_is_there():
    assert all((FOLDER / path).exists() for path in BUNDLE["sync"]["paths"])
