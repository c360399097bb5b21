#!/bin/sh
# Tells Spark which GPUs an executor's machine or container has: the value of spark.executor.resource.gpu.discoveryScript.
set -eu
found=$(nvidia-smi --query-gpu=index --format=csv,noheader)
printf '{"name": "gpu", "addresses": [%s]}\n' "$(printf '%s' "$found" | sed 's/[^0-9]//g; s/.*/"&"/' | paste -s -d , -)"
