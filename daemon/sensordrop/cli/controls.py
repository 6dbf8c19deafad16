"""What the verbs that set something while the daemon runs have in common."""

from __future__ import annotations

import getpass
import os
import re
import socket
from datetime import datetime, tzinfo

import click

from sensordrop.control.routes import LONGEST_SECONDS

_DURATION = re.compile(r"([0-9]{1,6}) ?(s|m|min|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def clock_text(instant: str, zone: tzinfo) -> str:
    """Write an instant (ISO 8601) as the clock on the wall shows it."""
    return datetime.fromisoformat(instant).astimezone(zone).strftime("%a %Y-%m-%d %H:%M")


def seconds_of(duration: str | None) -> float | None:
    """Read how long something is to hold. Raises UsageError."""
    if duration is None:
        return None
    found = _DURATION.fullmatch(duration.strip())
    seconds = int(found.group(1)) * _SECONDS[found.group(2)] if found else 0
    if not 0 < seconds <= LONGEST_SECONDS:
        raise click.UsageError(
            f"--for {duration!r} is not a time such as 90m, 2h or 3d, of at most a year"
        )
    return float(seconds)


def whoever_calls() -> str:
    """Name who sets it, also behind sudo."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"
