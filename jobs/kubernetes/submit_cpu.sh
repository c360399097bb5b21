#!/bin/sh
# A CPU stage on Kubernetes, with an image of recap-slim for the driver and for executors:
#   API=https://host:6443 IMAGE=registry.example.org/recap-slim DELTA=io.delta:delta-spark_2.13:4.0.1 UPLOADS=s3a://bucket/uploads EXECUTORS=32 \
#     SETTINGS=mine.yml sh jobs/kubernetes/submit_cpu.sh fetch --conf mine.yml
set -eu
: "${API:?want the address of the API server}" "${IMAGE:?want an image of jobs/kubernetes/Dockerfile}"
: "${DELTA:?want the package of Delta for the Spark of the image}" "${EXECUTORS:?want how many}"
: "${SETTINGS:?want the file that --conf names}" "${UPLOADS:?want a folder that this machine writes and pods read}"

exec spark-submit --master "k8s://$API" --deploy-mode cluster --name recap-spark \
  --packages "$DELTA" --conf spark.jars.ivy=/tmp/ivy \
  --files "$SETTINGS" --conf spark.kubernetes.file.upload.path="$UPLOADS" \
  --conf spark.kubernetes.container.image="$IMAGE" \
  --conf spark.kubernetes.authenticate.driver.serviceAccountName=spark \
  --conf spark.pyspark.python=/opt/environment/bin/python \
  --conf spark.executor.instances="$EXECUTORS" \
  local:///opt/recap_spark/recap_spark.py "$@"
