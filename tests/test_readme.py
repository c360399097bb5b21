"""README says what there is: its commands are ones that run, its files and pictures are there."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator

import pytest
import typer
from repository import ROOT
from typer.testing import CliRunner

from recap_spark.cli import app

README = (ROOT / "README.md").read_text()


def commands() -> Iterator[str]:
    """Each line of README's indented code, continued lines joined."""
    code = "\n".join(line[4:] for line in README.split("\n") if line.startswith("    "))
    for line in code.replace("\\\n", " ").split("\n"):
        yield line.strip()
    yield from (span for span in re.findall(r"`([^`\n]+)`", README) if " " in span)


OURS = sorted({line for line in commands() if line.startswith("recap-spark ") and line.split()[1].isascii()})


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


@pytest.mark.parametrize("line", [line for line in OURS if words(line)[1][0] != "-"])
def test_every_command_of_ours_is_one_with_these_options(line):
    """Parsed by the command line's own parser, which runs nothing."""
    name, *rest = words(line)[1:]
    command = typer.main.get_command(app).get_command(None, name)
    assert command is not None, name
    if rest:  # a name alone may stand for the command in a sentence
        command.make_context(name, rest)


def test_the_commands_that_start_no_spark_run(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = next(line for line in OURS if line.startswith("recap-spark plan"))
    ran = CliRunner().invoke(app, words(plan)[1:])
    assert ran.exit_code == 0, ran.output
    first = CliRunner().invoke(app, ["init", str(tmp_path / "mine.yml")])
    assert first.exit_code == 0, first.output


def test_every_make_target_is_in_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words(line)[1] for line in commands() if line.startswith("make ")}
    assert named
    assert named <= targets


def test_every_file_that_is_named_is_there():
    named = re.findall(r"\b(?:conf|jobs|docs|benchmarks|recap_spark)/[\w./*-]+\w", README)
    assert named
    assert [name for name in named if "NAME" not in name and not list(ROOT.glob(name))] == []


def test_every_module_that_is_run_is_there():
    modules = re.findall(r"-m (recap_spark[\w.]+)", README)
    assert modules
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_every_place_in_the_contents_is_a_heading():
    headings = {line.strip("# ").lower().replace(" ", "-") for line in README.split("\n") if line[:2] == "##"}
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) == headings


def test_lines_are_short_enough_to_be_read_anywhere():
    assert [line for line in README.split("\n") if len(line) > 110] == []
