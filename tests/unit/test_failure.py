"""Failures carry what a decision needs, and waits that can be kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensordrop.core.failure import (
    RETRY_AFTER_LIMIT_SECONDS,
    Failure,
    FailureError,
    FailureScope,
)


def failure(retry_after=None):
    return Failure(
        scope=FailureScope.DESTINATION,
        error_class="connect",
        message="connect to s3.example.org:443: refused",
        retry_after_seconds=retry_after,
    )


def test_an_error_tells_its_failures_message_and_carries_it():
    error = FailureError(failure())
    assert str(error) == "connect to s3.example.org:443: refused"
    assert error.failure == failure()


def test_a_failure_is_passing_and_everybodys_unless_it_says_otherwise():
    plain = failure()
    assert (plain.permanent, plain.odd, plain.slow) == (False, False, False)
    assert (plain.hint, plain.retry_after_seconds) == ("", None)


@pytest.mark.parametrize(
    ("read", "given_seconds"),
    [
        (None, 0.0),
        (0.0, 0.0),
        (-5.0, 0.0),
        (math.nan, 0.0),
        (-math.inf, 0.0),
        (0.25, 0.25),
        (120.0, 120.0),
        (RETRY_AFTER_LIMIT_SECONDS, RETRY_AFTER_LIMIT_SECONDS),
        (RETRY_AFTER_LIMIT_SECONDS + 1, RETRY_AFTER_LIMIT_SECONDS),
        (math.inf, RETRY_AFTER_LIMIT_SECONDS),
    ],
)
def test_the_wait_that_a_store_asks_for_has_a_limit(read, given_seconds):
    assert failure(read).wait_asked_for == given_seconds


@given(st.floats())
def test_whatever_a_store_asks_for_is_a_wait_that_can_be_computed(read):
    assert 0 <= failure(read).wait_asked_for <= RETRY_AFTER_LIMIT_SECONDS


def test_no_store_is_waited_for_longer_than_an_hour():
    assert RETRY_AFTER_LIMIT_SECONDS == 3600
