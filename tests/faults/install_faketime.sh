#!/usr/bin/env bash
# Installs what the tests of wrong clocks preload; see tests/contract/install_debian.sh for how.
set -euo pipefail

WHAT="of clocks that jump"
SIZE="100 kB"
PACKAGES=(faketime)
PROGRAMS=(faketime)
source "$(dirname "${BASH_SOURCE[0]}")/../contract/install_debian.sh"
