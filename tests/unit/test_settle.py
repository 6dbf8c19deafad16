"""A file is settled when nobody is still writing it, whatever the clocks say."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sensordrop.core.model import Fingerprint
from sensordrop.core.settle import (
    NANOSECONDS,
    Settled,
    SettleRule,
    Watched,
    observe,
    quiet_by_times,
)

QUIET = SettleRule(quiet_seconds=10)
NOON_NS = 1_763_726_400 * NANOSECONDS
DAY = 86_400.0


def at(seconds: float) -> int:
    """Give the wall clock some seconds after noon, in nanoseconds."""
    return NOON_NS + round(seconds * NANOSECONDS)


def file(*, mtime: float, ctime: float, size: int = 1000) -> Fingerprint:
    return Fingerprint(size_bytes=size, mtime_ns=at(mtime), ctime_ns=at(ctime))


@pytest.mark.parametrize(
    ("mtime", "ctime", "settled"),
    [
        pytest.param(-DAY, -DAY, True, id="copied yesterday"),
        pytest.param(
            -400 * DAY, -1, False, id="recorded last year, copied just now with its times"
        ),
        pytest.param(
            -400 * DAY, -60, True, id="recorded last year, copied a minute ago with its times"
        ),
        pytest.param(-1, -1, False, id="being written"),
        pytest.param(-1, -DAY, False, id="being written where change times stay at creation"),
        pytest.param(-10, -10, True, id="left alone for exactly the quiet time"),
        pytest.param(-10 + 1e-9, -10 + 1e-9, False, id="left alone for a nanosecond less"),
        pytest.param(
            0, -DAY, False, id="modified exactly now, by a file system that never changes ctime"
        ),
        pytest.param(
            3650 * DAY, -DAY, True, id="recorded in 2036 by a wrong clock, copied yesterday"
        ),
        pytest.param(3650 * DAY, -1, False, id="recorded in 2036 by a wrong clock, being copied"),
        pytest.param(300, 300, False, id="on a share whose clock runs ahead"),
        pytest.param(-DAY, 300, False, id="changed by a clock ahead of ours, modified long ago"),
        pytest.param(-NOON_NS / NANOSECONDS, -DAY, True, id="the clock of 1970"),
    ],
)
def test_at_first_sight_the_files_own_times_decide(mtime, ctime, settled):
    seen = file(mtime=mtime, ctime=ctime)
    assert quiet_by_times(seen, NOON_NS, QUIET) is settled
    first = observe(None, seen, wall_ns=NOON_NS, monotonic=5.0, rule=QUIET)
    expected = Settled(fingerprint=seen) if settled else Watched(fingerprint=seen, since=5.0)
    assert first == expected


def test_a_watched_file_settles_after_the_quiet_time_and_not_before():
    seen = file(mtime=-1, ctime=-1)
    watched = observe(None, seen, wall_ns=at(0), monotonic=100.0, rule=QUIET)
    assert isinstance(watched, Watched)
    assert observe(watched, seen, wall_ns=at(9.5), monotonic=109.5, rule=QUIET) == watched
    assert observe(watched, seen, wall_ns=at(10), monotonic=110.0, rule=QUIET) == Settled(
        fingerprint=seen
    )


@pytest.mark.parametrize(
    "change",
    [
        {"size_bytes": 1001},
        {"mtime_ns": at(-1) + 1},
        {"ctime_ns": at(-1) + 1},
        {"size_bytes": 0},
    ],
)
def test_any_change_starts_the_wait_anew(change):
    before = file(mtime=-1, ctime=-1)
    times = {"size_bytes": 1000, "mtime_ns": at(-1), "ctime_ns": at(-1)}
    after = Fingerprint(**{**times, **change})
    watched = Watched(fingerprint=before, since=100.0)
    again = observe(watched, after, wall_ns=at(20), monotonic=120.0, rule=QUIET)
    assert again == Watched(fingerprint=after, since=120.0)


def test_a_clock_that_jumps_ahead_does_not_settle_a_file_that_is_being_watched():
    # A station without a clock of its own gets the time from the network in the midst of a copy.
    young = file(mtime=0, ctime=0)
    watched = observe(None, young, wall_ns=at(0), monotonic=100.0, rule=QUIET)
    assert isinstance(watched, Watched)
    assert observe(watched, young, wall_ns=at(3600), monotonic=101.0, rule=QUIET) == watched
    grown = file(mtime=1, ctime=1, size=2000)
    assert isinstance(
        observe(watched, grown, wall_ns=at(3600), monotonic=102.0, rule=QUIET), Watched
    )


def test_a_clock_that_jumps_back_does_not_keep_a_file_waiting():
    seen = file(mtime=0, ctime=0)
    watched = observe(None, seen, wall_ns=at(-DAY), monotonic=100.0, rule=QUIET)
    assert isinstance(watched, Watched)
    later = observe(watched, seen, wall_ns=at(-DAY + 10), monotonic=110.0, rule=QUIET)
    assert later == Settled(fingerprint=seen)


def test_without_a_quiet_time_a_file_is_settled_at_first_sight():
    seen = file(mtime=0, ctime=0)
    rule = SettleRule(quiet_seconds=0)
    assert observe(None, seen, wall_ns=at(0), monotonic=0.0, rule=rule) == Settled(fingerprint=seen)


any_seconds = st.floats(min_value=-2e9, max_value=2e9)


@given(any_seconds, any_seconds, any_seconds, any_seconds, st.floats(0.1, 3600))
def test_a_file_left_alone_settles_at_latest_after_the_quiet_time(
    mtime, ctime, wall, later_wall, quiet_seconds
):
    rule = SettleRule(quiet_seconds=quiet_seconds)
    seen = file(mtime=mtime, ctime=ctime)
    first = observe(None, seen, wall_ns=at(wall), monotonic=0.0, rule=rule)
    if isinstance(first, Watched):
        # Whatever the wall clock says by then.
        second = observe(first, seen, wall_ns=at(later_wall), monotonic=quiet_seconds, rule=rule)
        assert second == Settled(fingerprint=seen)


@given(any_seconds, any_seconds, any_seconds)
def test_settled_by_times_means_that_the_machine_did_not_touch_it_lately(mtime, ctime, wall):
    seen = file(mtime=mtime, ctime=ctime)
    if quiet_by_times(seen, at(wall), QUIET):
        assert at(wall) - seen.ctime_ns >= 10 * NANOSECONDS
        assert not at(wall) - 10 * NANOSECONDS < seen.mtime_ns <= at(wall)


@dataclass
class Clocks:
    """Where the times of a simulated file come from."""

    change_time_moves: bool
    """False: it stays at creation, as on old FAT."""
    keeps_source_mtime: bool
    """The copying program sets the recording's own modification time after each piece."""
    share_ahead_seconds: float


class CopyingWhileWatched(RuleBasedStateMachine):
    """Somebody copies a file, a piece at least every half quiet time; we look when we like."""

    @initialize(
        quiet_seconds=st.sampled_from([0.5, 2.0, 10.0, 60.0]),
        clocks=st.builds(
            Clocks,
            change_time_moves=st.just(True),
            keeps_source_mtime=st.booleans(),
            share_ahead_seconds=st.sampled_from([0.0, 1.0, 3600.0]),
        )
        | st.builds(
            Clocks,
            change_time_moves=st.just(False),
            keeps_source_mtime=st.just(False),
            share_ahead_seconds=st.sampled_from([0.0, 1.0, 3600.0]),
        ),
    )
    def the_copy_begins(self, quiet_seconds, clocks):
        self.rule = SettleRule(quiet_seconds=quiet_seconds)
        self.clocks = clocks
        self.monotonic = 1000.0
        self.wall = 0.0
        self.clock_jumped = False
        self.created = self.share_time()
        self.size = 0
        self.previous = None
        self.write()
        self.look()

    def share_time(self):
        return self.wall + self.clocks.share_ahead_seconds

    def write(self):
        self.size += 4096
        now = self.share_time()
        self.seen = file(
            mtime=-400 * DAY if self.clocks.keeps_source_mtime else now,
            ctime=now if self.clocks.change_time_moves else self.created,
            size=self.size,
        )
        self.written_at = self.monotonic

    def pass_time(self, seconds):
        self.monotonic += seconds
        self.wall += seconds

    @rule(share=st.floats(0.01, 1.0))
    def time_passes(self, share):
        """Time passes; the writer never pauses for more than half the quiet time."""
        step = share * self.rule.quiet_seconds / 2
        idle = self.monotonic - self.written_at
        if idle + step > self.rule.quiet_seconds / 2:
            self.write()
        self.pass_time(step)

    @rule()
    def a_piece_is_written(self):
        self.write()

    @rule()
    def look(self):
        result = observe(
            self.previous,
            self.seen,
            wall_ns=at(self.wall),
            monotonic=self.monotonic,
            rule=self.rule,
        )
        assert isinstance(result, Watched), "settled while it is being written"
        self.previous = result

    @rule(seconds=st.sampled_from([-DAY, -3600.0, -5.0, 5.0, 3600.0, 3650 * DAY]))
    def the_clock_jumps(self, seconds):
        self.wall += seconds
        self.clock_jumped = True

    @precondition(lambda self: not self.clock_jumped and not self.clocks.share_ahead_seconds)
    @rule()
    def the_daemon_starts_again_and_remembers_nothing(self):
        """At first sight only a clock that can be trusted protects; so only then."""
        self.previous = None
        self.look()

    @rule(steps=st.integers(1, 5))
    def the_copy_ends(self, steps):
        """Looked at a few times, the file is settled as soon as the quiet time has passed."""
        final = self.seen
        self.look()
        since = self.previous.since
        for _ in range(steps):
            step = self.rule.quiet_seconds / steps
            self.pass_time(step)
            result = observe(
                self.previous,
                final,
                wall_ns=at(self.wall),
                monotonic=self.monotonic,
                rule=self.rule,
            )
            if self.monotonic - since >= self.rule.quiet_seconds:
                assert result == Settled(fingerprint=final)
            if isinstance(result, Settled):
                assert self.monotonic - self.written_at >= self.rule.quiet_seconds / 2
        self.pass_time(self.rule.quiet_seconds / 1000)
        assert observe(
            self.previous,
            final,
            wall_ns=at(self.wall),
            monotonic=self.monotonic,
            rule=self.rule,
        ) == Settled(fingerprint=final)
        self.previous = None
        self.clock_jumped = False
        self.wall = 0.0
        self.created = self.share_time()
        self.write()
        self.look()


TestCopyingWhileWatched = CopyingWhileWatched.TestCase
TestCopyingWhileWatched.settings = settings(deadline=None, stateful_step_count=40)


def test_a_second_has_a_thousand_million_nanoseconds_and_not_one_less():
    wall_ns = 10**18
    rule = SettleRule(quiet_seconds=1.0)

    def quiet(age_ns):
        then = wall_ns - age_ns
        seen = Fingerprint(size_bytes=1, mtime_ns=then, ctime_ns=then)
        return quiet_by_times(seen, wall_ns, rule)

    assert (quiet(10**9), quiet(10**9 - 1)) == (True, False)


def test_a_file_that_looks_the_same_is_the_same_whoever_looked():
    """Each look makes a fingerprint of its own: it is its values that are compared."""
    first, again = (Fingerprint(size_bytes=1, mtime_ns=7, ctime_ns=7) for _ in range(2))
    watched = Watched(fingerprint=first, since=0.0)
    rule = SettleRule(quiet_seconds=10.0)
    judged = observe(watched, again, wall_ns=8, monotonic=10.0, rule=rule)
    assert judged == Settled(fingerprint=again)
