"""A session ends only when nothing could be missing from it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from sensordrop.core.session import DeliveryActivity, why_open

DONE = DeliveryActivity(
    settling=0,
    hints_waiting=False,
    sweeping=False,
    sweep_wanted=False,
    last_sweep_complete=True,
    queued=0,
    last_activity=100.0,
)


def reason(activity, monotonic=1000.0):
    return why_open(activity, monotonic=monotonic, quiet_seconds=10.0)


def test_with_everything_done_and_quiet_it_may_end():
    assert reason(DONE) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queued": 1}, "1 file is not finished"),
        ({"queued": 12_661}, "12,661 files are not finished"),
        ({"settling": 1}, "1 file is still settling"),
        ({"settling": 3}, "3 files are still settling"),
        ({"hints_waiting": True}, "the watcher reported files that were not looked at yet"),
        ({"sweeping": True}, "a sweep is due or running"),
        ({"sweep_wanted": True}, "a sweep is due or running"),
        ({"last_sweep_complete": False}, "the last sweep was partial"),
        ({"last_activity": 995.0}, "the folder has not been quiet long enough"),
    ],
)
def test_each_thing_alone_keeps_it_open_and_is_named(change, words):
    assert reason(replace(DONE, **change)) == words


def test_it_may_end_exactly_when_the_quiet_time_is_over():
    assert reason(DONE, monotonic=109.999) is not None
    assert reason(DONE, monotonic=110.0) is None


def test_no_combination_ends_it_but_the_one_with_nothing_left():
    may_end = [
        values
        for values in product([0, 2], [False, True], [False, True], [False, True],
                              [False, True], [0, 5], [100.0, 995.0])
        if reason(DeliveryActivity(**dict(zip(
            ["settling", "hints_waiting", "sweeping", "sweep_wanted", "last_sweep_complete",
             "queued", "last_activity"], values, strict=True)))) is None
    ]  # fmt: skip
    assert may_end == [(0, False, False, False, True, 0, 100.0)]


def test_the_files_are_named_before_the_waiting():
    busy = replace(DONE, queued=5, settling=2, sweeping=True, last_sweep_complete=False)
    assert reason(busy) == "5 files are not finished"
