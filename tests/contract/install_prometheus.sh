#!/usr/bin/env bash
# Installs what `make test-metrics` starts; see install_debian.sh for how.
set -euo pipefail

WHAT="of metrics and alerts"
SIZE="200 MB"
PACKAGES=(prometheus prometheus-alertmanager)
PROGRAMS=(prometheus promtool amtool)
source "$(dirname "${BASH_SOURCE[0]}")/install_debian.sh"
