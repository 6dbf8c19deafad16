#!/usr/bin/env bash
# Builds dist/sensordrop_VERSION_ARCH.deb: the package that packaging/debian describes, with a
# virtual environment of exactly the versions in packaging/requirements/package.txt. As any user;
# `make deb` calls it. SENSORDROP_DEB_VERSION names another version (for tests of upgrades).
set -euo pipefail
cd "$(dirname "$0")/.."

unset PYTHONPATH PYTHONHOME # nothing from outside counts as installed
PYTHON=/usr/bin/python3 # the one that the package will run on, whatever else is installed here
LOCK=packaging/requirements/package.txt
BUILD=build/deb
TARGET=/opt/sensordrop

for program in dh dpkg-buildpackage "$PYTHON"; do
  command -v "$program" >/dev/null || {
    echo "$program is missing: apt install debhelper dpkg-dev python3-venv" >&2
    exit 1
  }
done
version=${SENSORDROP_DEB_VERSION:-$(sed -nE 's/^VERSION = "(.*)"$/\1/p' daemon/sensordrop/version.py)}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH=$epoch
minor=$("$PYTHON" -c 'import sys; print(sys.version_info.minor)')
export PYTHON_VERSION=3.$minor~ PYTHON_NEXT=3.$((minor + 1))~

rm -rf "$BUILD"
mkdir -p "$BUILD/install" dist
root=$PWD/$BUILD/install

echo "the virtual environment, from $LOCK"
"$PYTHON" -m venv "$BUILD/tools"
"$BUILD/tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
  -r packaging/requirements/build.txt
mkdir -p "$root$TARGET"
"$PYTHON" -m venv --without-pip --symlinks "$root$TARGET"
site=$root$TARGET/lib/python3.$minor/site-packages
"$BUILD/tools/bin/pip" --python "$root$TARGET/bin/python3" install --quiet \
  --disable-pip-version-check --require-hashes --no-compile -r "$LOCK"
# Our own code is built from a copy: what an older build left in build/ must not slip in.
mkdir "$BUILD/source"
cp -r daemon sql conf.d setup.cfg pyproject.toml README.md LICENSE "$BUILD/source/"
"$BUILD/tools/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
  --wheel-dir "$BUILD/wheel" "$BUILD/source"
"$BUILD/tools/bin/pip" --python "$root$TARGET/bin/python3" install --quiet \
  --disable-pip-version-check --no-deps --no-index --no-compile "$BUILD"/wheel/*.whl
# It is moved: every program says where its interpreter will be.
grep -rlI "^#!$root" "$root$TARGET/bin" | xargs --no-run-if-empty sed -i "1s|^#!$root|#!|"
rm -f "$root$TARGET"/bin/[Aa]ctivate*
ln -sf "$PYTHON" "$root$TARGET/bin/python3"
sed -i "/^command = /d" "$root$TARGET/pyvenv.cfg"
find "$site" -name direct_url.json -delete
# Of the hundreds of services that botocore describes, those that are ever asked.
find "$site/botocore/data" -mindepth 1 -maxdepth 1 -type d | grep -vxF "$(
  printf "$site/botocore/data/%s\n" s3 sts sso sso-oidc signin
)" | xargs rm -rf
"$PYTHON" -m compileall -q -j 0 --invalidation-mode unchecked-hash \
  -s "$root" -p / "$site" >/dev/null

echo "what is around it"
install -d "$root/usr/bin" "$root/usr/sbin" "$root/etc/sensordrop/conf.d" \
  "$root/etc/sensordrop/credentials" "$root/usr/share/doc/sensordrop"
ln -s "$TARGET/bin/sensordrop" "$root/usr/bin/sensordrop"
ln -s "$TARGET/bin/sensordropd" "$root/usr/sbin/sensordropd"
install -D -m 644 packaging/etc/60-sensordrop.conf "$root/usr/lib/sysctl.d/60-sensordrop.conf"
install -m 644 packaging/etc/sensordrop.yaml "$root/etc/sensordrop/sensordrop.yaml"
install -m 644 conf.d/sensordrop.yaml.example "$root/etc/sensordrop/"
install -m 644 conf.d/coast-own-store.yaml.example conf.d/highlands-c2.yaml.example \
  conf.d/older-format.json.example "$root/etc/sensordrop/conf.d/"
cp -r docs "$root/usr/share/doc/sensordrop/docs"
PYTHONPATH=$site "$PYTHON" packaging/words.py "$root"

echo "the package"
cp -r packaging/debian "$BUILD/debian"
cp systemd/sensordropd.service "$BUILD/debian/sensordrop.sensordropd.service"
cat >"$BUILD/debian/changelog" <<END
sensordrop ($version) unstable; urgency=medium

  * See /usr/share/doc/sensordrop/docs/CHANGELOG.md.

 -- sensordrop maintainers <sensordrop@example.org>  $(date --utc --date="@$epoch" --rfc-email)
END
install -m 644 CHANGELOG.md "$root/usr/share/doc/sensordrop/docs/"
(cd "$BUILD" && dpkg-buildpackage --build=binary --no-sign --jobs=auto >build.log 2>&1) || {
  tail -40 "$BUILD/build.log" >&2
  exit 1
}
mv build/sensordrop_"$version"_*.deb dist/
rm -f build/sensordrop_*
ls -lh dist/sensordrop_"$version"_*.deb
