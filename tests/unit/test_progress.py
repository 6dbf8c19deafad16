"""When a session ends, with and without limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sensordrop.core.bandwidth import Limit
from sensordrop.core.progress import SessionProgress, seconds_left
from sensordrop.core.timetable import parse_timetable

MIB = 1024 * 1024
NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
HOUR = 3600.0
RUNNING = SessionProgress(
    total=1000, uploaded=300, skipped=80, failed=20, bytes=1000 * MIB, files_left=600,
    bytes_left=3600 * MIB, files_per_second=2.0, bytes_per_second=1.0 * MIB,
)  # fmt: skip


def limit(text: str) -> Limit:
    return Limit(timetable=parse_timetable(text), zone=UTC)


@pytest.mark.parametrize(
    ("changes", "limits", "seconds"),
    [
        ({}, [], HOUR),
        ({}, ["off"], HOUR),
        ({"bytes_per_second": 2.0 * MIB}, [], HOUR / 2),
        ({"files_left": 0, "bytes_left": 0}, [], 0.0),
        ({"bytes_per_second": 0.0, "files_per_second": 0.0}, [], None),
        # Only empty files are left: their number tells.
        ({"bytes_left": 0}, [], 300.0),
        ({"bytes_left": 0, "files_per_second": 0.0}, [], None),
        ({"bytes_left": 0, "files_per_second": 1e-9}, [], None),
        # A limit that begins later: half an hour at 1 MiB/s, the other half at a quarter of it.
        ({}, ["12:30-20:00 256 KiB/s, else full"], 1800 + 4 * 1800),
        # The same, of the station beside one of the delivery: the smaller holds.
        ({}, ["12:30-20:00 256 KiB/s, else full", "2 MiB/s"], 1800 + 4 * 1800),
        # It is the limit that holds uploads up now, and it ends at half past twelve. How fast it
        # goes then is known from the fastest hour of late, or else taken to be the same.
        ({"best_bytes_per_second": 3.0 * MIB}, ["20:00-12:30 1 MiB/s, else full"], 1800 + 600),
        ({}, ["20:00-12:30 1 MiB/s, else full"], HOUR),
        # The line itself is slow, so that a limit ends changes nothing.
        ({"best_bytes_per_second": 9.0 * MIB}, ["20:00-12:30 2 MiB/s, else full"], HOUR),
        # No limit holds, so what it was like on other days does not count.
        ({"best_bytes_per_second": 9.0 * MIB}, [], HOUR),
        ({"bytes_left": 10**18}, [], None),
    ],
)
def test_the_time_that_is_left_follows_speed_and_timetables(changes, limits, seconds):
    progress = replace(RUNNING, **changes)
    found = seconds_left(progress, at=NOON, limits=[limit(text) for text in limits])
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_the_share_is_that_of_finished_files():
    assert RUNNING.share == pytest.approx(0.4)
    assert replace(RUNNING, total=0, files_left=0).share == 0
