"""What follows from an attempt: the whole retry policy, outcome by outcome."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensordrop.core.failure import RETRY_AFTER_LIMIT_SECONDS, Failure, FailureScope
from sensordrop.core.lifecycle import (
    Action,
    AlreadyStored,
    Failed,
    FolderOffline,
    GiveBack,
    Gone,
    Interrupted,
    Outcome,
    Quarantine,
    RecordSkipped,
    RecordUploaded,
    RestorePredecessor,
    Retry,
    RetryPolicy,
    SameAsBefore,
    Stored,
    Unsettled,
    Wait,
    backoff_seconds,
    longest_wait_seconds,
    plan,
    wants_a_human,
)
from sensordrop.core.model import Claim, Fingerprint, Receipt

NOW = datetime(2025, 11, 21, 12, tzinfo=UTC)
RECEIPT = Receipt(object_key="C2/950349/a.wav", sha256=bytes(32))
GROWN = Fingerprint(size_bytes=2, mtime_ns=2, ctime_ns=2)
OTHER_SCOPES = [scope for scope in FailureScope if scope is not FailureScope.FILE]


def claim(attempts=0):
    return Claim(
        upload_id=7,
        delivery_id=1,
        path=b"950349/a.wav",
        path_text="950349/a.wav",
        fingerprint=Fingerprint(size_bytes=1, mtime_ns=1, ctime_ns=1),
        claim_number=1,
        attempts=attempts,
        crashes=0,
    )


def failure(scope=FailureScope.FILE, *, permanent=False, retry_after=None):
    return Failure(
        scope=scope,
        error_class="slow-down",
        message="PUT C2/950349/a.wav: 503",
        permanent=permanent,
        retry_after_seconds=retry_after,
    )


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def decide(outcome, *, attempts=0, dice=0.5, **policy):
    return plan(claim(attempts), outcome, now=NOW, policy=RetryPolicy(**policy), dice=dice)


PAUSES = [
    (Failed(failure=failure(scope, permanent=permanent)), scope, permanent)
    for scope in OTHER_SCOPES
    for permanent in (False, True)
]

ALWAYS_THE_SAME = [
    (Stored(receipt=RECEIPT), RecordUploaded(receipt=RECEIPT)),
    (
        AlreadyStored(receipt=RECEIPT, evidence="the same SHA-256 is in the object's metadata"),
        RecordSkipped(receipt=RECEIPT, evidence="the same SHA-256 is in the object's metadata"),
    ),
    (SameAsBefore(), RestorePredecessor()),
    (Unsettled(fingerprint=GROWN, why="written"), Wait(fingerprint=GROWN, until=after(20))),
    (FolderOffline(), GiveBack(until=after(20))),
    (Gone(), GiveBack(until=after(60))),
    (Interrupted(), GiveBack(until=None)),
    *[(outcome, GiveBack(until=NOW, failure=outcome.failure)) for outcome, _, _ in PAUSES],
    (
        Failed(failure=failure(permanent=True)),
        Quarantine(failure=failure(permanent=True)),
    ),
]


@pytest.mark.parametrize("times_to_retry", [0, 1, 3])
@pytest.mark.parametrize("attempts", range(6))
@pytest.mark.parametrize(("outcome", "action"), ALWAYS_THE_SAME)
def test_these_outcomes_lead_to_one_action_whatever_was_tried_before(
    outcome, action, attempts, times_to_retry
):
    decided = decide(outcome, attempts=attempts, times_to_retry=times_to_retry, quiet_seconds=20.0)
    assert decided == action


def test_every_outcome_is_in_the_table():
    told = {type(outcome) for outcome, _ in ALWAYS_THE_SAME}
    assert told == set(get_args(Outcome))
    assert {type(action) for _, action in ALWAYS_THE_SAME} | {Retry} == set(get_args(Action))


@pytest.mark.parametrize(
    ("times_to_retry", "attempts", "expected"),
    [
        (0, 0, Quarantine),
        (0, 1, Quarantine),
        (1, 0, Retry),
        (1, 1, Quarantine),
        (1, 2, Quarantine),
        (3, 0, Retry),
        (3, 1, Retry),
        (3, 2, Retry),
        (3, 3, Quarantine),
        (3, 4, Quarantine),
    ],
)
def test_a_passing_failure_of_a_file_uses_up_its_attempts(times_to_retry, attempts, expected):
    decided = decide(Failed(failure=failure()), attempts=attempts, times_to_retry=times_to_retry)
    assert type(decided) is expected
    assert decided.failure == failure()


@pytest.mark.parametrize(("times_to_retry", "tries"), [(0, 1), (1, 2), (3, 4)])
def test_times_to_retry_counts_the_tries_after_the_first(times_to_retry, tries):
    attempts = 0
    while isinstance(
        decide(Failed(failure=failure()), attempts=attempts, times_to_retry=times_to_retry), Retry
    ):
        attempts += 1  # as the ledger does when it writes a retry down
    assert attempts + 1 == tries


def test_only_a_failure_of_the_file_itself_uses_up_an_attempt():
    for outcome, _ in ALWAYS_THE_SAME:
        assert not isinstance(decide(outcome), Retry)
    for outcome, scope, permanent in PAUSES:
        decided = decide(outcome, attempts=99, times_to_retry=0)
        assert isinstance(decided, GiveBack), (scope, permanent)


def test_after_trouble_of_the_store_a_file_goes_behind_those_never_tried():
    # Otherwise the one file that upsets the store would be every probe of the breaker.
    decided = decide(Failed(failure=failure(FailureScope.DESTINATION)))
    assert decided.until == NOW


@pytest.mark.parametrize(
    ("dice", "seconds"), [(0.0, 1.0), (0.25, 1.25), (0.5, 1.5), (0.8, 1.8), (0.99, 1.99)]
)
@pytest.mark.parametrize("scope", OTHER_SCOPES)
def test_after_an_odd_failure_a_file_rests_a_second_or_two(scope, dice, seconds):
    # The others show meanwhile whether it was the store's trouble or this one request's.
    odd = replace(failure(scope), odd=True)
    decided = decide(Failed(failure=odd), attempts=99, dice=dice, times_to_retry=0)
    assert decided == GiveBack(until=after(seconds), failure=odd)


@pytest.mark.parametrize(
    ("pause_after_failures", "failed_files", "wanted"),
    [
        (5, 0, False),
        (5, 4, False),
        (5, 5, True),
        (5, 6, True),
        (1, 0, False),
        (1, 1, True),
        (0, 0, False),
        (0, 1_000, False),
        (-1, 1_000, False),
    ],
)
def test_a_delivery_is_paused_when_so_many_files_failed(pause_after_failures, failed_files, wanted):
    policy = RetryPolicy(pause_after_failures=pause_after_failures)
    assert wants_a_human(failed_files, policy) is wanted


def test_the_waits_double_from_the_configured_delay_up_to_the_cap():
    waits = [
        decide(
            Failed(failure=failure()),
            attempts=attempts,
            dice=0.5,
            times_to_retry=99,
            retry_delay_seconds=4.0,
            retry_cap_seconds=30.0,
        ).until
        - NOW
        for attempts in range(6)
    ]
    assert [wait.total_seconds() for wait in waits] == [2, 4, 8, 15, 15, 15]


def test_a_store_that_says_when_to_come_back_is_obeyed():
    outcome = Failed(failure=failure(retry_after=120.0))
    assert decide(outcome).until == after(120)


def test_a_store_that_asks_for_less_than_our_own_wait_does_not_shorten_it():
    outcome = Failed(failure=failure(retry_after=1.0))
    decided = decide(outcome, attempts=2, times_to_retry=9, retry_delay_seconds=8.0)
    assert decided.until == after(16)


@pytest.mark.parametrize("nonsense", [1e15, 1e300, float("inf")])
def test_a_store_that_asks_for_ever_is_asked_again_within_the_limit(nonsense):
    assert decide(Failed(failure=failure(retry_after=nonsense))).until == after(
        RETRY_AFTER_LIMIT_SECONDS
    )


@pytest.mark.parametrize("nonsense", [0.0, -1.0, -1e300, float("-inf"), float("nan")])
def test_a_senseless_wish_of_the_store_leaves_our_own_wait(nonsense):
    assert decide(Failed(failure=failure(retry_after=nonsense))).until == after(2.5)


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [({}, 3600), ({"retry_cap_seconds": 3601.0}, 3601), ({"quiet_seconds": 7200.0}, 7200)],
)
def test_no_file_waits_longer_than_the_longest_of_its_waits(policy, seconds):
    assert longest_wait_seconds(RetryPolicy(**policy)) == seconds
    asked = Failed(failure=failure(retry_after=1e15))
    late = Failed(failure=failure())
    written = Unsettled(fingerprint=GROWN, why="written")
    for outcome in (asked, late, written, Gone(), FolderOffline()):
        decided = decide(outcome, attempts=50, dice=0.999, times_to_retry=99, **policy)
        assert decided.until <= after(seconds)


dices = st.floats(0, 1, exclude_max=True)
bases = st.floats(0, 1e6).filter(lambda base: base == 0 or base > 1e-300)
"""Seconds. Numbers so small that halving one loses digits are no times that anybody waits."""


@given(st.integers(1, 100_000), bases, st.floats(0, 1e6), dices)
def test_a_wait_is_never_negative_and_never_above_cap_or_step(failures, base, cap, dice):
    wait = backoff_seconds(failures, base=base, cap=cap, dice=dice)
    assert 0 <= wait <= cap
    if failures == 1:
        assert wait <= base


@given(st.integers(1, 200), bases, st.floats(0, 1e6), st.tuples(dices, dices))
def test_a_higher_dice_never_waits_less(failures, base, cap, two):
    low, high = sorted(two)
    assert backoff_seconds(failures, base=base, cap=cap, dice=low) <= backoff_seconds(
        failures, base=base, cap=cap, dice=high
    )


@given(st.integers(1, 200), bases, st.floats(0, 1e6), dices)
def test_one_more_failure_never_waits_less_and_at_most_doubles(failures, base, cap, dice):
    before = backoff_seconds(failures, base=base, cap=cap, dice=dice)
    then = backoff_seconds(failures + 1, base=base, cap=cap, dice=dice)
    assert before <= then <= 2 * before


def test_the_wait_reaches_its_cap():
    assert backoff_seconds(60, base=5, cap=3600, dice=0.999) == pytest.approx(3600 * 0.999)
    assert backoff_seconds(10**9, base=5, cap=3600, dice=0.5) == 1800


def test_the_policy_without_settings_is_that_of_the_documentation():
    assert RetryPolicy() == RetryPolicy(
        times_to_retry=3,
        retry_delay_seconds=5,
        retry_cap_seconds=3600,
        quiet_seconds=10,
        pause_after_failures=5,
    )
