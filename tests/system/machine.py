"""A throwaway Debian with a real systemd, booted in a folder. As root; tests/system/prepare.sh makes it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
CACHE = Path(
    os.environ.get("SENSORDROP_SYSTEM_CACHE") or Path.home() / ".cache" / "sensordrop-system"
)
BOOT_SECONDS = 120.0
WAIT_SECONDS = 120.0
"""How long a test waits for anything at all. Generous: a slow machine is no defect."""


class Machine:
    """One machine: what is written in it lies in a layer of its own above the shared base."""

    def __init__(self, folder: Path, *, read_only: dict[Path, str]) -> None:
        """`read_only` are files and folders of this host, and where the machine sees them."""
        self.name = f"sd-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._read_only = read_only
        self._process: subprocess.Popen[bytes] | None = None
        self.root = folder / "root"
        for each in ("upper", "work", "root"):
            (folder / each).mkdir(parents=True)
        layers = (
            f"lowerdir={(CACHE / 'root').resolve()},upperdir={folder}/upper,workdir={folder}/work"
        )
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)

    def boot(self) -> None:
        """Start it and wait until systemd takes orders. Services may still be starting."""
        with (self._folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [
                    HERE / "boot.sh",
                    CACHE,
                    self.root,
                    self.name,
                    *(f"--bind-ro={host}:{inside}" for host, inside in self._read_only.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for(self._is_up, what="the machine is up", seconds=BOOT_SECONDS)

    def power_off(self) -> None:
        """Shut it down in order."""
        self.run("systemctl poweroff", check=False)
        assert self._process is not None
        self._process.wait(WAIT_SECONDS)

    def close(self) -> None:
        """End it, however it is, and take its disk away."""
        if self._process is not None and self._process.poll() is None:
            try:
                self.power_off()
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError, AssertionError):
                # Its init goes first: nspawn, killed before it, would leave it behind.
                for process in [*self._inits(), psutil.Process(self._process.pid)]:
                    process.send_signal(signal.SIGKILL)
                self._process.wait(WAIT_SECONDS)
        subprocess.run(["umount", "--lazy", self.root], check=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- what one does in it ----------------------------------------------------------------

    def run(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell command inside, as root."""
        inits = self._inits()
        assert inits, f"the machine is not up: {command}\n{self._story()}"
        done = subprocess.run(
            ["nsenter", "-t", str(inits[0].pid), "-a", "/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=WAIT_SECONDS * 2,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )
        if check:
            assert done.returncode == 0, (
                f"{command}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}\n{self._story()}"
            )
        return done

    def tell(self, command: str) -> str:
        """Run a command and give what it printed."""
        return self.run(command).stdout.strip()

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file inside."""
        quoted = shlex.quote(path)
        self.run(
            f"mkdir -p $(dirname {quoted}) && printf %s {shlex.quote(text)} > {quoted} "
            f"&& chmod {mode:o} {quoted}"
        )

    def wait_for(
        self, happened: Callable[[], Any], *, what: str, seconds: float = WAIT_SECONDS
    ) -> Any:
        """Wait until it is true, and give it; tell what the machine said if it never is."""
        give_up = time.monotonic() + seconds
        while not (found := happened()):
            assert time.monotonic() < give_up, f"never: {what}\n{self._story()}"
            time.sleep(0.3)
        return found

    # --- inside -----------------------------------------------------------------------------

    def _inits(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            return psutil.Process(self._process.pid).children()[:1]
        except psutil.NoSuchProcess:
            return []

    def _is_up(self) -> bool:
        if not self._inits():
            return False
        try:
            told = self.run("systemctl is-active basic.target dbus.service", check=False).stdout
        except AssertionError:  # it has just begun
            return False
        return told.split() == ["active", "active"]

    def _story(self) -> str:
        if not self._inits():
            return (self._folder / "console.log").read_text(errors="replace")[-3000:]
        return self.run(
            "systemctl status --no-pager sensordropd; journalctl -n 40 --no-pager", check=False
        ).stdout
