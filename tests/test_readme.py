"""README says what there is: its commands are ones that exist, its files and pictures are there. That they
run, test_path.py shows.
"""

from __future__ import annotations

import importlib.util
import re

import pytest
import typer
from readme import ALL, NOT_RUN, RUN, TEXT, words
from repository import ROOT

from recap_spark.cli import app

OURS = [line for line in ALL if line.startswith("recap-spark ") and words(line)[1][0] != "-"]


@pytest.mark.parametrize("line", OURS)
def test_every_command_of_ours_is_one_with_these_options(line):
    """Parsed by the command line's own parser, which runs nothing."""
    name, *rest = words(line)[1:]
    command = typer.main.get_command(app).get_command(None, name)
    assert command is not None, name
    command.make_context(name, rest)


def test_every_command_is_run_by_a_test_or_there_is_a_reason():
    reasons = {start: [line for line in ALL if line.startswith(start)] for start in NOT_RUN}
    assert [start for start, lines in reasons.items() if not lines] == []
    assert len(RUN) > 20


def test_every_make_target_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words(line)[1] for line in ALL if line.startswith("make ")}
    assert named
    assert named <= targets


def test_every_file_that_is_named_is_there():
    named = re.findall(r"\b(?:conf|jobs|docs|benchmarks|recap_spark)/[\w./*-]+\w", TEXT)
    assert named
    assert [name for name in named if "NAME" not in name and not list(ROOT.glob(name))] == []


def test_every_module_that_is_run_is_there():
    modules = re.findall(r"-m (recap_spark[\w.]+)", TEXT)
    assert modules
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_every_place_in_the_contents_is_a_heading():
    headings = {line.strip("# ").lower().replace(" ", "-") for line in TEXT.split("\n") if line[:2] == "##"}
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) == headings


def test_lines_are_short_enough_to_be_read_anywhere():
    assert [line for line in TEXT.split("\n") if len(line) > 110] == []
