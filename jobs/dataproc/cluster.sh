#!/bin/sh
# A Dataproc cluster with one L4 a secondary worker's machine: REGION=europe-west4 sh jobs/dataproc/cluster.sh
set -eu
: "${REGION:?want a region}"

# Drivers are no part of the image; this action of Google's installs them and configures YARN's GPU module.
exec gcloud dataproc clusters create recap-spark --region "$REGION" --image-version 3.0-debian12 \
  --optional-components DELTA \
  --master-machine-type n4-standard-8 \
  --num-workers 2 --worker-machine-type g2-standard-16 --worker-accelerator type=nvidia-l4,count=1 \
  --initialization-actions "gs://goog-dataproc-initialization-actions-$REGION/gpu/install_gpu_driver.sh" \
  --metadata include-gpus=1,gpu-driver-provider=NVIDIA \
  --initialization-action-timeout 45m --max-idle 1h --scopes cloud-platform
