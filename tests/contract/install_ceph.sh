#!/usr/bin/env bash
# Installs what `make test-ceph` starts; see install_debian.sh for how.
set -euo pipefail

WHAT="against Ceph"
SIZE="900 MB"
PACKAGES=(radosgw ceph-mon ceph-osd ceph-common)
PROGRAMS=(radosgw radosgw-admin ceph ceph-authtool ceph-mon ceph-osd monmaptool)
source "$(dirname "${BASH_SOURCE[0]}")/install_debian.sh"
