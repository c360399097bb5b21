#!/bin/sh
# Bootstrap action: YARN's GPU module isolates devices by the first version of cgroups, which Amazon Linux 2023 leaves out.
set -eu
command -v nvidia-smi >/dev/null 2>&1 || exit 0 # no GPU here
sudo mkdir -p /yarn-cgroup/devices
sudo mount -t cgroup -o devices cgroupv1-devices /yarn-cgroup/devices
sudo chmod -R a+rwx /yarn-cgroup
