"""How fast a delivery's files get stored, as an average that forgets.

Large files end rarely and small ones often, so neither bytes nor files alone tell when the rest
will be stored: whichever says later is believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sensordrop.core.bandwidth import Limit, seconds_to_send

HALF_LIFE_SECONDS = 300.0
"""What was measured so long ago counts half: long enough for a file of some gigabytes, short
enough to notice that the line was changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Averages per second. `seconds` is how much measured time they rest on, as it is remembered."""

    bytes_per_second: float = 0.0
    files_per_second: float = 0.0
    seconds: float = 0.0


def paced(pace: Pace, *, seconds: float, files: int, size_bytes: int) -> Pace:
    """Give the pace after `seconds` more, in which so much was stored."""
    if seconds <= 0:
        return pace
    kept = pace.seconds * math.exp2(-seconds / HALF_LIFE_SECONDS)
    total = kept + seconds
    return Pace(
        bytes_per_second=(pace.bytes_per_second * kept + size_bytes) / total,
        files_per_second=(pace.files_per_second * kept + files) / total,
        seconds=total,
    )


def remaining_seconds(
    pace: Pace, *, files: int, size_bytes: int, at: datetime, limits: Sequence[Limit]
) -> float | None:
    """Estimate how long it takes until so much more is stored; None: there is no telling."""
    if files <= 0:
        return 0.0
    if not pace.files_per_second > 0:
        return None
    by_files = files / pace.files_per_second
    if size_bytes <= 0:
        return by_files
    by_bytes = seconds_to_send(size_bytes, at=at, limits=limits, measured=pace.bytes_per_second)
    return None if by_bytes is None else max(by_files, by_bytes)
