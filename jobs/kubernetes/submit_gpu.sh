#!/bin/sh
# A stage with GPUs on Kubernetes, with an image of recap-slim for the driver and one of recap-full for executors:
#   API=https://host:6443 SLIM=registry.example.org/recap-slim FULL=registry.example.org/recap-full DELTA=io.delta:delta-spark_2.13:4.0.1 \
#     UPLOADS=s3a://bucket/uploads EXECUTORS=16 SETTINGS=mine.yml sh jobs/kubernetes/submit_gpu.sh caption --conf mine.yml
set -eu
: "${API:?want the address of the API server}" "${SLIM:?want the image of the driver}" "${FULL:?want that of executors}"
: "${DELTA:?want the package of Delta for the Spark of the images}" "${EXECUTORS:?want how many, one for each GPU}"
: "${SETTINGS:?want the file that --conf names}" "${UPLOADS:?want a folder that this machine writes and pods read}"

exec spark-submit --master "k8s://$API" --deploy-mode cluster --name recap-spark \
  --packages "$DELTA" --conf spark.jars.ivy=/tmp/ivy \
  --files "$SETTINGS" --conf spark.kubernetes.file.upload.path="$UPLOADS" \
  --conf spark.kubernetes.driver.container.image="$SLIM" \
  --conf spark.kubernetes.executor.container.image="$FULL" \
  --conf spark.kubernetes.authenticate.driver.serviceAccountName=spark \
  --conf spark.pyspark.python=/opt/environment/bin/python \
  --conf spark.executor.instances="$EXECUTORS" \
  --conf spark.executor.resource.gpu.vendor=nvidia.com \
  --conf spark.executor.resource.gpu.discoveryScript=/opt/recap_spark/gpus.sh \
  local:///opt/recap_spark/recap_spark.py "$@"
