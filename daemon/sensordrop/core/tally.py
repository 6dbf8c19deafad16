"""What is counted while the daemon runs: plain numbers that each one thread alone raises.

They begin at zero with the process. Whoever reads them from another thread sees each number whole,
and perhaps one of two that belong together already raised; so counting needs no lock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE

SIZE_BOUNDS_BYTES = (
    64 * KIBIBYTE,
    256 * KIBIBYTE,
    MEBIBYTE,
    4 * MEBIBYTE,
    16 * MEBIBYTE,
    64 * MEBIBYTE,
    256 * MEBIBYTE,
    GIBIBYTE,
    5 * GIBIBYTE,
)
"""Sizes of recordings: an image, a minute of sound, an hour, a film."""
DURATION_BOUNDS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200)
"""64 KiB take some milliseconds on a good line, 5 GiB an hour on a bad one."""
SETTLE_BOUNDS_SECONDS = (0.5, 1, 2, 5, 10, 15, 30, 60, 300, 1800, 7200)
"""A file settles at once when it is closed, else by being quiet, or when its writer is done."""
REQUEST_BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)
"""A look takes a way there and back; a part of 16 MiB and more as long as the line wants."""
COMMIT_BOUNDS_FILES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Outcomes that are written down together."""
COMMIT_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
"""One durable transaction: a millisecond on a good disk."""


class Distribution:
    """How many values fell below which bound. One thread alone adds to it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` rise; a value counts for the first bound that it does not exceed."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """For each bound, and for what exceeds the last."""
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(kw_only=True, slots=True)
class DeliveryTally:
    """What happened in one delivery since the process began."""

    # raised by the scout
    discovered_by_hint: int = 0
    discovered_by_sweep: int = 0
    sweeps_complete: int = 0
    sweeps_partial: int = 0
    sweeps_lost: int = 0
    """Broken off because the ledger was away."""
    missed_files: int = 0
    """Files that a sweep found and the watcher should have reported."""
    last_sweep_at: float | None = None
    """When a sweep ended, in seconds since 1970."""
    last_complete_sweep_at: float | None = None
    last_sweep_seconds: float | None = None
    last_sweep_files: int | None = None
    last_sweep_complete: bool | None = None
    canary_at: float | None = None
    """When the watcher last proved that it sees events, in seconds since 1970."""

    # raised by the taker
    taken: int = 0
    """Files that were taken away from the folder, after they were proven to be stored."""
    taken_bytes: int = 0
    taking_failures: int = 0
    """Files that were to be taken away and stayed; one where a round ended before it began."""

    # raised by the uploader
    uploaded: int = 0
    uploaded_bytes: int = 0
    skipped: int = 0
    failed: int = 0
    """Quarantined."""
    retried: int = 0
    """Failures of the file after which it is tried again."""
    attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    """Attempts by their class and, where they failed, the scope of the failure."""


@dataclass(kw_only=True, slots=True)
class StationTally:
    """What happened on the whole station since the process began."""

    # added to by the uploader
    upload_seconds: Distribution = field(
        default_factory=lambda: Distribution(DURATION_BOUNDS_SECONDS)
    )
    upload_bytes: Distribution = field(default_factory=lambda: Distribution(SIZE_BOUNDS_BYTES))
    commit_files: Distribution = field(default_factory=lambda: Distribution(COMMIT_BOUNDS_FILES))
    commit_seconds: Distribution = field(
        default_factory=lambda: Distribution(COMMIT_BOUNDS_SECONDS)
    )
    # added to by the scout
    settle_seconds: Distribution = field(
        default_factory=lambda: Distribution(SETTLE_BOUNDS_SECONDS)
    )
