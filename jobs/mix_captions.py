"""spark-submit jobs/mix_captions.py conf/base.yml conf/cluster.yml"""

from recap_spark.submit import run_stage_with

if __name__ == "__main__":
    run_stage_with("mix")
