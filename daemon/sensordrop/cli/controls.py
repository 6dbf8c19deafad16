"""What the verbs that set something while the daemon runs have in common."""

from __future__ import annotations

import getpass
import os
import re
import socket
import sys
from collections.abc import Sequence
from datetime import datetime, tzinfo

import click

from sensordrop.cli.place import Place
from sensordrop.config.problem import did_you_mean
from sensordrop.exits import Exit

_DURATION = re.compile(r"([0-9]{1,6}) ?(s|m|min|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
LONGEST_SECONDS = 366 * 86_400
"""Whoever means longer than a year means the configuration."""


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


def station_of(place: Place) -> str:
    """Name the station that something is set for. Raises UsageError."""
    if place.station is None:
        raise click.UsageError(
            "which station? name its configuration with --config PATH (or --local FOLDER), or "
            "its name with SENSORDROP_STATION"
        )
    return place.station


def check_place(known: Sequence[str | None], station: str, delivery: str | None) -> None:
    """See that the ledger knows the station and the delivery, or end the program."""
    if not known:
        click.echo(f"the ledger knows no station {station!r}: has sensordropd run there?", err=True)
        sys.exit(Exit.FAILED)
    if delivery is not None and delivery not in known:
        names = [name for name in known if name is not None]
        meant = did_you_mean(delivery, names)
        raise click.UsageError(
            f"there is no delivery {delivery!r} on station {station!r}"
            + (f" — {meant}" if meant else f"; there are: {', '.join(names) or 'none'}")
        )


def whoever_calls() -> str:
    """Name who sets it, also behind sudo."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
