"""Settled: nobody is still writing the file.

The first close-after-write counts as settled at once. Everything else goes by the quiet rule:
the file has not changed for `quiet_seconds`. At first sight its own times may show that; once we
watch it, only our having watched it that long does.
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
    The ledger judges listings by the same comparison, in SQL.
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
    wall clock in nanoseconds, compared with the file's own times at first sight; `monotonic` is
    in seconds and measures how long we watched. A file that we watch is judged by that alone:
    the wall clock jumps (a station without a clock of its own gets the time from the network
    minutes after it started), shares have clocks of their own, and some file systems keep no
    change time, but a file that two looks found different was written between them.
    """
    if previous is None and quiet_by_times(seen, wall_ns, rule):
        return Settled(fingerprint=seen)
    if previous is None or previous.fingerprint != seen:
        return Watched(fingerprint=seen, since=monotonic)
    if monotonic - previous.since >= rule.quiet_seconds:
        return Settled(fingerprint=seen)
    return previous
