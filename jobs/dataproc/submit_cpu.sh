#!/bin/sh
# A CPU stage on a Dataproc cluster, the driver on the cluster too:
#   PACKED=gs://bucket/recap SETTINGS=mine.yml REGION=europe-west4 sh jobs/dataproc/submit_cpu.sh fetch --conf mine.yml
set -eu
: "${PACKED:?want the folder that recap-slim.tar.gz was copied to}" "${SETTINGS:?want the file that --conf names}"
: "${REGION:?want the region of the cluster recap-spark}"

exec gcloud dataproc jobs submit pyspark "$(dirname "$0")/../recap_spark.py" --cluster recap-spark --region "$REGION" \
  --archives "$PACKED/recap-slim.tar.gz#environment" \
  --files "$SETTINGS" \
  --properties spark.submit.deployMode=cluster,spark.pyspark.python=./environment/bin/python \
  -- "$@"
