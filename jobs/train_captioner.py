"""spark-submit --conf spark.task.resource.gpu.amount=1 jobs/train_captioner.py RUN.yml [OVERLAY.yml]"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from recap_spark.errors import RecapError
from recap_spark.machine.launch import train_on_executors
from recap_spark.settings.captioner_run import load_run

if __name__ == "__main__":
    try:
        train_on_executors(SparkSession.builder.getOrCreate(), load_run(*map(Path, sys.argv[1:])))
    except RecapError as error:
        sys.exit(f"{type(error).__name__}: {error}")
