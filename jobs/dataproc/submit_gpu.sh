#!/bin/sh
# A stage with GPUs on a Dataproc cluster. The driver takes the executors' environment, which has PyTorch:
#   PACKED=gs://bucket/recap SETTINGS=mine.yml REGION=… EXECUTORS=16 sh jobs/dataproc/submit_gpu.sh caption --conf mine.yml
set -eu
: "${PACKED:?want the folder that recap-full.tar.gz was copied to}" "${SETTINGS:?want the file that --conf names}"
: "${REGION:?want the region of the cluster recap-spark}" "${EXECUTORS:?want how many, one for each GPU}"

jobs=$(dirname "$0")/..
gpus=spark.executor.instances=$EXECUTORS,spark.executor.resource.gpu.discoveryScript=./gpus.sh
exec gcloud dataproc jobs submit pyspark "$jobs/recap_spark.py" --cluster recap-spark --region "$REGION" \
  --archives "$PACKED/recap-full.tar.gz#environment" \
  --files "$SETTINGS,$jobs/gpus.sh" \
  --properties "spark.submit.deployMode=cluster,spark.pyspark.python=./environment/bin/python,$gpus" \
  -- "$@"
