"""The files of one delivery that were seen but are not settled yet: a bounded set."""

from __future__ import annotations

from dataclasses import dataclass

from sensordrop.core.model import Sighting
from sensordrop.core.settle import NANOSECONDS, Settled, SettleRule, Watched, observe
from sensordrop.core.tally import Distribution
from sensordrop.ports.life import Clock
from sensordrop.ports.records import SettledSighting

MOST_SETTLING = 10_000
"""Files of one delivery that are watched until they settle: some megabytes of memory. More are
left to the next sweep."""
LOOK_AGAIN_SECONDS = 0.2
"""Shortest time between two looks at the same file."""


@dataclass(kw_only=True)
class _Waiting:
    watched: Watched
    look_at: float
    first_seen: float
    """On the monotonic clock: since when the file has been waited for."""
    quiet_only: bool
    """It was written again after its first close: only the quiet rule counts from now on."""


class SettlingFiles:
    """Belongs to the scout's thread. Keeps no more than `MOST_SETTLING` files."""

    def __init__(
        self, clock: Clock, quiet_seconds: float, waits: Distribution | None = None
    ) -> None:
        """`waits` is told how long each file took to settle, from its first sight."""
        self._clock = clock
        self._waits = waits
        self._rule = SettleRule(quiet_seconds=quiet_seconds)
        self._files: dict[bytes, _Waiting] = {}
        self.overflowed = False
        """A file was left out because the set was full; the scout asks for a sweep."""

    def __len__(self) -> int:
        return len(self._files)

    def due(self) -> list[bytes]:
        """Give the files that may be settled by now."""
        now = self._clock.monotonic()
        return [path for path, waiting in self._files.items() if waiting.look_at <= now]

    def forget(self, path: bytes) -> None:
        """Take a file out: it is gone, or on the books."""
        self._files.pop(path, None)

    def settled(self, path: bytes) -> float | None:
        """Take a file out because it has settled. Tell how many seconds ago it was first seen; None
        if it was not waited for.
        """
        waiting = self._files.pop(path, None)
        seen_ago = None if waiting is None else self._clock.monotonic() - waiting.first_seen
        if self._waits is not None:
            self._waits.add(seen_ago or 0.0)
        return seen_ago

    def goes_by_quiet(self, path: bytes) -> bool:
        """Tell whether a close of this file no longer means that it is complete."""
        waiting = self._files.get(path)
        return waiting is not None and waiting.quiet_only

    def observe(self, sighting: Sighting) -> SettledSighting | None:
        """Judge a file that was just seen: give it if it is settled, else keep it here."""
        previous = self._files.get(sighting.path)
        wall_ns, monotonic = self._clock.wall_ns(), self._clock.monotonic()
        verdict = observe(
            previous.watched if previous else None,
            sighting.fingerprint,
            wall_ns=wall_ns,
            monotonic=monotonic,
            rule=self._rule,
        )
        if isinstance(verdict, Settled):
            seen_ago = self.settled(sighting.path)
            return SettledSighting(sighting=sighting, eager=False, seen_ago=seen_ago)
        self._watch(sighting.path, verdict, self._next_look(verdict, wall_ns, monotonic))
        return None

    def keep(self, sighting: Sighting, *, quiet_only: bool = False) -> None:
        """Keep a file that the ledger found unsettled, whatever its times say by now.

        The ledger looked a moment ago: what has settled since must be looked at and enrolled
        like all others, not be dropped between the two.
        """
        previous = self._files.get(sighting.path)
        monotonic = self._clock.monotonic()
        watched = Watched(fingerprint=sighting.fingerprint, since=monotonic)
        if previous is not None and previous.watched.fingerprint == sighting.fingerprint:
            watched = previous.watched
        look_at = self._next_look(watched, self._clock.wall_ns(), monotonic)
        self._watch(sighting.path, watched, look_at, quiet_only=quiet_only)

    def _watch(
        self, path: bytes, watched: Watched, look_at: float, *, quiet_only: bool = False
    ) -> None:
        previous = self._files.get(path)
        if previous is None and len(self._files) >= MOST_SETTLING:
            self.overflowed = True
            return
        self._files[path] = _Waiting(
            watched=watched,
            look_at=look_at,
            first_seen=previous.first_seen if previous else self._clock.monotonic(),
            quiet_only=quiet_only or (previous is not None and previous.quiet_only),
        )

    def _next_look(self, watched: Watched, wall_ns: int, monotonic: float) -> float:
        """Say when a file can be settled at the earliest, on the monotonic clock."""
        by_watching = watched.since + self._rule.quiet_seconds
        seen = watched.fingerprint
        mtime_ns = seen.mtime_ns if seen.mtime_ns <= wall_ns else 0
        age_seconds = (wall_ns - max(seen.ctime_ns, mtime_ns)) / NANOSECONDS
        by_times = monotonic + self._rule.quiet_seconds - age_seconds
        return max(monotonic + LOOK_AGAIN_SECONDS, min(by_watching, by_times))
