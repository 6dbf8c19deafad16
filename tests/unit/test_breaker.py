"""Trouble of a whole scope stops its claims, is probed, and ends by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensordrop.core.breaker import (
    PROBE_BASE_SECONDS,
    PROBE_CAP_SECONDS,
    PROVEN,
    Breaker,
    Pace,
    Suspicion,
    blamed,
    proven_once,
    slowed,
    tripped,
)
from sensordrop.core.failure import RETRY_AFTER_LIMIT_SECONDS, Failure, FailureScope


def failure(error_class="connect", retry_after=None):
    return Failure(
        scope=FailureScope.DESTINATION,
        error_class=error_class,
        message="the endpoint does not answer",
        retry_after_seconds=retry_after,
    )


def after_failed_probes(number, *, dice=0.5):
    """Give a breaker whose probes failed each as soon as it was due."""
    breaker = tripped(Breaker(), failure(), monotonic=0.0, dice=dice)
    for _ in range(number):
        breaker = tripped(breaker, failure(), monotonic=breaker.probe_at, dice=dice)
    return breaker


def test_a_new_breaker_is_closed_and_needs_no_probe():
    breaker = Breaker()
    assert not breaker.is_open
    assert not breaker.allows_probe(1e9)
    assert breaker.probe_at == 0.0


def test_the_first_failure_opens_it_until_the_probe_is_due():
    breaker = tripped(Breaker(), failure(), monotonic=100.0, dice=0.0)
    assert breaker.is_open
    assert breaker.failure == failure()
    assert breaker.failures == 1
    assert breaker.probe_at == 101.0
    assert not breaker.allows_probe(100.999)
    assert breaker.allows_probe(101.0)
    assert breaker.allows_probe(102.0)


def test_transfers_that_were_running_when_it_opened_do_not_lengthen_the_wait():
    opened = tripped(Breaker(), failure(), monotonic=100.0, dice=0.5)
    breaker = opened
    for number in range(14):
        breaker = tripped(breaker, failure("timeout"), monotonic=100.0 + number / 100, dice=0.9)
    assert breaker == opened


def test_a_failed_probe_doubles_the_wait_and_shows_the_newer_failure():
    first = tripped(Breaker(), failure(), monotonic=0.0, dice=0.5)
    second = tripped(first, failure("expired-token"), monotonic=first.probe_at, dice=0.5)
    assert second.failures == 2
    assert second.failure == failure("expired-token")
    assert second.probe_at - first.probe_at == 2 * first.probe_at


def test_a_probe_that_fails_late_doubles_the_wait_too():
    first = tripped(Breaker(), failure(), monotonic=0.0, dice=0.5)
    assert tripped(first, failure(), monotonic=first.probe_at + 5.0, dice=0.5).failures == 2


def test_the_waits_grow_up_to_the_cap():
    probe_times = [after_failed_probes(n).probe_at for n in range(11)]
    waits = [b - a for a, b in zip([0.0, *probe_times], probe_times, strict=False)]
    assert waits == [1.5, 3, 6, 12, 24, 48, 96, 192, 225, 225, 225]


@given(st.integers(0, 80), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_at_least_half_its_step_and_never_above_the_cap(failed_probes, dice):
    before = after_failed_probes(failed_probes)
    breaker = tripped(before, failure(), monotonic=before.probe_at, dice=dice)
    wait = breaker.probe_at - before.probe_at
    step = min(PROBE_CAP_SECONDS, PROBE_BASE_SECONDS * 2 ** (failed_probes + 1))
    assert step / 2 <= wait + 1e-6
    assert wait <= step + 1e-6


def test_a_store_that_says_when_to_come_back_is_not_probed_before():
    breaker = tripped(Breaker(), failure(retry_after=900.0), monotonic=100.0, dice=0.5)
    assert breaker.probe_at == 1000.0


@pytest.mark.parametrize("nonsense", [1e12, float("inf")])
def test_no_store_can_keep_the_breaker_open_for_ever(nonsense):
    breaker = tripped(Breaker(), failure(retry_after=nonsense), monotonic=0.0, dice=0.5)
    assert breaker.probe_at == RETRY_AFTER_LIMIT_SECONDS


def test_a_senseless_wish_of_the_store_leaves_the_usual_wait():
    breaker = tripped(Breaker(), failure(retry_after=float("nan")), monotonic=0.0, dice=0.5)
    assert breaker.probe_at == 1.5


def test_after_success_the_next_trouble_begins_with_the_first_wait():
    assert after_failed_probes(9).failures == 10
    again = tripped(Breaker(), failure(), monotonic=5000.0, dice=0.5)
    assert again.probe_at == 5001.5


# --- odd failures -------------------------------------------------------------------------


def odd(retry_after=None):
    return Failure(
        scope=FailureScope.DESTINATION, error_class="server-error", message="503", odd=True,
        retry_after_seconds=retry_after,
    )  # fmt: skip


def met(breaker, *failures):
    for each in failures:
        breaker = tripped(breaker, each, monotonic=0.0, dice=0.5)
    return breaker


@pytest.mark.parametrize(
    ("before", "failures", "is_open"),
    [
        (PROVEN, [odd()], False),
        (PROVEN, [odd()] * 4, False),
        (PROVEN, [odd()] * 5, True),
        (replace(PROVEN, odd_in_a_row=6), [odd()], True),
        (PROVEN, [odd(), failure()], True),
        (PROVEN, [failure()], True),
        (PROVEN, [odd(retry_after=3.0)], True),
        (Breaker(), [odd()], True),
    ],
)
def test_an_odd_failure_among_successes_opens_nothing_but_several_in_a_row_do(
    before, failures, is_open
):
    assert met(before, *failures).is_open is is_open


def test_a_probe_that_meets_an_odd_failure_doubles_the_wait_like_any_other():
    opened = met(Breaker(), odd())
    again = tripped(opened, odd(), monotonic=opened.probe_at, dice=0.5)
    assert again.failures == 2
    assert again.probe_at - opened.probe_at == 2 * opened.probe_at


def test_a_store_that_asks_for_less_gets_half_and_grows_back():
    pace = slowed(Pace(), monotonic=100.0)
    assert pace.workers(16, 100.0) == 8
    assert slowed(pace, monotonic=100.5) == pace, "requests of one moment count once"
    pace = slowed(pace, monotonic=101.0)
    assert pace.workers(16, 101.0) == 4
    assert pace.workers(16, 131.0) == 12
    assert pace.workers(1600, 146.0) == 1600
    assert pace.workers(1600, 145.4) == 1597
    for second in range(20):
        pace = slowed(pace, monotonic=102.0 + 2 * second)
    assert pace.share == 0.0625
    assert pace.workers(15, pace.since) == 1, "it never stands still"


def test_a_new_pace_is_the_whole_one_and_the_clock_may_have_begun_just_now():
    assert Pace().share == 1.0
    assert Pace().workers(16, 0.0) == 16
    assert Pace(share=0.25, since=10.0).share_at(40.0) == 0.75


def test_a_file_is_to_blame_when_it_fails_again_and_again_and_the_others_don_t():
    suspicion = Suspicion()
    assert not blamed(suspicion, suspects=1)
    once = proven_once(suspicion)
    assert proven_once(once) == once, "one failure is proven once"
    twice = proven_once(replace(once, unproven=True))
    assert not blamed(once, suspects=1)
    assert blamed(twice, suspects=1)
    assert blamed(twice, suspects=0)
    assert not blamed(suspicion, suspects=0)
    assert not blamed(twice, suspects=2), "where many fail it takes more"
    assert blamed(Suspicion(proofs=3), suspects=1)
    assert blamed(Suspicion(proofs=6), suspects=3)
    assert not blamed(Suspicion(proofs=5), suspects=3)
