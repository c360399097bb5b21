"""The command line has a command for every stage, and says what it takes."""

from __future__ import annotations

import re

import pytest
from repository import CONF
from typer.testing import CliRunner

from recap_spark.cli import app
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


def test_help_shows_the_commands_in_the_order_of_the_path_and_each_has_an_example():
    shown = said("--help")
    panels = ["The path", "After the path", "Looking at the lake", "Machine and money", "Captioner"]
    assert sorted(panels, key=shown.index) == panels
    names = [command.name for command in app.registered_commands]
    assert names[: len(STAGES)] == [stage.name for stage in STAGES]
    assert len(names) == len(set(names)) == 21
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
