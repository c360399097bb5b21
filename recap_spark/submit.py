"""What every file in jobs/ does: the command line, as spark-submit runs it"""

from __future__ import annotations

import sys

from recap_spark.cli import main


def run_stage_with(name: str) -> None:
    """Run one stage with the settings files named on the command line: short for
    `jobs/recap_spark.py NAME --conf FILE …`.
    """
    run_command(name, *(word for file in sys.argv[1:] for word in ("--conf", file)))


def run_command(*words: str) -> None:
    """Run a command of the command line. Leaves as `recap_spark.cli` says."""
    sys.argv[1:] = words
    main()
