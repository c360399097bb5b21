"""spark-submit jobs/fetch_images.py conf/base.yml conf/cluster.yml"""

from recap_spark.submit import run_stage_with

if __name__ == "__main__":
    run_stage_with("fetch")
