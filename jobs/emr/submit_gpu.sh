#!/bin/sh
# A stage with GPUs on EMR, from its primary node: the driver there with the slim environment, the full one on executors.
#   PACKED=s3://bucket/recap SLIM=slim EXECUTORS=16 sh jobs/emr/submit_gpu.sh caption --conf mine.yml
set -eu
: "${PACKED:?want the folder that recap-full.tar.gz was copied to}" "${EXECUTORS:?want how many, one for each GPU}"
: "${SLIM:?want the folder that recap-slim.tar.gz is unpacked in here}"

jobs=$(dirname "$0")/..
exec spark-submit --master yarn --deploy-mode client --name recap-spark \
  --archives "$PACKED/recap-full.tar.gz#environment" \
  --files "$jobs/gpus.sh" \
  --conf spark.pyspark.python=./environment/bin/python \
  --conf spark.pyspark.driver.python="$SLIM/bin/python" \
  --conf spark.jars=/usr/share/aws/delta/lib/delta-spark.jar,/usr/share/aws/delta/lib/delta-storage.jar \
  --conf spark.executor.instances="$EXECUTORS" \
  --conf spark.executor.resource.gpu.discoveryScript=./gpus.sh \
  "$jobs/recap_spark.py" "$@"
