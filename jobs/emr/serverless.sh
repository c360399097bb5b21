#!/bin/sh
# A CPU stage on EMR Serverless, whose workers have no GPU:
#   PACKED=s3://bucket/recap APPLICATION=00f… ROLE=arn:aws:iam::…:role/recap sh jobs/emr/serverless.sh fetch --conf mine.yml
# In PACKED: recap-slim.tar.gz, recap_spark.py, and mine.yml as SETTINGS names it.
set -eu
: "${PACKED:?want the folder of the archive and the job}" "${SETTINGS:?want the file that --conf names, in PACKED}"
: "${APPLICATION:?want the id of an application}" "${ROLE:?want the role that the job has}"

python=./environment/bin/python
delta=/usr/share/aws/delta/lib
words=$(printf '"%s", ' "$@")
submit="--archives $PACKED/recap-slim.tar.gz#environment --files $PACKED/$SETTINGS"
submit="$submit --conf spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON=$python"
submit="$submit --conf spark.emr-serverless.driverEnv.PYSPARK_PYTHON=$python"
submit="$submit --conf spark.executorEnv.PYSPARK_PYTHON=$python"
submit="$submit --conf spark.jars=$delta/delta-spark.jar,$delta/delta-storage.jar"

aws emr-serverless start-job-run --application-id "$APPLICATION" --execution-role-arn "$ROLE" --name recap-spark \
  --job-driver "{\"sparkSubmit\": {\"entryPoint\": \"$PACKED/recap_spark.py\", \"entryPointArguments\": [${words%, }],
    \"sparkSubmitParameters\": \"$submit\"}}"
