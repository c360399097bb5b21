"""The command line has a command for every stage, and says what it takes."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from recap_spark.cli import app
from recap_spark.pipeline import ON_DEMAND, STAGES


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES + ON_DEMAND])
def test_every_stage_is_a_command_that_says_what_becomes_of_what(stage):
    assert "→" in said(stage, "--help")


def test_a_probe_is_asked_for_with_the_number_of_its_rows():
    assert "--probe" in said("fetch", "--help")
    assert "greater than or equal to 1" in said("fetch", "--probe", "0")
