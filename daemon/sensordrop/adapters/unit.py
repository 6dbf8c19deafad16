"""Asks the service manager how it runs the daemon: its user, and what it lets it write."""

from __future__ import annotations

import shlex
import shutil
import subprocess

from sensordrop.core.sandbox import Sandbox

UNIT = "sensordropd.service"
ASK_SECONDS = 10.0
"""A service manager that needs longer has other troubles; nothing here waits for it."""

_LISTS = ("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths")
_BELOW = {
    "StateDirectory": "/var/lib",
    "RuntimeDirectory": "/run",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
}
_READ_EVERYTHING = {"cap_dac_read_search", "cap_dac_override"}
_ASKED = (
    "LoadState", "User", "SupplementaryGroups", "AmbientCapabilities",
    "ProtectSystem", "ProtectHome", *_LISTS, *_BELOW,
)  # fmt: skip


def sandbox_of_unit() -> Sandbox | None:
    """Give the view that systemd gives the unit; None where no such unit is loaded.

    Blocks for some milliseconds, `ASK_SECONDS` at most.
    """
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    try:
        done = subprocess.run(
            [systemctl, "show", UNIT, f"--property={','.join(_ASKED)}"],
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
            timeout=ASK_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None  # not a machine that systemd runs
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if done.returncode != 0 or told.get("LoadState") != "loaded":
        return None
    return _sandbox(told)


def _sandbox(told: dict[str, str]) -> Sandbox:
    own = [
        f"{above}/{name.partition(':')[0]}"
        for key, above in _BELOW.items()
        for name in _words(told.get(key, ""))
    ]
    lists = {key: [_bare(each) for each in _words(told.get(key, ""))] for key in _LISTS}
    return Sandbox(
        user=told.get("User", ""),
        protect_system=told.get("ProtectSystem", "no"),
        protect_home=told.get("ProtectHome", "no"),
        writable=(*lists["ReadWritePaths"], *own),
        read_only=(*lists["ReadOnlyPaths"], *lists["InaccessiblePaths"]),
        groups=_words(told.get("SupplementaryGroups", "")),
        reads_everything=not _READ_EVERYTHING.isdisjoint(
            told.get("AmbientCapabilities", "").lower().split()
        ),
    )


def _words(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:  # a quote without its other half
        return value.split()


def _bare(path: str) -> str:
    """Leave out the signs before a path: `-` may be missing, `+` below the root directory."""
    return path.lstrip("-+")
