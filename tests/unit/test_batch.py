"""When a run by hand is over, what its line says, and under which name it goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sensordrop.core.batch import (
    PATIENCE_SECONDS,
    SPEED_SECONDS,
    TELL_SECONDS,
    Figures,
    Rounds,
    RunEnd,
    RunView,
    Speedometer,
    Target,
    delivery_name,
    progress_line,
    same_delivery,
    time_left,
    why_ended,
)
from sensordrop.core.story import DeliveryPlace

AT_WORK = RunView(
    session_ended=False, swept=True, sweeping=False, sweep_problem=None, settling=0,
    unfinished=True, all_held=False, paused=None, offline=None, blocked=None, state=None,
    trouble_seconds=0.0,
)  # fmt: skip
HERE = Target(local_directory="/card", endpoint_url="", bucket_name="highlands", s3_prefix="C2")


@pytest.mark.parametrize(
    ("seen", "ended"),
    [
        ({}, None),
        ({"session_ended": True}, RunEnd.DONE),
        ({"session_ended": True, "untold_seconds": 1.0}, None),
        ({"session_ended": True, "untold_seconds": TELL_SECONDS}, RunEnd.DONE),
        ({"unfinished": False}, None),  # whoever ends the session is about to
        ({"unfinished": False, "sweep_problem": "no access"}, RunEnd.PARTIAL),
        ({"unfinished": False, "sweep_problem": "no access", "settling": 1}, None),
        ({"sweep_problem": "no access"}, None),  # what it did find is stored first
        ({"all_held": True}, RunEnd.MISSING),
        ({"all_held": True, "sweeping": True}, None),
        ({"all_held": True, "swept": False}, None),
        ({"paused": "by ann"}, RunEnd.PAUSED),
        ({"offline": "not there", "swept": False}, RunEnd.OFFLINE),
        ({"offline": "not there", "trouble_seconds": PATIENCE_SECONDS - 1}, None),
        ({"offline": "not there", "trouble_seconds": PATIENCE_SECONDS}, RunEnd.OFFLINE),
        ({"blocked": "no route", "trouble_seconds": PATIENCE_SECONDS - 1}, None),
        ({"blocked": "no route", "trouble_seconds": PATIENCE_SECONDS}, RunEnd.BLOCKED),
        ({"session_ended": True, "paused": "by ann"}, RunEnd.DONE),
    ],
)
def test_when_a_run_is_over(seen: dict[str, Any], ended: RunEnd | None):
    found = why_ended(replace(AT_WORK, **seen))
    assert (None if found is None else found.how) == ended
    if found is not None and found.how is not RunEnd.DONE:
        assert found.words, "whoever reads it is told why"


def test_the_line_has_exactly_the_figures_of_the_old_tool():
    figures = Figures(
        total=301_575, uploaded=243_436, skipped=0, failed=12_661,
        bytes_uploaded=2_128_240_000_000, files_per_second=0.603,
    )  # fmt: skip
    assert progress_line(figures) == (
        "| 84.9% | Uploaded: 256,097/301,575 | Skipped: 0 | Size: 2128.24 GB "
        "| Successful: 243,436 | Failed: 12,661 | Speed: 0.6 files/s | ETA: 20:57"
    )


@pytest.mark.parametrize(
    ("total", "finished", "speed", "eta"),
    [
        (10, 10, 0.0, "00:00"),
        (10, 0, 0.0, "--:--"),
        (10, 9, 100.0, "00:01"),  # never said to be over before it is
        (7_200, 0, 2.0, "01:00"),
        (1_000_000, 0, 1.0, "277:47"),
        (0, 0, 0.0, "00:00"),
    ],
)
def test_how_long_it_still_takes_is_hours_and_minutes(total, finished, speed, eta):
    figures = Figures(
        total=total, uploaded=finished, skipped=0, failed=0, bytes_uploaded=0,
        files_per_second=speed,
    )  # fmt: skip
    assert time_left(figures) == eta


def test_a_hundred_percent_is_said_when_nothing_is_left():
    one_left = Figures(total=100_000, uploaded=99_999, skipped=0, failed=0, bytes_uploaded=0)
    assert "| 99.9% |" in progress_line(one_left)


def test_the_speed_is_that_of_the_last_minute():
    speed = Speedometer()
    assert speed.note(0.0, 1_000) == 0.0, "what was finished before the run is not its speed"
    assert speed.note(10.0, 1_100) == 10.0
    for second in range(11, 10 + 2 * int(SPEED_SECONDS)):
        last = speed.note(float(second), 1_100)
    assert last == 0.0, "nothing was finished for a minute"


def place(name: str, target: Target) -> DeliveryPlace:
    return DeliveryPlace(
        delivery_id=1, name=name, station="north", local_directory=target.local_directory,
        endpoint_url=target.endpoint_url, bucket_name=target.bucket_name,
        s3_prefix=target.s3_prefix, enabled=True, state=None, reason=None,
        last_sweep_ended_at=None, last_sweep_complete=None, last_complete_sweep_at=None,
        session_id=None, quiet_seconds=None, daemon_alive=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ([], "config"),
        ([place("north", HERE)], "north"),  # the same work under another file's name
        ([place("config", replace(HERE, s3_prefix="C1"))], "config-abcdef"),
        ([place("config", replace(HERE, local_directory="/other"))], "config-abcdef"),
        ([place("north", replace(HERE, bucket_name="lowlands"))], "config"),
    ],
)
def test_a_run_never_takes_over_another_delivery(known, name):
    assert delivery_name("config", HERE, known, digest="abcdef123456") == name
    assert (same_delivery(HERE, known) is not None) == (name == "north")


def test_rounds_wait_longer_and_longer_and_end():
    rounds = Rounds(most=4, wait_seconds=60.0, cap_seconds=200.0)
    assert [rounds.wait_before(n) for n in range(1, 6)] == [60.0, 120.0, 200.0, 200.0, None]
