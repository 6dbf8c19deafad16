#!/usr/bin/env bash
# Installs what `make test-ceph` starts, from Debian's packages, if it is not there. Nothing of it
# runs as a service of the system, now or after the next boot: the tests start processes of their
# own in a temporary folder.
set -euo pipefail

PACKAGES=(radosgw ceph-mon ceph-osd ceph-common)
PROGRAMS=(radosgw radosgw-admin ceph ceph-authtool ceph-mon ceph-osd monmaptool)
LOCK_SECONDS=300 # another installation may be under way; longer than that, something is stuck
POLICY=/usr/sbin/policy-rc.d # what every package asks before it starts a service

missing=()
for program in "${PROGRAMS[@]}"; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

echo "missing for the tests against Ceph: ${missing[*]}" >&2
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "Install them as root, about 900 MB, then try again. On Debian and Ubuntu:" >&2
  echo "  apt-get install --no-install-recommends ${PACKAGES[*]}" >&2
  exit 1
fi

aside=$(mktemp --directory)
give_back() {
  if [ -e "$aside/policy-rc.d" ]; then
    mv --force "$aside/policy-rc.d" "$POLICY"
  else
    rm --force "$POLICY"
  fi
  rm --recursive "$aside"
}
if [ -e "$POLICY" ]; then
  mv "$POLICY" "$aside/policy-rc.d"
fi
trap give_back EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
printf '#!/bin/sh\nexit 101 # no service is started while the Ceph packages are installed\n' >"$POLICY"
chmod 755 "$POLICY"

export DEBIAN_FRONTEND=noninteractive
apt-get --option DPkg::Lock::Timeout=$LOCK_SECONDS --quiet=2 update
apt-get --option DPkg::Lock::Timeout=$LOCK_SECONDS --quiet=2 --yes install --no-install-recommends \
  "${PACKAGES[@]}" | tee "$aside/log"
# The packages enable their units for the next boot: each says which link it made for that.
sed -nE "s/^Created symlink '?([^']+)'? → .*/\1/p" "$aside/log" | xargs --no-run-if-empty rm --force
