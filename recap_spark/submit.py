"""What the files in jobs/ that are short for a command do: the command line, as spark-submit runs it"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from recap_spark.cli import main


def run_stage_with(name: str) -> None:
    """Run one stage with the settings files named on the command line: short for
    `jobs/recap_spark.py NAME --conf FILE …`.
    """
    run_command(name, *with_conf(sys.argv[1:]))


def with_conf(files: Iterable[str]) -> list[str]:
    """Settings files as options of a command."""
    return [word for file in files for word in ("--conf", file)]


def run_command(*words: str) -> None:
    """Run a command of the command line. Leaves as `recap_spark.cli` says."""
    sys.argv[1:] = words
    main()
