"""python jobs/evaluate_captioner.py mmmu|mmvet|miniature FOLDER|- conf/base.yml conf/cluster.yml

Starts no Spark: one machine with the captioner's GPU, or with a way to its endpoint.
"""

import sys
from pathlib import Path

from rich.console import Console

from recap_spark.errors import RecapError
from recap_spark.evaluations.command import run_evaluation
from recap_spark.settings.loading import load

if __name__ == "__main__":
    benchmark, folder, *conf = sys.argv[1:]
    files, how = None if folder == "-" else Path(folder), Path(conf[0]).parent / "evaluations.yml"
    try:
        run_evaluation(benchmark, files, settings=load(*map(Path, conf)), evaluations=how, console=Console())
    except RecapError as error:
        sys.exit(f"{type(error).__name__}: {error}")
