"""The limits in force: who may send how much, when, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sensordrop.engine.throttle import BURST_SECONDS, LONGEST_WAIT_SECONDS, Throttles

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def sent_in(clock, seconds, turns, wanted=MIB, each=lambda: None):
    """Let transfers send all they may for so long; give the bytes of each."""
    sent = dict.fromkeys(turns, 0)
    end = clock.seconds + seconds
    while clock.seconds < end:
        for turn in turns:
            while got := turn.take(wanted):
                sent[turn] += got
                assert got <= wanted
        each()
        clock.seconds += max(0.001, min(turn.wait_seconds() for turn in turns))
    return list(sent.values())


def test_without_a_limit_all_may_go_at_once(clock):
    throttle = Throttles(clock).of("north")
    assert not throttle.limited
    turn = throttle.turn()
    assert turn.ready()
    assert turn.take(10 * MIB) == 10 * MIB


@pytest.mark.parametrize("rate", [1024, 8 * 1024, 100_000, MIB, 100 * MIB])
@pytest.mark.parametrize("transfers", [1, 7])
def test_over_ten_seconds_the_rate_is_kept_and_used(clock, rate, transfers):
    throttles = Throttles(clock)
    throttle = throttles.of("north")
    throttles.set_rates(rate, {})
    assert throttle.limited
    sent = sent_in(clock, 10.0, [throttle.turn() for _ in range(transfers)])
    assert 0.95 * rate * 10 - 1024 <= sum(sent) <= 1.05 * rate * 10 + 1024


def test_the_station_and_the_delivery_both_hold(clock):
    throttles = Throttles(clock)
    north, south = throttles.of("north"), throttles.of("south")
    throttles.set_rates(100_000, {"north": 20_000})
    turns = [north.turn(), south.turn(), south.turn()]
    a, b, c = sent_in(clock, 20.0, turns, wanted=64 * 1024)
    assert a == pytest.approx(400_000, rel=0.05)
    assert b + c == pytest.approx(1_600_000, rel=0.05), "what north may not have is south's"


def test_nobody_starves_and_all_get_the_same(clock):
    throttles = Throttles(clock)
    throttle = throttles.of("north")
    throttles.set_rates(8 * 1024, {})
    sent = sent_in(clock, 60.0, [throttle.turn() for _ in range(15)])
    assert max(sent) - min(sent) <= 2 * 1024
    assert min(sent) > 0


def test_a_small_wish_does_not_push_past_a_large_one(clock):
    throttles = Throttles(clock)
    throttle = throttles.of("north")
    throttles.set_rates(100_000, {})
    large = throttle.turn()
    assert large.take(MIB) == 0
    got = 0
    for _ in range(100):
        small = throttle.turn()
        while not small.take(100) and clock.seconds < 1010:
            clock.seconds += 0.001
            got += large.take(MIB)
        small.leave()
    assert got > 20_000


def test_idle_time_is_not_saved_up(clock):
    throttles = Throttles(clock)
    throttle = throttles.of("north")
    throttles.set_rates(100_000, {})
    clock.seconds += 3600
    (sent,) = sent_in(clock, 1.0, [throttle.turn()])
    assert sent <= 100_000 * (1 + BURST_SECONDS) * 1.05


def test_a_new_rate_holds_for_those_who_wait_already(clock):
    throttles = Throttles(clock)
    throttle = throttles.of("north")
    throttles.set_rates(1024, {})
    turns = [throttle.turn() for _ in range(10)]
    assert [turn.take(MIB) for turn in turns] == [0] * 10
    assert all(turn.wait_seconds() <= LONGEST_WAIT_SECONDS for turn in turns)
    throttles.set_rates(None, {})
    assert all(turn.ready() for turn in turns)
    assert all(turn.take(MIB) > 0 for turn in turns)
    throttles.set_rates(None, {"north": 1024})
    assert throttle.limited
    assert sum(sent_in(clock, 10.0, turns)) <= 12 * 1024 + 10 * 256 * 1024, "no more than in hand"


def test_what_was_given_and_not_sent_is_given_to_others(clock):
    throttles = Throttles(clock)
    throttle = throttles.of("north")
    throttles.set_rates(10_240, {})
    quitter, other = throttle.turn(), throttle.turn()
    assert quitter.take(1024) == 0
    assert other.take(1024) == 0
    clock.seconds += 0.11  # enough for one
    assert quitter.ready()
    assert not other.ready()
    quitter.leave()
    quitter.leave()
    clock.seconds += 0.006
    assert other.take(1024) == 1024


def test_a_transfer_that_leaves_the_queue_holds_up_nobody(clock):
    throttles = Throttles(clock)
    throttle = throttles.of("north")
    throttles.set_rates(10_240, {})
    gone, other = throttle.turn(), throttle.turn()
    assert gone.take(1024) == 0
    gone.leave()
    (sent,) = sent_in(clock, 5.0, [other])
    assert sent == pytest.approx(51_200, rel=0.05)


@examples(max_examples=50)
@given(
    st.integers(1024, 10_000_000),
    st.lists(st.integers(1024, 10_000_000) | st.none(), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 300_000)), min_size=1, max_size=12),
)
def test_never_more_than_the_limits_whoever_asks(station, rates, transfers):
    clock = Clock()
    throttles = Throttles(clock)
    names = [f"d{n}" for n in range(len(rates))]
    of = [throttles.of(name) for name in names]
    throttles.set_rates(station, dict(zip(names, rates, strict=True)))
    turns = [(n % len(rates), of[n % len(rates)].turn(), wanted) for n, wanted in transfers]
    sent = [0] * len(rates)
    for _ in range(400):
        for delivery, turn, wanted in turns:
            sent[delivery] += turn.take(wanted)
        clock.seconds += 0.01
    slack = 1024 * len(turns)
    assert sum(sent) <= station * 4.25 + slack
    for rate, bytes_sent in zip(rates, sent, strict=True):
        assert rate is None or bytes_sent <= rate * 4.25 + slack
