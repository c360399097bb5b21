"""The command line has a command for every stage, and says what it takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from repository import CONF, ROOT
from typer.testing import CliRunner

from recap_spark.cli import app
from recap_spark.commands.path import view_changes
from recap_spark.errors import SettingsError
from recap_spark.pipeline import ON_DEMAND, STAGES
from recap_spark.settings.loading import load


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES + ON_DEMAND])
def test_every_stage_is_a_command_that_says_what_becomes_of_what(stage):
    assert "→" in said(stage, "--help")


def test_a_probe_is_asked_for_with_the_number_of_its_rows():
    assert "--probe" in said("fetch", "--help")
    assert "greater than or equal to 1" in said("fetch", "--probe", "0")


def test_the_options_of_export_stand_over_the_view_of_conf_and_over_set():
    changes = ["export.view.p=0.5", "export.view.captioner=recap-datacomp-1b"]
    before = load(CONF / "base.yml", changes=changes).export.view
    assert (before.p, before.seed, before.epoch) == (0.5, 7, (0,))
    given = view_changes(p=1e-05, seed=-3, epochs=[4, 0])
    after = load(CONF / "base.yml", changes=[*changes, *given]).export.view
    assert after == before.model_copy(update={"p": 1e-05, "seed": -3, "epoch": (4, 0)})
    for p in (0.0, 1.0, 0.1 + 0.2, 1e-41, 1.5e-300, 5e-324):
        assert load(CONF / "base.yml", changes=view_changes(p=p, seed=None, epochs=None)).export.view.p == p
    assert view_changes(p=None, seed=None, epochs=None) == view_changes(p=None, seed=None, epochs=[]) == []
    assert "less than or equal to 1" in said("export", "--p", "1.1")
    assert "greater than or equal to 0" in said("export", "--epoch", "0", "--epoch", "-1")


@pytest.mark.parametrize(
    ("epoch", "wanted"),
    [
        ("[1, 2, 1]", "export.view.epoch: want every epoch once, found [1, 2, 1]"),
        ("[]", "export.view.epoch: want at least one epoch, found []"),
        ("[0, -1]", "export.view.epoch.1: want at least 0, found -1"),
        ("true", "export.view.epoch: want an epoch or a list of them, found True"),
    ],
)
def test_a_list_of_epochs_is_checked(epoch, wanted):
    with pytest.raises(SettingsError, match=re.escape(f"--set: {wanted}")):
        load(CONF / "base.yml", changes=[f"export.view.epoch={epoch}"])


def test_help_shows_the_commands_in_the_order_of_the_path_and_each_has_an_example():
    shown = said("--help")
    panels = ["The path", "After the path", "Looking at the lake", "Machine and money", "Captioner"]
    assert sorted(panels, key=shown.index) == panels
    names = [command.name for command in app.registered_commands]
    assert names[: len(STAGES)] == [stage.name for stage in STAGES]
    assert len(names) == len(set(names)) == 22
    assert [name for name in names if f"Example: recap-spark {name}" not in said(name, "--help")] == []


def test_a_setting_of_the_command_line_is_checked_as_those_of_files_are():
    base = ("--conf", str(CONF / "base.yml"))
    assert "--set: fetch.limits.deadline_s: want more than 0, found -3" in said(
        "doctor", *base, "--set", "fetch.limits.deadline_s=-3"
    )
    assert "--set: want KEY=VALUE" in said("doctor", *base, "--set", "fetch.limits.deadline_s")


def test_init_writes_a_file_that_loads_and_overwrites_none(tmp_path):
    mine = tmp_path / "mine.yml"
    assert f"wrote {mine}" in said("init", str(mine))
    assert load(mine).session.master == "local[3,4]"
    mine.write_text("mine")
    assert f"found {mine} there already" in said("init", str(mine))
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("folder", [ROOT, ROOT / "jobs"])
def test_one_job_takes_every_command_though_it_has_the_packages_name(folder):
    program = [sys.executable, str(ROOT / "jobs/recap_spark.py")]
    helped = subprocess.run([*program, "--help"], cwd=folder, capture_output=True, text=True)
    assert (helped.returncode, "fetch-report" in helped.stdout) == (0, True), helped.stderr
    wrong = subprocess.run([*program, "plan", "--rows", "many"], cwd=folder, capture_output=True)
    assert wrong.returncode == 2


@pytest.mark.parametrize(
    ("job", "words", "shown"),
    [
        ("recap_spark.py", ["--help"], "import-images"),
        ("recap_spark.py", ["fetch", "--conf", "none.yml"], "none.yml: want a YAML file of settings"),
        ("fetch_images.py", ["none.yml"], "none.yml: want a YAML file of settings"),
    ],
)
def test_a_job_finds_the_package_though_one_of_them_has_its_name(tmp_path, job, words, shown):
    command = [sys.executable, str(ROOT / "jobs" / job), *words]
    ran = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert shown in ran.stdout + ran.stderr
    assert ran.returncode == (0 if words == ["--help"] else 1)
