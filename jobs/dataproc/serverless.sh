#!/bin/sh
# A CPU stage as a serverless batch:
#   PACKED=gs://bucket/recap SETTINGS=mine.yml REGION=europe-west4 sh jobs/dataproc/serverless.sh fetch --conf mine.yml
set -eu
: "${PACKED:?want the folder that recap-slim.tar.gz was copied to}" "${SETTINGS:?want the file that --conf names}"
: "${REGION:?want a region}"

python=./environment/bin/python
exec gcloud dataproc batches submit pyspark "$(dirname "$0")/../recap_spark.py" --region "$REGION" --version 3.0 \
  --deps-bucket "$PACKED" \
  --archives "$PACKED/recap-slim.tar.gz#environment" \
  --files "$SETTINGS" \
  --properties "spark.dataproc.driverEnv.PYSPARK_PYTHON=$python,spark.executorEnv.PYSPARK_PYTHON=$python" \
  -- "$@"
