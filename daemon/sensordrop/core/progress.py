"""How far a running session is, and how long it will still take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sensordrop.core.bandwidth import HORIZON_DAYS, Limit, rate_at, seconds_to_send

AT_THE_LIMIT = 0.8
"""From this share of a limit on it is the limit that holds uploads up, not the way to the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionProgress:
    """A session's files and bytes, and how fast they were finished in the last minutes."""

    total: int
    uploaded: int
    skipped: int
    failed: int
    bytes: int
    files_left: int
    bytes_left: int
    files_per_second: float
    bytes_per_second: float
    best_bytes_per_second: float = 0.0
    """The mean of the fastest hour of late: what the way to the store can carry."""

    @property
    def share(self) -> float:
        """Say how much of it is finished, from 0 to 1."""
        return 1 - self.files_left / self.total if self.total else 0.0


def seconds_left(
    progress: SessionProgress, *, at: datetime, limits: Sequence[Limit] = ()
) -> float | None:
    """Say how long a session still takes from an instant on, with the limits that hold meanwhile.

    None: nothing was finished in the last minutes, or it takes longer than a year. Bytes tell,
    where there are any; what it is reckoned with where a limit slows uploads down now is the
    fastest hour of late, because the limit may end.
    """
    if progress.files_left <= 0:
        return 0.0
    if progress.bytes_left <= 0:
        if progress.files_per_second <= 0:
            return None
        seconds = progress.files_left / progress.files_per_second
        return seconds if seconds <= HORIZON_DAYS * 86_400 else None
    measured = progress.bytes_per_second
    allowed = rate_at(limits, at)
    if allowed is not None and measured >= AT_THE_LIMIT * allowed:
        measured = max(measured, progress.best_bytes_per_second)
    return seconds_to_send(progress.bytes_left, at=at, limits=limits, measured=measured)
