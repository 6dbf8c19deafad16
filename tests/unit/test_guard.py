"""When a folder is believed, and when its files are."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sensordrop.core.guard import (
    VANISH_FLOOR,
    RootKnown,
    RootSeen,
    RootVerdict,
    VanishRule,
    is_held,
    judge_root,
)

CARD, OTHER_CARD, UNNAMED = "vfat 1234-ABCD", "vfat 5678-EF01", ""


def known(**changes) -> RootKnown:
    usual = {"device": 7, "filesystem": CARD, "files_wait": False, "accepted": False}
    return RootKnown(**{**usual, **changes})


THERE = RootVerdict()
EXCHANGED = RootVerdict(exchanged=True)


@pytest.mark.parametrize(
    ("seen", "before", "verdict"),
    [
        # The same as ever, whatever is in it.
        (RootSeen(device=7), known(), THERE),
        (RootSeen(device=7), known(files_wait=True), THERE),
        # The first start ever.
        (
            RootSeen(looked_up=True, device=7, filesystem=CARD),
            known(device=None, filesystem=""),
            THERE,
        ),
        (
            RootSeen(looked_up=True, device=7, empty=True, filesystem=CARD),
            known(device=None, filesystem=""),
            THERE,
        ),
        # The same disk after a restart, or in another slot.
        (RootSeen(looked_up=True, device=7, filesystem=CARD), known(device=None), THERE),
        (RootSeen(looked_up=True, device=9, filesystem=CARD), known(), THERE),
        (RootSeen(looked_up=True, device=9, empty=True, filesystem=CARD), known(), THERE),
        (RootSeen(looked_up=True, device=7, empty=True, filesystem=CARD), known(), THERE),
        (RootSeen(looked_up=True, device=7, empty=True, filesystem=UNNAMED), known(), THERE),
        # Another disk with files on it, also in the same slot.
        (RootSeen(looked_up=True, device=7, filesystem=OTHER_CARD), known(), EXCHANGED),
        (
            RootSeen(looked_up=True, device=7, filesystem=CARD),
            known(filesystem=OTHER_CARD),
            EXCHANGED,
        ),
        # Each look reads the disk's name anew: it is its letters that are compared.
        (RootSeen(looked_up=True, device=7, filesystem="".join([*CARD])), known(), THERE),
        # A disk that had a name and has none is the same one while it has its number.
        (RootSeen(looked_up=True, device=7, filesystem=UNNAMED), known(), THERE),
        (RootSeen(looked_up=True, device=7, filesystem=CARD), known(filesystem=UNNAMED), THERE),
        (RootSeen(looked_up=True, device=9, filesystem=CARD), known(filesystem=""), EXCHANGED),
        (RootSeen(looked_up=True, device=9, filesystem=OTHER_CARD), known(), EXCHANGED),
        (RootSeen(looked_up=True, device=7, filesystem=OTHER_CARD), known(device=None), EXCHANGED),
        (RootSeen(looked_up=True, device=9, filesystem=UNNAMED), known(), EXCHANGED),
        (RootSeen(looked_up=True, device=9, filesystem=UNNAMED), known(device=None), THERE),
        # Somebody said that what is gone is gone.
        (
            RootSeen(looked_up=True, device=9, empty=True, filesystem=OTHER_CARD),
            known(accepted=True),
            EXCHANGED,
        ),
        (
            RootSeen(looked_up=True, device=7, empty=True, filesystem=CARD),
            known(device=None, files_wait=True, accepted=True),
            THERE,
        ),
    ],
)
def test_a_folder_is_believed(seen, before, verdict):
    assert judge_root(seen, before) == verdict


@pytest.mark.parametrize(
    ("seen", "before", "words"),
    [
        (RootSeen(device=None), known(), "missing"),
        (RootSeen(device=None), known(accepted=True), "missing"),
        (
            RootSeen(looked_up=True, device=9, empty=True, filesystem=OTHER_CARD),
            known(),
            "another file system",
        ),
        (
            RootSeen(looked_up=True, device=9, empty=True, filesystem=UNNAMED),
            known(),
            "another file system",
        ),
        # The disk is not mounted when the daemon starts: only the ledger knows of it.
        (
            RootSeen(looked_up=True, device=7, empty=True, filesystem="ext4 root"),
            known(device=None),
            "another file system",
        ),
        (
            RootSeen(looked_up=True, device=7, empty=True, filesystem=CARD),
            known(device=None, files_wait=True),
            "files of it wait",
        ),
    ],
)
def test_a_folder_is_offline(seen, before, words):
    verdict = judge_root(seen, before)
    assert verdict.offline is not None
    assert words in verdict.offline


@pytest.mark.parametrize(
    ("missing", "waiting", "rule", "lets"),
    [
        (19, 19, {"share": 0.0}, True),
        (20, 20, {"share": 0.0}, False),
        (0, 100, {"share": 0.0}, True),
        (49, 100, {"share": 0.5}, True),
        (VANISH_FLOOR - 1, VANISH_FLOOR - 1, {"share": 0.0}, True),
        (VANISH_FLOOR, VANISH_FLOOR, {"share": 0.5}, False),
        (50, 100, {"share": 0.5}, True),
        (51, 100, {"share": 0.5}, False),
        (100, 100, {"share": 1.0}, True),
        (100, 100, {"share": 0.5, "confirmed": True}, True),
        (1, 100, {"share": 1.0, "exchanged": True}, False),
        (1, 100, {"share": 0.0, "exchanged": True, "confirmed": True}, True),
    ],
)
def test_when_missing_files_are_gone(missing, waiting, rule, lets):
    assert VanishRule(**rule).lets_vanish(missing, waiting) is lets


@pytest.mark.parametrize(
    ("next_at", "held"),
    [
        (None, False),
        (datetime(2025, 11, 21, tzinfo=UTC), False),
        (datetime(9998, 12, 31, tzinfo=UTC), False),
        (datetime(9999, 1, 1, tzinfo=UTC), True),
        (datetime(9999, 12, 31, tzinfo=UTC), True),
    ],
)
def test_a_missing_file_is_held_that_is_tried_again_at_the_end_of_time(next_at, held):
    assert is_held(next_at) is held


def test_a_look_that_saw_nothing_but_the_folder_says_nothing_else_of_it():
    assert RootSeen(device=7) == RootSeen(
        device=7, looked_up=False, empty=False, filesystem="", remote=False
    )
