"""Somebody who runs README's commands, over a small lake that is there already"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import typer
from readme import words
from repository import ROOT
from typer.testing import CliRunner

from recap_spark.cli import app

_OURS = "recap-spark "


@dataclass(frozen=True)
class Reader:
    """`folder` is the one that commands are started in. In place of README's example of a host, and of the
    files `published` and `shards`, there are real ones.
    """

    folder: Path
    lake: Path
    metadata: Path
    host: str

    def settle(self) -> None:
        """Make the folder look as the repository's own after a demo."""
        for name in ("conf", "recap_spark"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "lake").symlink_to(self.lake)

    def run(self, line: str) -> str:
        """What the command says; its failure is one of the test."""
        if line.startswith(_OURS):
            ran = CliRunner().invoke(app, self._with_places(line), env={"COLUMNS": "200", "TERM": "dumb"})
            assert ran.exit_code == 0, f"{line}\n{ran.output}\n{ran.exception!r}"
            return ran.output
        env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        ran = subprocess.run(line, shell=True, cwd=self.folder, env=env, capture_output=True, text=True)
        assert ran.returncode == 0, f"{line}\n{ran.stderr}"
        return ran.stdout

    def _with_places(self, line: str) -> list[str]:
        """The command over this lake and the miniature's web: both are settings, and README's own hold."""
        name, *rest = (
            word.replace("example.org", self.host)
            .replace("=published", f"={self.folder}/published")
            .replace("=shards", f"={self.folder}/shards")
            for word in words(line)[1:]
        )
        command = typer.main.get_command(app).get_command(None, name)
        if command is None or not any(parameter.name == "conf" for parameter in command.params):
            return [name, *rest]
        places = {"lake.root": self.lake, "ingest.source": self.metadata}
        sets = [word for key, place in places.items() for word in ("--set", f"{key}={place}")]
        files = ["demo"] if "--conf" in rest else ["base", "laptop", "demo"]
        return [name, *sets, *rest, *(word for file in files for word in ("--conf", f"conf/{file}.yml"))]
