"""The set of files that settle: nothing that is put into it is ever dropped unseen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sensordrop.core.model import Fingerprint, Sighting
from sensordrop.engine.settling import SettlingFiles

START_NS = 1_790_000_000 * 10**9


@dataclass
class TestClock:
    """A clock that stands still until it is moved."""

    __test__ = False
    seconds: float = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall_ns() / 1e9, UTC)

    def wall_ns(self) -> int:
        return START_NS + int(self.seconds * 1e9)

    def monotonic(self) -> float:
        return self.seconds


def written_at(seconds: float) -> Sighting:
    moment = START_NS + int(seconds * 1e9)
    return Sighting(
        path=b"950349/x.WAV",
        fingerprint=Fingerprint(size_bytes=7, mtime_ns=moment, ctime_ns=moment),
    )


def test_a_file_that_settled_since_the_ledger_judged_it_is_kept_and_comes_due():
    clock = TestClock(seconds=100.0)
    settling = SettlingFiles(clock, quiet_seconds=10.0)
    sighting = written_at(90.5)
    clock.seconds = 100.6  # the listing was judged at 100.0, and this much later it is handed over
    settling.keep(sighting)
    assert len(settling) == 1
    clock.seconds = 110.7
    assert settling.due() == [sighting.path]
    settled = settling.observe(sighting)
    assert settled is not None
    assert settled.sighting == sighting
    assert len(settling) == 0


def test_a_file_that_is_watched_already_keeps_the_time_that_it_was_watched():
    clock = TestClock(seconds=100.0)
    settling = SettlingFiles(clock, quiet_seconds=10.0)
    sighting = written_at(99.0)
    assert settling.observe(sighting) is None
    clock.seconds = 105.0
    settling.keep(sighting)
    clock.seconds = 110.0
    assert settling.observe(sighting) is not None


def test_a_file_that_goes_by_the_quiet_rule_stays_with_it():
    settling = SettlingFiles(TestClock(), quiet_seconds=10.0)
    settling.keep(written_at(0.0), quiet_only=True)
    settling.keep(written_at(0.0))
    assert settling.goes_by_quiet(b"950349/x.WAV")
