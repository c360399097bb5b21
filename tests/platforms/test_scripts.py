"""What is sent to platforms is well formed: scripts pass ShellCheck, and what others parse can be parsed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import CONF, ROOT

from recap_spark.settings.loading import load

SCRIPTS = sorted([*ROOT.glob("jobs/**/*.sh"), *ROOT.glob("setup/*.sh")])
# Databricks' page, whose bundle has its settings in conf/, has a test of its own.
PAGES = sorted(path for path in ROOT.glob("jobs/*/README.md") if path.parent.name != "databricks")


@pytest.fixture
def nvidia_smi(tmp_path):
    """A machine whose nvidia-smi says what it is told to."""

    def says(lines: str, *, code: int = 0) -> dict[str, str]:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nprintf '{lines}'\nexit {code}\n")
        program.chmod(0o755)
        return {"PATH": f"{tmp_path}:/usr/bin:/bin"}

    return says


def test_scripts_pass_shellcheck():
    shellcheck = Path(sys.executable).parent / "shellcheck"
    ran = subprocess.run([shellcheck, "--severity", "warning", *SCRIPTS], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_can_be_run_and_stops_at_the_first_error(path):
    assert os.access(path, os.X_OK)
    assert "\nset -eu\n" in path.read_text()


def test_a_script_that_is_not_told_all_says_what_it_wants():
    for path in sorted(ROOT.glob("jobs/*/submit_*.sh")):
        ran = subprocess.run(
            ["sh", path, "fetch"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
        )
        assert ran.returncode != 0
        assert "want " in ran.stderr


def test_what_platforms_parse_can_be_parsed():
    for path in ROOT.glob("jobs/**/*.json"):
        assert json.loads(path.read_text())
    for path in ROOT.glob("jobs/kubernetes/*.yml"):
        assert all(part["kind"] for part in yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize(
    ("lines", "addresses"), [("0\\n", ["0"]), ("0\\n1\\n10\\n", ["0", "1", "10"])], ids=["one", "several"]
)
def test_an_executor_tells_spark_its_gpus(nvidia_smi, lines, addresses):
    script = ["sh", ROOT / "jobs" / "gpus.sh"]
    ran = subprocess.run(script, env=nvidia_smi(lines), capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == {"name": "gpu", "addresses": addresses}


def test_a_machine_whose_driver_fails_has_no_gpus_to_tell_of(nvidia_smi):
    script = ["sh", ROOT / "jobs" / "gpus.sh"]
    ran = subprocess.run(script, env=nvidia_smi("no devices", code=9), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (9, "")


@pytest.mark.parametrize("name", ["cluster", "cpu_cluster"])
def test_settings_for_clusters_are_complete_and_name_no_master(name):
    settings = load(CONF / "base.yml", CONF / f"{name}.yml")
    assert settings.session.master is None
    assert settings.session.metastore is None
    assert ("spark.executor.resource.gpu.amount" in settings.session.conf) is (name == "cluster")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_names_every_script_beside_it_and_the_settings_it_shows_load(page, tmp_path):
    text = page.read_text()
    scripts = [path.name for path in page.parent.glob("*.sh")]
    assert [name for name in scripts if name not in text] == []
    _, _, shown = text.partition("    based_on:")
    block = []
    for line in f"    based_on:{shown}".splitlines():
        if not line.startswith("    "):
            break
        block.append(line[4:])
    mine = tmp_path / "mine.yml"
    mine.write_text("\n".join(block))
    assert load(mine).tracking.uri == "https://mlflow.example.org"
