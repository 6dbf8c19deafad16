"""The estimate of how long a session still takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sensordrop.core.pace import HALF_LIFE_SECONDS, Pace, paced, remaining_seconds

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_a_steady_pace_is_what_was_measured():
    pace = Pace()
    for _ in range(20):
        pace = paced(pace, seconds=5, files=10, size_bytes=5000)
    assert pace.files_per_second == pytest.approx(2)
    assert pace.bytes_per_second == pytest.approx(1000)


def test_what_is_long_ago_is_forgotten():
    fast = paced(Pace(), seconds=600, files=60_000, size_bytes=0)
    slow = fast
    for _ in range(20):
        slow = paced(slow, seconds=HALF_LIFE_SECONDS, files=300, size_bytes=0)
    assert slow.files_per_second == pytest.approx(1, rel=0.01)


def test_a_standstill_puts_the_end_off():
    pace = paced(Pace(), seconds=60, files=60, size_bytes=60)
    stalled = paced(pace, seconds=60, files=0, size_bytes=0)
    before = remaining_seconds(pace, files=100, size_bytes=100, at=NOON, limits=())
    after = remaining_seconds(stalled, files=100, size_bytes=100, at=NOON, limits=())
    assert before == pytest.approx(100)
    assert after is not None
    assert after > 2 * before


def test_the_later_of_both_estimates_is_believed():
    pace = Pace(files_per_second=1, bytes_per_second=1000, seconds=60)
    assert remaining_seconds(pace, files=10, size_bytes=50_000, at=NOON, limits=()) == 50
    assert remaining_seconds(pace, files=90, size_bytes=50_000, at=NOON, limits=()) == 90


def test_nothing_left_takes_no_time_and_nothing_measured_gives_no_estimate():
    assert remaining_seconds(Pace(), files=0, size_bytes=0, at=NOON, limits=()) == 0
    assert remaining_seconds(Pace(), files=1, size_bytes=1, at=NOON, limits=()) is None
