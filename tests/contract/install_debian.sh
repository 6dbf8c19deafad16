# Read by the scripts beside it that install what tests start, from Debian's packages, if it is not
# there. They set: WHAT (what the programs are for, in words), PACKAGES, PROGRAMS, SIZE (in words).
# Nothing of it runs as a service of the system, now or after the next boot: the tests start
# processes of their own in a temporary folder.
LOCK_SECONDS=300 # another installation may be under way; longer than that, something is stuck
POLICY=/usr/sbin/policy-rc.d # what every package asks before it starts a service

missing=()
for program in "${PROGRAMS[@]}"; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

echo "missing for the tests $WHAT: ${missing[*]}" >&2
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "Install them as root, about $SIZE, then try again. On Debian and Ubuntu:" >&2
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
printf '#!/bin/sh\nexit 101 # no service is started while packages for tests are installed\n' >"$POLICY"
chmod 755 "$POLICY"

export DEBIAN_FRONTEND=noninteractive
apt-get --option DPkg::Lock::Timeout=$LOCK_SECONDS --quiet=2 update
apt-get --option DPkg::Lock::Timeout=$LOCK_SECONDS --quiet=2 --yes install --no-install-recommends \
  "${PACKAGES[@]}" | tee "$aside/log"
# The packages enable their units for the next boot: each says which link it made for that.
sed -nE "s/^Created symlink '?([^']+)'? → .*/\1/p" "$aside/log" | xargs --no-run-if-empty rm --force
