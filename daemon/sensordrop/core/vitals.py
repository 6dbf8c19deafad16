"""How the daemon is at one instant, for whoever watches from outside, and whether it is ready.

What is counted since the process began stands in tallies (`core/tally.py`); what only the ledger
knows was read from it a moment ago. Times of events are in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sensordrop.core.model import DeliveryState
from sensordrop.core.progress import SessionProgress
from sensordrop.core.tally import DeliveryTally, StationTally

ANSWER_SECONDS = 30.0
"""A ledger that did not answer for so long counts as out of reach, though nothing failed yet: a
connection that was cut is noticed later than that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionReading:
    """A running session: since when, and how it stands."""

    started_at: float
    progress: SessionProgress


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryReading:
    """How a delivery stands in the ledger: `counts` maps states to files and bytes."""

    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    uploading: int = 0
    oldest_pending_at: float | None = None
    """Since when the file waits that was enrolled first of all that are not finished."""
    last_success_at: float | None = None
    """When a file was last stored, or found stored."""
    mismatches: int = 0
    """Stored objects that were found missing or different; counted up to a limit."""
    session: SessionReading | None = None
    letters_waiting: int = 0
    letters_failed: int = 0
    """Letters of the last 30 days that were given up."""
    oldest_letter_at: float | None = None
    """Since when the letter waits that was asked for first of all that nobody heard yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerReading:
    """What was read from the ledger at once. `audit_behind_seconds`: the audit's daily share is
    used up to so long ago.
    """

    deliveries: Mapping[int, DeliveryReading]
    audit_behind_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigurationInForce:
    """Which configuration the daemon works with, and how the last try to load one ended."""

    digest: str
    loaded_at: float
    last_load_succeeded: bool = True
    last_load_at: float | None = None
    """When a configuration was last loaded, or refused, since the start; None: not since then."""
    problems: tuple[str, ...] = ()
    """Why the last one was refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskSpace:
    """How much room a file system has, in bytes."""

    free_bytes: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryVitals:
    """How one delivery is."""

    name: str
    client: str
    project: str
    cycle: str
    enabled: bool
    state: DeliveryState | None
    """None: nobody has looked at it yet."""
    reason: str | None
    watched: bool | None
    settling: int
    running: int
    open_breakers: frozenset[str]
    limit_bytes_per_second: float | None
    sweep_interval_seconds: float
    deadline_seconds: float | None
    remaining_seconds: float | None
    """Estimate of how long the running session still takes; None: there is none, or no telling."""
    files_per_second: float
    """How fast the running session's files were finished in the last minutes."""
    tally: DeliveryTally
    reading: DeliveryReading | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StationVitals:
    """How the daemon is."""

    at: float
    version: str
    configuration: ConfigurationInForce
    tally: StationTally
    deliveries: Sequence[DeliveryVitals]
    hints_waiting: int
    hints_dropped: int
    limit_bytes_per_second: float | None
    restarts: Mapping[str, int]
    """How often each service was started anew after it had failed."""
    database_up: bool
    database_problem: str | None
    database_seconds: float | None
    """How long the ledger took for its last answer."""
    read_at: float | None
    """When the ledger was last read for these."""
    audit_behind_seconds: float | None
    audit_share_per_day: float
    state_disk: DiskSpace | None


def unready(vitals: StationVitals) -> list[str]:
    """Say, a line each, what keeps the daemon from doing its work; nothing: it is ready.

    A delivery that was switched off, or paused by hand, is as it was wanted. A breaker that is
    open, a folder that is missing, and a folder that nobody has looked at yet are not. One that
    is being swept for the first time is at work, however long that takes.
    """
    problems = []
    if not vitals.database_up:
        problems.append(f"ledger: {vitals.database_problem or 'it was not asked yet'}")
    for delivery in vitals.deliveries:
        if not delivery.enabled or delivery.state is DeliveryState.PAUSED:
            continue
        if delivery.state in (DeliveryState.OFFLINE, DeliveryState.BLOCKED):
            problems.append(f"{delivery.name}: {delivery.state.value}: {delivery.reason}")
        elif delivery.state is None:
            problems.append(f"{delivery.name}: its folder was not looked at yet")
    return problems
