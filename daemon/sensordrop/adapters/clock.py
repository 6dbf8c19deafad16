"""The machine's clocks."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LOCAL_ZONE_FILE = Path("/etc/localtime")


class SystemClock:
    """`ports.Clock` on the clocks of this machine."""

    def now(self) -> datetime:
        """Give the wall clock in UTC."""
        return datetime.now(UTC)

    def wall_ns(self) -> int:
        """Give the wall clock in nanoseconds since 1970."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Give seconds that never run backwards."""
        return time.monotonic()


def local_zone() -> tzinfo:
    """Give this machine's time zone, with its rules for summer time; UTC where it says none.

    Reads `TZ`, then /etc/localtime, as the C library does. Blocks on the disk for a moment.
    """
    named = os.environ.get("TZ", "").removeprefix(":")
    try:
        if named:
            return ZoneInfo(named)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass  # a rule written out, such as CET-1CEST: the file says it too, as a rule
    try:
        with LOCAL_ZONE_FILE.open("rb") as file:
            return ZoneInfo.from_file(file, key=_name_of(LOCAL_ZONE_FILE))
    except (ValueError, OSError):
        return UTC


def _name_of(path: Path) -> str:
    """Give the zone's name, which stands in the path that the file is a link to."""
    return str(path.resolve()).rpartition("zoneinfo/")[2]
