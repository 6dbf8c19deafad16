"""What programs cost: processor time of whole process trees, peak memory, seconds."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import ProcessTimes, parse_stat, tree_ticks

TICKS = os.sysconf("SC_CLK_TCK")
LOOK_SECONDS = 0.01
"""How often a running program is looked at: the error of its wall time and of its peak memory."""


class ProgramFailedError(Exception):
    """A program that was to be measured ended badly; its figures would mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run took. CPU is user and system time of all processes together."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def measure(argv: Sequence[str], *, environment: Mapping[str, str], log: Path, cwd: Path) -> Cost:
    """Run a program to its end and say what it and its descendants took.

    Its output goes to `log`. Raises ProgramFailedError where it fails.
    """
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=cwd,
        )
        peak = 0
        try:
            while True:
                # Not from wait4's usage: a child inherits its parent's peak through fork.
                peak = max(peak, peak_bytes(process.pid))
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                time.sleep(LOOK_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise ProgramFailedError(f"{argv[0]} ended with {process.returncode}: {said}")
    return Cost(
        wall_seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=peak,
    )


def cpu_seconds(*roots: int) -> float:
    """Say how much processor time some processes with all their descendants took so far."""
    return tree_ticks(_processes(), roots) / TICKS


def peak_bytes(pid: int) -> int:
    """Give the most memory that a process had so far; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # a zombie has no memory


def _processes() -> dict[int, ProcessTimes]:
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                line = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended between the two looks; its parent's line has its time
            found[int(entry.name)] = parse_stat(line)
    return found
