"""`sensordropd --local FOLDER` for tests: one process with everything embedded in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from daemon import (
    QUIET_SECONDS,
    SCRIPTS,
    SOURCES,
    RunningDaemon,
    command,
    embedded_processes,
    sha256,
)


class LocalDaemon(RunningDaemon):
    """Started and ended as often as a test likes, always on the same folder.

    It gets a session of its own, as a shell with job control gives it a process group: what is
    sent to the group is what a terminal sends.
    """

    def __init__(
        self,
        parent: Path,
        *arguments: str,
        folder: Path | None = None,
        program: Sequence[str] = (str(SCRIPTS / "sensordropd"),),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder or parent / "try"
        home = parent / "home"
        home.mkdir(exist_ok=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCES,
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "SENSORDROP_DELIVERY_QUIET_SECONDS": str(QUIET_SECONDS),
            **(environment or {}),
        }
        super().__init__(
            config=Path("unused"),
            folder=parent,
            environment=self.environment,
            arguments=arguments,
        )
        self._program = list(program)

    @property
    def drop(self) -> Path:
        return self.folder / "drop"

    @property
    def objects(self) -> Path:
        return self.folder / "objects" / "sensordrop"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def launch(self) -> None:
        """Start the process and don't wait for anything."""
        assert not self.running, "it runs already"
        self._starts += 1
        self._log = self._folder / f"local-{self._starts}-{uuid.uuid4().hex[:6]}.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *self._program,
                    "--local",
                    str(self.folder),
                    "--log-format",
                    "json",
                    *self._arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self._folder,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it and wait until it has said where everything is."""
        self.launch()
        self.wait_for(lambda: "Ctrl-C stops it." in self.output(), what="the greeting")

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group, as a terminal does for Ctrl-C."""
        os.killpg(self.pid, number)

    def greeting(self) -> dict[str, str]:
        """Give what it said at its start, by what it calls the things."""
        lines = [line for line in self.output().splitlines() if line.startswith("  ")]
        pairs = [line.strip().split(":", 1) for line in lines]
        return {name: value.strip() for name, value in pairs}

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of `sensordrop` on the same folder."""
        verb, *rest = arguments
        return command(
            verb, "--local", str(self.folder), *rest,
            environment=self.environment, cwd=self._folder,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """Give what `sensordrop status --json` says of the one delivery."""
        done = self.command("status", "--json")
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["deliveries"]
        return dict(found)

    def stored(self) -> dict[str, str]:
        """Give the SHA-256 of every object by its key: they are plain files."""
        found = {}
        for file in sorted(self.objects.rglob("*")):
            with suppress(FileNotFoundError):  # the store has given it its name meanwhile
                if file.is_file():
                    found[str(file.relative_to(self.objects))] = sha256(file.read_bytes())
        return found

    def wait_for_objects(self, expected: Mapping[str, str]) -> None:
        """Wait until the bucket holds exactly these."""
        self.wait_for(lambda: self.stored() == expected, what=f"{len(expected)} objects")

    def processes(self) -> list[psutil.Process]:
        """Give the processes of everything embedded, the daemon itself not among them."""
        own = self._process.pid if self._process is not None else None
        return [p for p in embedded_processes(self.folder) if p.pid != own]

    def store_process(self) -> psutil.Process:
        """Give the local S3 server's process."""
        (found,) = [p for p in self.processes() if "serve" in p.info["cmdline"]]
        return found

    def end_whatever_happens(self) -> None:
        """End the process and all that it embedded. For the end of a test."""
        super().end_whatever_happens()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # PostgreSQL's end with their first
                process.kill()
                process.wait(10)
