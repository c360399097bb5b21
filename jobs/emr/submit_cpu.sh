#!/bin/sh
# A CPU stage on EMR, from its primary node, the driver on the cluster too:
#   PACKED=s3://bucket/recap SETTINGS=mine.yml sh jobs/emr/submit_cpu.sh fetch --conf mine.yml
set -eu
: "${PACKED:?want the folder that recap-slim.tar.gz was copied to}" "${SETTINGS:?want the file that --conf names}"

exec spark-submit --master yarn --deploy-mode cluster --name recap-spark \
  --archives "$PACKED/recap-slim.tar.gz#environment" \
  --files "$SETTINGS" \
  --conf spark.pyspark.python=./environment/bin/python \
  --conf spark.jars=/usr/share/aws/delta/lib/delta-spark.jar,/usr/share/aws/delta/lib/delta-storage.jar \
  --conf spark.yarn.maxAppAttempts=1 \
  "$(dirname "$0")/../recap_spark.py" "$@"
