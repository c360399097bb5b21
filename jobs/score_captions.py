"""spark-submit jobs/score_captions.py conf/base.yml conf/cluster.yml"""

from recap_spark.machine.submit import run_named_stage

if __name__ == "__main__":
    run_named_stage("score")
