"""The rules of taking files away, as tables."""

from __future__ import annotations

import pytest

from sensordrop.core.taking import (
    ARRIVING,
    ASIDE,
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    TakingOutcome,
    Traces,
    Wish,
    WishKind,
    conflict_name,
    is_whole_below,
    must_be_read,
    name_of_ours,
    wait_seconds,
    what_became,
    wish_of,
)
from sensordrop.core.verification import CheckResult, Finding


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("keep", Wish(kind=WishKind.KEEP)),
        ("delete", Wish(kind=WishKind.DELETE)),
        ("move:/srv/a:b", Wish(kind=WishKind.MOVE, target="/srv/a:b")),
    ],
)
def test_the_wish_is_read_as_it_was_checked(text, wish):
    assert wish_of(text) == wish


@pytest.mark.parametrize(
    ("kind", "traces", "outcome"),
    [
        ("delete", Traces(in_place=False), "taken"),
        ("delete", Traces(in_place=True), "left"),
        ("delete", Traces(in_place=True, aside=True), "left"),
        ("move", Traces(in_place=False, moved_to="S/a.wav"), "taken"),
        ("move", Traces(in_place=True, moved_to="S/a.wav"), "left"),
        ("move", Traces(in_place=False), "missing"),
    ],
)
def test_what_was_broken_off_is_told_by_what_is_found(kind, traces, outcome):
    became = what_became(WishKind(kind), traces)
    assert became.outcome is TakingOutcome(outcome)
    assert became.reason
    assert became.moved_to == (traces.moved_to if outcome == "taken" else None)


@pytest.mark.parametrize(
    ("result", "proven", "read"),
    [
        (CheckResult.SAME, True, False),
        (CheckResult.SAME, False, True),
        (CheckResult.DIFFERENT, True, True),
        (None, True, True),
        (CheckResult.MISSING, False, False),
    ],
)
def test_bytes_are_read_wherever_a_look_proves_nothing(result, proven, read):
    assert must_be_read(Finding(result=result), proven=proven) is read


@pytest.mark.parametrize(
    ("folder", "level", "whole"),
    [
        ("", 0, True),
        ("", 1, False),
        ("S", 1, True),
        ("S", 2, False),
        ("S/T", 2, True),
        ("S", 0, False),
        ("S/T", 1, False),
        ("/".join("abcdefghijklmnopqrstuvwxyz" * 10), 260, True),
    ],
)
def test_a_folder_of_files_goes_down_to_the_sensors(folder, level, whole):
    assert is_whole_below(folder, level) is whole


@pytest.mark.parametrize("begin", [ASIDE, ARRIVING])
def test_a_name_of_ours_tells_the_record_and_the_content(begin):
    assert name_of_ours(begin, 12, bytes(range(32))) == begin + b"12-0001020304050607"


def test_waits_double_up_to_a_day():
    assert (FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS) == (3_600, 86_400)
    waits = [wait_seconds(n) for n in range(1, 8)]
    assert waits[:3] == [3600, 7200, 14400]
    assert wait_seconds(0) == FIRST_WAIT_SECONDS
    assert waits[-1] == wait_seconds(10**9) == LONGEST_WAIT_SECONDS


def test_a_name_that_is_taken_in_the_target_gets_the_name_of_a_conflict():
    assert conflict_name(b"a.b.wav", bytes(32)) == b"a.b~0000000000000000.wav"
    assert conflict_name(b"\xff.wav", bytes(32)) == b"\xff~0000000000000000.wav"
