"""python jobs/evaluate_captioner.py mmmu|mmvet|miniature FOLDER|- conf/base.yml conf/cluster.yml

Starts no Spark: one machine with the captioner's GPU, or with a way to its endpoint.
"""

import sys
from pathlib import Path

from recap_spark.submit import run_command, with_conf

if __name__ == "__main__":
    benchmark, folder, *conf = sys.argv[1:]
    folders = [] if folder == "-" else [folder]
    how = str(Path(conf[0]).parent / "evaluations.yml")
    run_command("evaluate", benchmark, *folders, *with_conf(conf), "--evaluations", how)
