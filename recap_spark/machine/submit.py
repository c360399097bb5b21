"""What every file in jobs/ does: settings from the command line, the platform's session, one stage"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from rich.console import Console

from recap_spark.errors import RecapError
from recap_spark.lake.lake import Lake
from recap_spark.machine.failures import said_in_one_line
from recap_spark.machine.session import start
from recap_spark.pipeline import named, run_stage
from recap_spark.progress import Progress
from recap_spark.settings.loading import load


def run_named_stage(name: str) -> None:
    """Run one stage with the settings files named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    try:
        settings = load(*map(Path, sys.argv[1:]))
        with said_in_one_line():
            lake = Lake(start(settings.session, settings.lake), settings.lake)
        run_stage(named(name), lake, settings, Progress(Console(stderr=True)))
    except RecapError as error:
        sys.exit(f"{type(error).__name__}: {error}")
