"""A real Ceph on loopback: one monitor, one store of objects and its S3 gateway, from Debian.

It is the strict one among the servers of the tests: it checks signatures and every hash that
they cover. One cluster serves a whole test run, because it takes some ten seconds to start; each
server on it is a gateway of its own with a user and buckets of its own.

Every process is a child that ends with us, whatever happens to us, and nothing outside the
cluster's folder is read or written.
"""

from __future__ import annotations

import atexit
import functools
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Literal, Self

from s3_servers import SECRET_KEY, Capabilities, S3Server

PROGRAMS = (
    "radosgw",
    "radosgw-admin",
    "ceph",
    "ceph-authtool",
    "ceph-mon",
    "ceph-osd",
    "monmaptool",
    "setpriv",
)
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""What every program is started through: were we killed, a cluster would run on for ever."""
START_SECONDS = 180.0
"""A cluster starts in ten seconds on an idle machine; tests must also pass on a busy one."""
COMMAND_SECONDS = 120
"""Longest wait for one of Ceph's administrative commands."""
BLUESTORE_BYTES = 2 * 1024**3
"""Size of the (sparse) file that stands in for a disk: what the tests store, and room for its log."""

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
run dir = {folder}
log file = {folder}/$name.log
log to stderr = false
err to stderr = true
admin socket =
crash dir = {folder}
pid file =
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon max pg per osd = 1000
ms bind ipv4 = true
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
# Gateways tell each other what to forget, and would wait half a minute for one that was killed.
rgw cache enabled = false
[mon]
mon data = {folder}/mon
mon cluster log file = {folder}/cluster.log
[osd]
osd data = {folder}/osd
osd objectstore = {store}
osd crush chooseleaf type = 0
osd class update on start = true
memstore device bytes = {bytes}
bluestore block size = {bytes}
bluestore block create = true
osd memory target = 1073741824
[client.rgw.a]
rgw data = {folder}/rgw
rgw enable usage log = false
rgw thread pool size = 32
rgw dns name =
rgw lc debug interval = -1
"""


class CephCluster:
    """A monitor and one store of objects. `memstore` forgets all when it ends, `bluestore` nothing."""

    def __init__(self, store: Literal["memstore", "bluestore"] = "memstore") -> None:
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise RuntimeError(f"missing: {', '.join(missing)}; `make test-ceph` installs them")
        # pytest's own temporary folders are kept for a while, and this one may hold gigabytes.
        self.folder = Path(tempfile.mkdtemp(prefix="sensordrop-ceph-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._configuration = self.folder / "ceph.conf"
        self._fsid, self._osd_id = str(uuid.uuid4()), str(uuid.uuid4())
        self._mon_port = free_port()
        self._configuration.write_text(
            CONFIGURATION.format(
                fsid=self._fsid,
                folder=self.folder,
                mon_port=self._mon_port,
                store=store,
                bytes=BLUESTORE_BYTES,
            )
        )

    def start(self) -> Self:
        """Make the cluster and start it; it is up when it knows its store of objects."""
        try:
            self._make_keys()
            self._make_monitor()
            self._start_monitor()
            self.run("ceph", "osd", "new", self._osd_id)
            (self.folder / "osd").mkdir()
            self.run("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", self._osd_id)
            self._start_osd()
        except BaseException:
            self.close()
            raise
        return self

    def kill(self) -> None:
        """End all processes as a power cut would."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def restart(self) -> None:
        """Start what was killed, with what it had kept."""
        self._start_monitor()
        self._start_osd()

    def close(self) -> None:
        """End all processes and remove everything."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, program: str, *arguments: str) -> str:
        """Run one of Ceph's administrative commands; give what it answers."""
        done = subprocess.run(
            [*ENDS_WITH_US, program, *self._common(), *arguments],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            env=self._environment(),
            cwd=self.folder,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace")
            raise RuntimeError(f"{program} failed: {said}")
        return done.stdout.decode()

    def spawn(self, program: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a server that ends with us, even if we are killed."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [*ENDS_WITH_US, program, *self._common(), "-f", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.folder,
            )

    # --- inside ---

    def _make_keys(self) -> None:
        keyring = str(self.folder / "keyring")
        everything = {
            "mon.": {"mon": "allow *"},
            "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
            "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
            "client.rgw.a": {"mon": "allow *", "osd": "allow *"},
        }
        (self.folder / "keyring").touch(mode=0o600)
        for name, rights in everything.items():
            caps = [word for over, right in rights.items() for word in ("--cap", over, right)]
            self.run("ceph-authtool", keyring, "--gen-key", "--name", name, *caps)

    def _make_monitor(self) -> None:
        """Write the monitor's first state, which knows the keys of all the others."""
        keyring = str(self.folder / "keyring")
        monmap = str(self.folder / "monmap")
        where = f"[v2:127.0.0.1:{self._mon_port}]"
        self.run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", where, monmap)
        (self.folder / "mon").mkdir()
        self.run("ceph-mon", "--id", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)

    def _start_monitor(self) -> None:
        log = self.folder / "mon.out"
        self._processes.append(self.spawn("ceph-mon", "--id", "a", log=log))
        self.run("ceph", "mon", "stat")

    def _start_osd(self) -> None:
        log = self.folder / "osd.out"
        process = self.spawn("ceph-osd", "--id", "0", log=log)
        self._processes.append(process)
        give_up = time.monotonic() + START_SECONDS
        while json.loads(self.run("ceph", "osd", "stat", "--format=json"))["num_up_osds"] == 0:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"ceph-osd did not start: {log.read_text(errors='replace')}")
            time.sleep(0.2)

    def _common(self) -> list[str]:
        return ["--conf", str(self._configuration)]

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}


@functools.cache
def shared_cluster() -> CephCluster:
    """Start the cluster that all servers of a test run share; it ends with the run."""
    cluster = CephCluster()
    atexit.register(cluster.close)
    return cluster.start()


class CephServer(S3Server):
    """Ceph's S3 gateway with a user of its own, and so with buckets of its own."""

    capabilities = Capabilities(
        conditional_put=True,
        conditional_complete=False,
        checks_payload_hash=True,
        races_on_one_key=False,
        keeps_metadata_over_restart=True,
        etag_of_parts=True,
        tells_part_sizes=False,
    )

    def __init__(self, folder: Path, cluster: CephCluster | None = None) -> None:
        super().__init__(folder)
        self._cluster = cluster or shared_cluster()
        # A tenant is a namespace of buckets: every server can have a bucket of the same name.
        self._tenant = f"t{uuid.uuid4().hex[:12]}"
        self.access_key = f"KEY{uuid.uuid4().hex[:17].upper()}"
        self._known = False

    def start(self, port: int = 0) -> Self:
        """Start the gateway; it is ready when it answers HTTP."""
        self._make_user()
        port = port or free_port()
        log = self.folder / "server.log"
        self._process = self._cluster.spawn(
            "radosgw",
            "--name=client.rgw.a",
            f"--rgw-frontends=beast endpoint=127.0.0.1:{port}",
            f"--log-file={self.folder / 'radosgw.log'}",
            log=log,
        )
        give_up = time.monotonic() + START_SECONDS
        while not _answers(port):
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise RuntimeError(f"radosgw did not start: {log.read_text(errors='replace')}")
            time.sleep(0.1)
        self.endpoint_url = f"http://127.0.0.1:{port}"
        return self

    def _make_user(self) -> None:
        if self._known:
            return
        self._cluster.run(
            "radosgw-admin",
            "user",
            "create",
            "--uid=uploader",
            f"--tenant={self._tenant}",
            "--display-name=Uploader",
            f"--access-key={self.access_key}",
            f"--secret-key={SECRET_KEY}",
        )
        self._known = True


def free_port() -> int:
    """Give a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
