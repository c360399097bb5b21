#!/bin/sh
# A stage with GPUs on EMR on EKS; without them leave the two lines of GPUs out and take recap-slim:
#   PACKED=s3://bucket/recap CLUSTER=abc… ROLE=arn:aws:iam::…:role/recap SETTINGS=mine.yml sh jobs/emr/eks.sh caption --conf mine.yml
# In PACKED: recap-full.tar.gz, recap_spark.py, gpus.sh, and mine.yml as SETTINGS names it.
set -eu
: "${PACKED:?want the folder of the archive and the job}" "${SETTINGS:?want the file that --conf names, in PACKED}"
: "${CLUSTER:?want the id of a virtual cluster}" "${ROLE:?want the role that the job has}"

delta=/usr/share/aws/delta/lib
words=$(printf '"%s", ' "$@")
submit="--archives $PACKED/recap-full.tar.gz#environment --files $PACKED/$SETTINGS,$PACKED/gpus.sh"
submit="$submit --conf spark.pyspark.python=./environment/bin/python"
submit="$submit --conf spark.jars=local://$delta/delta-spark.jar,local://$delta/delta-storage.jar"
submit="$submit --conf spark.executor.resource.gpu.vendor=nvidia.com"
submit="$submit --conf spark.executor.resource.gpu.discoveryScript=./gpus.sh"

aws emr-containers start-job-run --virtual-cluster-id "$CLUSTER" --execution-role-arn "$ROLE" --name recap-spark \
  --release-label emr-spark-8.0.0-latest \
  --job-driver "{\"sparkSubmitJobDriver\": {\"entryPoint\": \"$PACKED/recap_spark.py\", \"entryPointArguments\": [${words%, }],
    \"sparkSubmitParameters\": \"$submit\"}}"
