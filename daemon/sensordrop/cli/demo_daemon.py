"""The real sensordropd, as the demo's child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from sensordrop.cli.demo_folder import LOG, PAUSE_SECONDS, STOP_LIMIT_SECONDS, DemoError
from sensordrop.local import RUNNING, LocalFolder, local_environment
from sensordrop.service import StopSignals

START_LIMIT_SECONDS = 300.0
"""Longest wait until the daemon is up: a slow disk takes long to make a database."""
LOG_TAIL_LINES = 8
"""How much of the log an error repeats."""

FOR_MADE_CARDS = {
    # Nobody writes these files but the demo, and it never stops in the middle of one for long.
    "SENSORDROP_DELIVERY_QUIET_SECONDS": "2",
    "SENSORDROP_DELIVERY_MULTIPART_THRESHOLD_BYTES": str(8 * 1024 * 1024),
}
"""Settings for the demo's own cards: quicker than the defaults, and one file goes in parts."""


def own_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out what speaks of other places: sensordrop's, AWS's and proxies' variables."""
    return {
        name: value
        for name, value in local_environment(environ).items()
        if not name.startswith("SENSORDROP_") and not name.lower().endswith("_proxy")
    }


class DaemonProcess:
    """A child that is stopped, in order, at the end of `with`, whatever happened inside."""

    def __init__(
        self, place: LocalFolder, *, settings: Mapping[str, str], stop: StopSignals
    ) -> None:
        """Prepare to run `sensordropd --local` with these variables; see `own_environment`."""
        self._place = place
        self._environment = own_environment(os.environ) | dict(settings)
        self._stop = stop
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where the daemon's output goes."""
        return self._place.path / LOG

    def __enter__(self) -> Self:
        # -P: a module of the same name in the working directory must not come first.
        argv = [sys.executable, "-P", "-m", "sensordrop.main", "--local", str(self._place.path)]
        if self._place.drop != self._place.path / "drop":
            argv += ["--drop", str(self._place.drop)]
        with self.log.open("wb") as log:
            # In a session of its own, so that a terminal's Ctrl-C reaches the demo alone.
            self._child = subprocess.Popen(
                argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def wait_until_up(self, tick: Callable[[], None]) -> None:
        """Wait until the daemon says that it runs. `tick` may raise. Raises DemoError."""
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while RUNNING.encode() not in self.log.read_bytes():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(
                    f"sensordropd was not up after {START_LIMIT_SECONDS:.0f} s; its log: {self.log}"
                )
            tick()

    def check(self) -> None:
        """Raise DemoError if the daemon has ended by itself."""
        assert self._child is not None
        code = self._child.poll()
        if code is not None:
            raise DemoError(f"sensordropd ended by itself with {code}; {self.last_words()}")

    def last_words(self) -> str:
        """Say where the log is, with its last lines."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
        return f"its log, {self.log}, ends with:\n" + "\n".join(f"  {line}" for line in lines)

    def end(self) -> int:
        """Stop the daemon in order and give its exit code; at once after a second signal to us.

        One that does not end is killed. May be repeated.
        """
        assert self._child is not None
        deadline = time.monotonic() + STOP_LIMIT_SECONDS
        hurried = False
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        while True:
            try:
                return self._child.wait(PAUSE_SECONDS)
            except subprocess.TimeoutExpired:
                if self._stop.now and not hurried:
                    self._child.send_signal(signal.SIGTERM)
                    hurried = True
                if time.monotonic() > deadline:
                    self._child.kill()
