#!/bin/sh
# An EMR cluster with one GPU a task node: BUCKET=bucket SUBNET=subnet-… sh jobs/emr/cluster.sh
set -eu
: "${BUCKET:?want the bucket for logs and for gpu_nodes.sh}" "${SUBNET:?want a subnet}"

here=$(dirname "$0")
aws s3 cp "$here/gpu_nodes.sh" "s3://$BUCKET/recap/gpu_nodes.sh"
aws emr create-cluster --name recap-spark --release-label emr-spark-8.0.0 \
  --applications Name=Hadoop Name=Spark \
  --instance-groups "file://$here/instances.json" \
  --configurations "file://$here/configurations.json" \
  --bootstrap-actions "Path=s3://$BUCKET/recap/gpu_nodes.sh" \
  --ec2-attributes "SubnetId=$SUBNET,InstanceProfile=EMR_EC2_DefaultRole" --service-role EMR_DefaultRole \
  --log-uri "s3://$BUCKET/recap/logs/" --auto-termination-policy IdleTimeout=3600
