"""The audit's pace: a share of all stored objects in a day."""

from __future__ import annotations

import pytest

from sensordrop.core.audit import (
    DAY_SECONDS,
    LONGEST_WAIT_SECONDS,
    SHORTEST_WAIT_SECONDS,
    allowance,
    seconds_of,
    wait_seconds,
)


@pytest.mark.parametrize(
    ("days", "stored", "share", "allowed"),
    [
        (1.0, 1_000, 0.01, 10.0),
        (0.5, 1_000, 0.01, 5.0),
        (30.0, 1_000, 0.01, 10.0),  # a daemon that was down for a month makes up for a day
        (1.0, 1_000, 1.0, 1_000.0),
        (1.0, 0, 0.01, 0.0),
        (-1.0, 1_000, 0.01, 0.0),  # the database's clock was set back
    ],
)
def test_what_is_allowed_grows_with_time_up_to_a_days_share(days, stored, share, allowed):
    found = allowance(elapsed_seconds=days * DAY_SECONDS, stored=stored, share_per_day=share)
    assert found == pytest.approx(allowed)


def test_looking_uses_up_the_time_that_allowed_it():
    used = seconds_of(10, stored=1_000, share_per_day=0.01)
    assert used == pytest.approx(DAY_SECONDS)
    assert allowance(elapsed_seconds=used, stored=1_000, share_per_day=0.01) == pytest.approx(10)


def test_the_wait_is_that_for_one_more_object_within_bounds():
    each = DAY_SECONDS / 20_000
    assert wait_seconds(0.25, stored=2_000_000, share_per_day=0.01) == pytest.approx(0.75 * each)
    assert wait_seconds(0.0, stored=5, share_per_day=0.01) == LONGEST_WAIT_SECONDS
    assert wait_seconds(0.0, stored=0, share_per_day=0.01) == LONGEST_WAIT_SECONDS
    assert wait_seconds(0.999, stored=50_000_000, share_per_day=1.0) == SHORTEST_WAIT_SECONDS
