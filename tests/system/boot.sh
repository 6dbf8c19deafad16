#!/usr/bin/env bash
# Boots the machine in a folder and becomes it: boot.sh CACHE ROOT NAME [nspawn's options …]
set -euo pipefail
cache=$1 root=$2 name=$3
shift 3
# In control groups of its own, so that its init may rule them.
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  if [ -w "$hierarchy/cgroup.procs" ]; then
    mkdir -p "$hierarchy/$name"
    echo $$ >"$hierarchy/$name/cgroup.procs"
  fi
done
export LD_LIBRARY_PATH=$cache/nspawn/usr/lib/$(uname -m)-linux-gnu/systemd
exec "$cache/nspawn/usr/bin/systemd-nspawn" --boot --register=no --keep-unit --console=pipe \
  --private-network --machine="$name" --directory="$root" "$@"
