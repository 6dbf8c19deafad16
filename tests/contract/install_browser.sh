#!/usr/bin/env bash
# Installs what `make test-browser` starts; see install_debian.sh for how.
set -euo pipefail

WHAT="of pages"
SIZE="400 MB"
PACKAGES=(chromium fonts-dejavu-core)
PROGRAMS=(chromium)
source "$(dirname "${BASH_SOURCE[0]}")/install_debian.sh"
