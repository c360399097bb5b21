"""A bundle's YAML files, with every reference in the place of which a deployment puts a value resolved"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_REFERENCE = re.compile(r"\$\{([\w.-]+)\}")
_RUN_TIME = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")
_DEPLOYER = {"current_user": {"userName": "ann.lee@example.org", "short_name": "ann_lee"}}


def read_bundle(folder: Path) -> dict[str, Any]:
    """databricks.yml with the resources of the files that it includes."""
    bundle = yaml.safe_load((folder / "databricks.yml").read_text())
    resources: dict[str, Any] = {}
    for pattern in bundle["include"]:
        for path in sorted(folder.glob(pattern)):
            for kind, named in yaml.safe_load(path.read_text())["resources"].items():
                assert not resources.get(kind, {}).keys() & named.keys()
                resources.setdefault(kind, {}).update(named)
    return bundle | {"resources": resources}


def deployed(bundle: Mapping[str, Any], target: str, **given: Any) -> dict[str, Any]:
    """The resources of a target; `given` are the variables that whoever deploys it names.

    Raises KeyError for a reference to nothing, and for a variable without a value.
    """
    declared = {name: each["default"] for name, each in bundle["variables"].items() if "default" in each}
    chosen = declared | bundle["targets"][target].get("variables", {}) | given
    assert chosen.keys() <= bundle["variables"].keys()
    known = {
        "bundle": bundle["bundle"] | {"target": target},
        "workspace": _DEPLOYER,
        "var": chosen,
        "resources": bundle["resources"],
    }
    resources: dict[str, Any] = _resolved(bundle["resources"], known)
    return resources


def words_of(job: Mapping[str, Any], task: Mapping[str, Any], **parameters: str) -> list[str]:
    """What the task hands its entry point in a run with these parameters in the place of the job's own.

    Raises KeyError for a reference to nothing.
    """
    held = {each["name"]: each["default"] for each in job["parameters"]} | parameters
    known = {"task.name": task["task_key"]} | {f"job.parameters.{name}": held[name] for name in held}
    words = task["python_wheel_task"]["parameters"]
    return [_RUN_TIME.sub(lambda found: known[found[1]], word) for word in words]


def run_time_references(job: Mapping[str, Any]) -> set[str]:
    """What the tasks of a job ask of its run."""
    return set(_RUN_TIME.findall(yaml.safe_dump(job["tasks"], width=10_000)))


def _resolved(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, known) for inner in value]
    if not isinstance(value, str):
        return value
    if whole := _REFERENCE.fullmatch(value):  # keeps its type
        return _resolved(_found(whole[1], known), known)
    return _REFERENCE.sub(lambda found: str(_resolved(_found(found[1], known), known)), value)


def _found(reference: str, known: Mapping[str, Any]) -> Any:
    value: Any = known
    for part in reference.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(reference)
        value = value[part]
    return value
