"""What an overview says of a season: what is open, and which sensor has which days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from sensordrop.core.season import (
    DAILY_COLUMNS,
    LONGEST_DAYS,
    Amount,
    Level,
    OpenKind,
    Standing,
    Weight,
    busiest_span,
    coverage,
    open_things,
)

NOW = datetime(2026, 6, 20, 12, 0, tzinfo=UTC)
MAY = date(2026, 5, 1)


def standing(**changes) -> Standing:
    facts = {
        "client": "acme", "project": "birds", "cycle": "C2", "delivery": "highlands",
        "station": "hut", "bucket": "birds", "state": "watching", "reason": None,
        "daemon_alive": True, "stored_files": 100, "stored_bytes": 1000, "waiting_files": 0,
        "waiting_bytes": 0, "settling_files": 0, "failed_files": 0, "failed_bytes": 0,
        "mismatched_objects": 0, "last_success_at": NOW, "last_complete_sweep_at": NOW,
        "last_sweep_problem": None, "files_per_second": None, "eta": None,
    }  # fmt: skip
    return Standing(**{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, []),
        ({"stored_files": 0}, []),
        ({"waiting_files": 1}, [OpenKind.WAITING]),
        ({"settling_files": 1}, [OpenKind.SETTLING]),
        ({"failed_files": 1, "waiting_files": 1}, [OpenKind.FAILED, OpenKind.WAITING]),
        ({"mismatched_objects": 1}, [OpenKind.MISMATCHED]),
        ({"daemon_alive": False}, [OpenKind.UNSEEN]),
        ({"daemon_alive": False, "state": "offline"}, [OpenKind.UNSEEN]),
        ({"state": "offline", "reason": "no such folder"}, [OpenKind.STOPPED]),
        ({"state": "blocked"}, [OpenKind.STOPPED]),
        ({"state": "paused", "waiting_files": 3}, [OpenKind.STOPPED, OpenKind.WAITING]),
        ({"state": "sweeping"}, []),
        ({"last_complete_sweep_at": None}, [OpenKind.UNSEEN]),
        ({"last_sweep_problem": "Permission denied"}, [OpenKind.UNSEEN]),
        ({"state": "disabled", "daemon_alive": False}, []),
        ({"state": "disabled", "daemon_alive": False, "failed_files": 1}, [OpenKind.FAILED]),
        ({"state": "disabled", "waiting_files": 1}, [OpenKind.WAITING]),
        ({"state": "retired", "daemon_alive": False, "failed_files": 9}, []),
        ({"state": "retired", "mismatched_objects": 2}, [OpenKind.MISMATCHED]),
    ],
)
def test_what_keeps_a_delivery_from_being_safe(changes, kinds):
    assert [each.kind for each in open_things(standing(**changes))] == kinds


def test_what_is_open_is_told_with_numbers_and_reasons():
    (first, second) = open_things(
        standing(failed_files=1, last_sweep_problem="find: ./S3: Permission denied")
    )
    assert (first.words, first.weight) == ("1 file quarantined after failures", Weight.PERSON)
    assert second.words == (
        "the last listing of its folder was not complete: find: ./S3: Permission denied"
    )
    (third,) = open_things(standing(waiting_files=12345))
    assert third.words == "12,345 files not stored yet"


def test_the_share_counts_all_that_ought_to_be_stored():
    assert standing(stored_files=0).share_stored == 1.0
    assert (
        standing(stored_files=1, waiting_files=1, failed_files=1, settling_files=1).share_stored
        == 0.25
    )


# --- coverage -----------------------------------------------------------------------------


def days(first: date, *files: int) -> dict[date, Amount]:
    """Give days from `first` on with so many files each; 0 leaves a day out."""
    return {
        first + timedelta(days=at): Amount(files=n, bytes=n * 10) for at, n in enumerate(files) if n
    }


def test_days_are_measured_by_a_usual_one():
    laid = coverage({"A": days(MAY, 48, 48, 35, 11, 0, 48), "B": days(MAY + timedelta(2), 48, 48)})
    assert laid is not None
    assert (laid.usual_files, laid.first, laid.last) == (48, MAY, date(2026, 5, 6))
    assert (laid.columns, laid.column_days) == (6, 1)
    a, b = laid.rows
    usual, partly, sparse = Level.USUAL, Level.PARTLY, Level.SPARSE
    assert [c.level for c in a.cells] == [usual, usual, partly, sparse, Level.GAP, usual]
    out = Level.OUTSIDE
    assert [c.level for c in b.cells] == [out, out, usual, usual, out, out]
    assert (a.gap_days, b.gap_days) == (1, 0)
    assert a.total == Amount(files=190, bytes=1900)
    assert (b.first, b.last) == (date(2026, 5, 3), date(2026, 5, 4))


def test_a_long_season_is_drawn_by_weeks_and_no_day_is_lost():
    files = [10] * (DAILY_COLUMNS + 1)
    files[20:41] = [0] * 21
    laid = coverage({"A": days(MAY, *files)})
    assert laid is not None
    assert laid.column_days == 7
    assert laid.first.weekday() == 0
    (row,) = laid.rows
    assert sum(cell.amount.files for cell in row.cells) == sum(files) == row.total.files
    assert [c.level for c in row.cells].count(Level.GAP) == 2, "two whole weeks of the three"
    assert row.gap_days == 21
    # The first week has three days only, and all three are usual ones.
    assert row.cells[0].level is Level.USUAL
    assert row.cells[-1].level is Level.USUAL


@pytest.mark.parametrize("stray", [date(1970, 1, 1), date(2098, 3, 4)])
def test_a_wrong_clock_does_not_push_the_season_out_of_sight(stray):
    laid = coverage({"A": {stray: Amount(files=9), **days(MAY, 5, 5, 5)}})
    assert laid is not None
    assert (laid.first, laid.columns) == (MAY, 3)
    (row,) = laid.rows
    assert (row.strays, row.stray_days) == (9, (stray, stray))
    assert row.total.files == 24, "they are counted all the same"


def test_a_sensor_with_nothing_but_a_wrong_clock_still_has_its_row():
    laid = coverage({"A": days(MAY, 5, 5), "B": {date(1970, 1, 1): Amount(files=1)}})
    assert laid is not None
    (_, row) = laid.rows
    assert {cell.level for cell in row.cells} == {Level.OUTSIDE}
    assert (row.first, row.strays) == (None, 1)


def test_no_file_no_coverage():
    assert coverage({}) is None
    assert coverage({"A": {}}) is None


@pytest.mark.parametrize(
    ("files", "longest", "span"),
    [
        ({MAY: 1}, LONGEST_DAYS, (MAY, MAY)),
        ({MAY: 1, MAY + timedelta(9): 1}, 10, (MAY, MAY + timedelta(9))),
        ({MAY: 1, MAY + timedelta(10): 1}, 10, (MAY + timedelta(10),) * 2),
        ({MAY: 2, MAY + timedelta(10): 1}, 10, (MAY, MAY)),
        ({MAY: 1, MAY + timedelta(8): 5, MAY + timedelta(12): 5, MAY + timedelta(40): 9}, 10,
         (MAY + timedelta(8), MAY + timedelta(12))),
    ],
)  # fmt: skip
def test_the_busiest_span_is_what_is_drawn(files, longest, span):
    assert busiest_span(files, longest) == span
