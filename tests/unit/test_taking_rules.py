"""The rules of taking files away, as tables."""

from __future__ import annotations

import pytest

from sensordrop.adapters.taking import FolderTaking
from sensordrop.composition import make_delivery
from sensordrop.config.models import DeliveryConfig
from sensordrop.core.taking import (
    LONGEST_WAIT_SECONDS,
    TakingOutcome,
    Traces,
    Wish,
    WishKind,
    conflict_name,
    is_whole_below,
    must_be_read,
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
    [("", 0, True), ("", 1, False), ("S", 1, True), ("S", 2, False), ("S/T", 2, True)],
)
def test_a_folder_of_files_goes_down_to_the_sensors(folder, level, whole):
    assert is_whole_below(folder, level) is whole


def test_waits_double_up_to_a_day():
    waits = [wait_seconds(n) for n in range(1, 8)]
    assert waits[:3] == [3600, 7200, 14400]
    assert waits[-1] == wait_seconds(10**9) == LONGEST_WAIT_SECONDS


def test_a_name_that_is_taken_in_the_target_gets_the_name_of_a_conflict():
    assert conflict_name(b"a.b.wav", bytes(32)) == b"a.b~0000000000000000.wav"
    assert conflict_name(b"\xff.wav", bytes(32)) == b"\xff~0000000000000000.wav"


@pytest.mark.parametrize(
    ("wish", "by_hand", "can_take"),
    [("keep", False, False), ("delete", False, True), ("delete", True, False)],
)
def test_only_a_daemon_whose_delivery_asks_for_it_has_anything_that_could_remove_a_file(
    tmp_path, wish, by_hand, can_take
):
    config = DeliveryConfig(
        name="n", local_directory=str(tmp_path), bucket_name="bucket", after_verified=wish
    )
    made = make_delivery(config, 1, by_hand=by_hand)
    assert (made.settings.taking is not None) is can_take


def test_nothing_that_removes_files_can_be_made_for_who_keeps_them(tmp_path):
    with pytest.raises(AssertionError):
        FolderTaking(str(tmp_path), wish_of("keep"))
