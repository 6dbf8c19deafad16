#!/usr/bin/env bash
# Makes what `make test-system` boots: a Debian with systemd in a folder, and the program that boots
# it. Kept in $SENSORDROP_SYSTEM_CACHE (~/.cache/sensordrop-system) for the next run. As root.
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
CACHE=${SENSORDROP_SYSTEM_CACHE:-$HOME/.cache/sensordrop-system}
RELEASE=bookworm
INCLUDE=systemd,systemd-sysv,dbus,python3,ca-certificates,adduser,procps,acl,python3-venv
# Named after what is in it: another list makes another one.
ROOT=$CACHE/$RELEASE-$(printf '%s' "$INCLUDE" | sha256sum | cut -c 1-12)

(
  WHAT="of the package"
  SIZE="100 MB"
  PACKAGES=(debootstrap debhelper lintian python3-venv)
  PROGRAMS=(debootstrap dh lintian)
  source "$here/../contract/install_debian.sh"
)
[ "$(id -u)" -eq 0 ] || {
  echo "make test-system boots a machine: call it as root" >&2
  exit 1
}
mkdir -p "$CACHE"
if [ ! -x "$CACHE/nspawn/usr/bin/systemd-nspawn" ]; then
  # Unpacked, not installed: installing it may upgrade this host's own systemd.
  echo "systemd-nspawn, beside this host's systemd"
  rm -rf "$CACHE/nspawn.new" && mkdir -p "$CACHE/nspawn.new/packages"
  (cd "$CACHE/nspawn.new/packages" && apt-get download --quiet=2 systemd-container libsystemd-shared)
  for package in "$CACHE"/nspawn.new/packages/*.deb; do
    dpkg-deb --extract "$package" "$CACHE/nspawn.new"
  done
  mv "$CACHE/nspawn.new" "$CACHE/nspawn"
fi
if [ ! -d "$ROOT" ]; then
  echo "a Debian $RELEASE to boot"
  mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk -v release="$RELEASE" '$1 == release { print $2; exit }')
  rm -rf "$ROOT.new"
  debootstrap --variant=minbase --include="$INCLUDE" "$RELEASE" "$ROOT.new" \
    ${mirror:+"$mirror"} >"$CACHE/debootstrap.log" 2>&1 || {
    tail -20 "$CACHE/debootstrap.log" >&2
    exit 1
  }
  rm -rf "$ROOT.new"/var/cache/apt/archives/*.deb
  mv "$ROOT.new" "$ROOT"
fi
ln -sfn "$ROOT" "$CACHE/root"
