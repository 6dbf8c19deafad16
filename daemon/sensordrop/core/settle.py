"""Settled: nobody is still writing the file.

The first close-after-write counts as settled at once. Everything else goes by the quiet rule:
the file has not changed for `quiet_seconds`, shown either by its own times or by our having
watched it that long.
"""

from __future__ import annotations

from dataclasses import dataclass

from sensordrop.core.model import Fingerprint

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SettleRule:
    """How long a file must have been left alone, in seconds."""

    quiet_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A file that was seen but is not settled yet. `since` is on the monotonic clock, seconds."""

    fingerprint: Fingerprint
    since: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """Ready to go on the books, as it was seen."""

    fingerprint: Fingerprint


def quiet_by_times(fingerprint: Fingerprint, wall_ns: int, rule: SettleRule) -> bool:
    """Tell whether the file's own times say that it was left alone for `quiet_seconds`.

    Both times must be old. A modification time in the future says nothing (recorders with a
    wrong clock write 2036), so then the change time, which is this machine's, decides alone.
    """
    edge_ns = wall_ns - int(rule.quiet_seconds * NANOSECONDS)
    recently_modified = edge_ns < fingerprint.mtime_ns <= wall_ns
    return fingerprint.ctime_ns <= edge_ns and not recently_modified


def observe(
    previous: Watched | None,
    seen: Fingerprint,
    *,
    wall_ns: int,
    monotonic: float,
    rule: SettleRule,
) -> Settled | Watched:
    """Judge a file that was just looked at.

    `previous` is what `observe` returned the last time, if it was `Watched`. `wall_ns` is the
    wall clock in nanoseconds, compared with the file's own times; `monotonic` is in seconds and
    measures how long we watched, which decides where the file's times can't be trusted (a
    network share whose clock runs ahead).
    """
    if quiet_by_times(seen, wall_ns, rule):
        return Settled(fingerprint=seen)
    if previous is None or previous.fingerprint != seen:
        return Watched(fingerprint=seen, since=monotonic)
    if monotonic - previous.since >= rule.quiet_seconds:
        return Settled(fingerprint=seen)
    return previous
