"""The soak's oracle sees every kind of damage, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from soak_oracle import Evidence, Truth, counted, judge, keys_of

A, B, OTHER = "a" * 64, "b" * 64, "f" * 64
FILE, JUNK, HOPELESS = ("card", b"s1/1.wav"), ("card", b"s1/.DS_Store"), ("card", b"s1/long.wav")
TRUTH = Truth(
    prefixes={"card": "C1"},
    versions={FILE: {A, B}, JUNK: {OTHER}, HOPELESS: {OTHER}},
    junk={JUNK},
    hopeless={HOPELESS},
    foreign={"C1/theirs.wav": OTHER},
)
ROW = {
    "id": 2,
    "delivery": "card",
    "path": FILE[1],
    "state": "uploaded",
    "superseded_from": None,
    "is_current": True,
    "object_key": "C1/s1/1~bbbbbbbbbbbbbbbb.wav",
    "sha256": B,
}
OLDER = ROW | {
    "id": 1,
    "state": "superseded",
    "superseded_from": "uploaded",
    "is_current": False,
    "object_key": "C1/s1/1.wav",
    "sha256": A,
}
FAILED = ROW | {"id": 3, "path": HOPELESS[1], "state": "failed", "object_key": None, "sha256": None}
SESSION = {
    "id": 1, "state": "ended", "files_total": 3, "files_told": 3, "files": 3,
    "bytes_total": 9, "bytes": 9,
}  # fmt: skip
DELIVERY = {"name": "card", "state": "watching", "reason": None, "settling": 0}
COUNT = {"state": "uploaded", "files": 0, "bytes": 0}
WELL = Evidence(
    disk={FILE: B, JUNK: OTHER, HOPELESS: OTHER},
    objects={"C1/s1/1.wav": A, ROW["object_key"]: B, "C1/theirs.wav": OTHER},
    etags={"C1/s1/1.wav": "1"},
    seen={"C1/s1/1.wav": "1"},
    rows=[OLDER, ROW, FAILED],
    ignored={JUNK},
    sessions=[SESSION],
    deliveries=[DELIVERY],
    reasons={3},
)


def test_nothing_is_found_where_all_is_well():
    assert judge(TRUTH, WELL) == []


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        ("lost", {"objects": {"C1/s1/1.wav": A}}),
        ("lost", {"rows": [OLDER, FAILED]}),
        ("lost", {"rows": [OLDER, ROW | {"state": "vanished"}, FAILED]}),
        ("lost", {"ignored": frozenset()}),
        ("lost", {"etags": {}}),
        ("lost", {"miscounted": [COUNT | {"files": -1}]}),
        ("lost", {"sessions": [SESSION | {"files_total": 2, "files_told": 2}]}),
        ("altered", {"objects": WELL.objects | {"C1/s1/1.wav": OTHER}}),
        ("altered", {"objects": WELL.objects | {"C1/theirs.wav": A}}),
        ("altered", {"etags": {"C1/s1/1.wav": "2"}}),
        ("altered", {"disk": WELL.disk | {FILE: A}}),
        ("altered", {"rows": [OLDER | {"sha256": OTHER}, ROW, FAILED]}),
        ("doubled", {"objects": WELL.objects | {"C1/s1/2.wav": B}}),
        ("doubled", {"objects": WELL.objects | {keys_of("C1", FILE[1], A)[1]: A}}),
        ("doubled", {"rows": [OLDER, ROW, ROW | {"id": 4}, FAILED]}),
        ("doubled", {"miscounted": [COUNT | {"files": 1}]}),
        ("doubled", {"sessions": [SESSION | {"files_total": 4}]}),
        ("stuck", {"rows": [OLDER, ROW | {"state": "pending"}, FAILED]}),
        ("stuck", {"rows": [OLDER, ROW | {"state": "failed"}, FAILED]}),
        ("stuck", {"queue": [{"upload_id": 2}]}),
        ("stuck", {"reasons": frozenset()}),
        ("stuck", {"sessions": [SESSION | {"state": "open"}]}),
        ("stuck", {"deliveries": [DELIVERY | {"state": "blocked"}]}),
        ("stuck", {"trouble": ["the daemon ended with 70"]}),
    ],
)
def test_damage_is_seen(verdict, changes):
    found = judge(TRUTH, replace(WELL, **changes))
    assert counted(found)[verdict] > 0, found


def test_what_the_way_to_the_store_left_behind_is_no_finding():
    """Bytes that nobody claims, where it is known how they came there."""
    damaged = WELL.objects | {"C1/s1/2.wav": OTHER}
    truth = replace(TRUTH, damaged={"C1/s1/2.wav"})
    assert judge(truth, replace(WELL, objects=damaged)) == []


def test_a_file_that_was_stored_and_taken_away_before_anybody_was_told_is_no_finding():
    gone = ("card", b"s1/gone.wav")
    truth = replace(TRUTH, versions=TRUTH.versions | {gone: {A}})
    evidence = replace(WELL, objects=WELL.objects | {"C1/s1/gone.wav": A})
    assert judge(truth, evidence) == []
    still_there = replace(evidence, disk=WELL.disk | {gone: A})
    assert counted(judge(truth, still_there))["lost"] > 0


def test_a_file_for_which_no_key_is_left_may_be_quarantined_with_a_reason_only():
    truth = replace(TRUTH, spoiled={FILE})
    evidence = replace(
        WELL,
        rows=[FAILED, ROW | {"state": "failed", "object_key": None, "sha256": None}],
        objects={"C1/theirs.wav": OTHER, "C1/s1/1.wav": A},
        reasons={2, 3},
    )
    assert counted(judge(truth, evidence))["stuck"] == 0
    assert counted(judge(truth, replace(evidence, reasons={3})))["stuck"] > 0
    assert counted(judge(TRUTH, evidence))["stuck"] > 0
