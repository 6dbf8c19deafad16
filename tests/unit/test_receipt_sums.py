"""A receipt's rules, asked about every combination of what can be known, and what they come to."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from test_receipt import RULES, about, summed

from sensordrop.core import receipt
from sensordrop.core.model import EntryType, Fingerprint, UploadState
from sensordrop.core.receipt import (
    MOST_PROBLEMS,
    Account,
    Amount,
    Booked,
    DoesNotAddUpError,
    FileClass,
    FileFacts,
    Proof,
    Reread,
    Seen,
    account,
    counts_of,
)
from sensordrop.core.verification import CheckResult, Problem, Verdict

SIZE = 1_000_000
PRINT = Fingerprint(size_bytes=SIZE, mtime_ns=5, ctime_ns=5)
SHA = b"m" * 32
BOOKED = Booked(
    state=UploadState.UPLOADED, fingerprint=PRINT, object_key="C1/S/a.wav", sha256=SHA
)  # fmt: skip


def seen(entry_type: EntryType = EntryType.FILE, **changes: int) -> Seen:
    return Seen(entry_type=entry_type, fingerprint=replace(PRINT, **changes))


SEEN = [
    None,
    seen(),
    *[seen(each) for each in EntryType if each is not EntryType.FILE],
    *[seen(**{part: n}) for part in ("size_bytes", "mtime_ns", "ctime_ns") for n in (1, 2 * SIZE)],
]
BOOKS = [
    None,
    *[
        replace(BOOKED, state=state, object_key=key, sha256=sha256)
        for state in UploadState
        for key in (None, "C1/S/a.wav")
        for sha256 in (None, SHA)
    ],
]
PROOFS = [None, *[Proof(result=result) for result in (None, *CheckResult)]]
REREADS = [
    None,
    Reread(size_bytes=SIZE, sha256=SHA),
    *[Reread(size_bytes=SIZE, sha256=other * 32) for other in (b"l", b"n")],
    *[Reread(size_bytes=other, sha256=SHA) for other in (SIZE - 1, SIZE + 1)],
    Reread(size_bytes=SIZE, sha256=SHA, problem="bad sector"),
]
NAMES = {"S/a.wav": False, "S/a.xyz": False, "S/a.tmp": True, "S/._a.wav": True}
"""Whether it may be absent from the store."""


def is_stored(facts: FileFacts) -> bool:
    """Say by all that must hold, not by what may be wrong, that a file's bytes are in the store."""
    there, books, reread = facts.seen, facts.booked, facts.reread
    in_store = (
        books is not None
        and books.state.value in {"uploaded", "skipped"}
        and books.object_key == "C1/S/a.wav"
        and books.sha256 == SHA
        and facts.proof is not None
        and facts.proof.result == "same"
    )
    if reread is None:
        unchanged = there in (None, seen())
    else:
        read_the_same = (reread.size_bytes, reread.sha256, reread.problem) == (SIZE, SHA, "")
        unchanged = there is None or (there.entry_type.value == "f" and read_the_same)
    return in_store and unchanged


def every_case():
    cases = itertools.product(NAMES, SEEN, BOOKS, PROOFS, REREADS)
    for name, there, books, proof, reread in cases:
        if there is not None or books is not None:
            yield FileFacts(
                path_text=name, sensor="S", seen=there, booked=books, proof=proof, reread=reread
            )


def test_a_file_is_stored_only_where_all_of_it_is_proven_and_else_it_blocks():
    for facts in every_case():
        found = account(facts, RULES)
        assert (found.file_class is FileClass.STORED) is is_stored(facts), facts
        may_wipe = is_stored(facts) or NAMES[facts.path_text]
        assert found.blocks is not may_wipe, facts
        assert bool(found.reason) is not is_stored(facts), facts


def test_why_a_file_is_not_stored_puts_it_into_its_class():
    for facts in every_case():
        if is_stored(facts) or facts.path_text != "S/a.wav":
            continue
        books, there = facts.booked, facts.seen
        asked = facts.proof.result if facts.proof else None
        if books is None:
            expected = "pending" if there == seen() or there.entry_type.value == "f" else "skipped"
        elif books.state.value == "failed":
            expected = "quarantined"
        elif books.state.value == "vanished":
            expected = "quarantined" if there is None else "pending"
        else:
            lost = asked is not None and asked.value in {"missing", "different"}
            as_stored = is_stored(replace(facts, proof=Proof(result=CheckResult.SAME)))
            expected = "quarantined" if lost and as_stored else "pending"
        assert account(facts, RULES).file_class.value == expected, facts


def test_of_a_file_that_nobody_knows_there_is_no_class():
    with pytest.raises(ValueError, match=r"S/a\.wav"):
        account(FileFacts(path_text="S/a.wav", sensor="S"), RULES)


def test_the_words_say_what_the_store_said_or_what_it_found():
    lost = FileFacts(
        path_text="S/a.wav", sensor="S", booked=BOOKED, proof=Proof(result=CheckResult.MISSING)
    )
    assert account(lost, RULES).reason == "missing"
    told = replace(lost, proof=Proof(result=CheckResult.MISSING, reason="it is not in the bucket"))
    assert account(told, RULES).reason == "it is not in the bucket"
    silent = replace(lost, proof=Proof(result=None))
    assert "nobody asked the store" in account(silent, RULES).reason
    failed = replace(lost, booked=replace(BOOKED, state=UploadState.FAILED))
    assert "no reason is kept" in account(failed, RULES).reason
    other = replace(lost, seen=seen(), reread=Reread(size_bytes=7, sha256=b"\xab" * 32))
    assert f"SHA-256 {'ab' * 32} (7 bytes)" in account(other, RULES).reason
    assert f"has {SHA.hex()} ({SIZE} bytes)" in account(other, RULES).reason


# --- the sum ------------------------------------------------------------------------------

SAME = Proof(result=CheckResult.SAME)
GOOD = FileFacts(path_text="S/a.wav", sensor="S", seen=seen(), booked=BOOKED, proof=SAME)
FILES = [
    GOOD,
    replace(GOOD, sensor="T", booked=replace(BOOKED, conflict=True)),
    replace(GOOD, sensor="T", seen=None, booked=replace(BOOKED, conflict=True)),
    replace(GOOD, seen=None),
    replace(GOOD, seen=None),
    replace(GOOD, seen=seen(size_bytes=7), booked=None),
    replace(GOOD, seen=seen(size_bytes=8), booked=None, sensor="T"),
    replace(GOOD, booked=replace(BOOKED, state=UploadState.FAILED)),
    replace(GOOD, path_text="S/a.tmp", seen=seen(size_bytes=3), booked=None),
    replace(GOOD, path_text="S/b.tmp", seen=seen(size_bytes=3), booked=None),
    replace(GOOD, path_text="S/._a.wav", seen=seen(size_bytes=3), booked=None),
    replace(GOOD, path_text="S/a.xyz", seen=seen(size_bytes=2), booked=None),
]


def test_files_and_bytes_are_summed_by_class_and_by_sensor():
    made = summed(*FILES)
    assert counts_of(made.classes) == {
        "stored": {"files": 5, "bytes": 5 * SIZE},
        "skipped": {"files": 4, "bytes": 11},
        "quarantined": {"files": 1, "bytes": SIZE},
        "pending": {"files": 2, "bytes": 15},
    }
    assert counts_of(made.sensors["T"].classes) == {
        "stored": {"files": 2, "bytes": 2 * SIZE},
        "skipped": {"files": 0, "bytes": 0},
        "quarantined": {"files": 0, "bytes": 0},
        "pending": {"files": 1, "bytes": 8},
    }
    assert made.sensors.keys() == {"S", "T"}
    assert made.files == 12
    assert (made.seen, made.booked) == (9, 6)
    assert (made.compared, made.gone, made.conflicts) == (2, 3, 2)
    assert made.ignored == {"excluded": 2, "junk": 1}
    assert (made.problem_count, len(made.problems)) == (4, 4)
    assert made.close(about(made)) is Verdict.NOT_SAFE


def test_before_the_first_file_nothing_is_counted():
    made = Account()
    assert counts_of(made.classes) == {
        each: {"files": 0, "bytes": 0} for each in ("stored", "skipped", "quarantined", "pending")
    }
    assert (made.seen, made.booked, made.compared, made.gone, made.conflicts) == (0, 0, 0, 0, 0)
    assert (made.problem_count, made.files) == (0, 0)
    assert Amount() == Amount(files=0, size_bytes=0)
    assert Reread() == Reread(size_bytes=0, sha256=b"", problem="")
    assert not BOOKED.conflict


def test_what_blocks_is_counted_whole_and_listed_up_to_a_limit(monkeypatch):
    assert MOST_PROBLEMS == 10_000
    monkeypatch.setattr(receipt, "MOST_PROBLEMS", 300)
    made = Account()
    for number in range(305):
        made.block(Problem(path=f"S/{number}.wav", reason="it is waiting to be stored"))
    assert [each.path for each in made.problems] == [f"S/{number}.wav" for number in range(300)]
    assert made.problem_count == 305
    made.add(account(GOOD, RULES))
    assert made.close(about(made)) is Verdict.NOT_SAFE


def test_one_file_that_blocks_stands_against_any_number_that_are_stored():
    good = [replace(GOOD, path_text=f"S/{number}.wav") for number in range(300)]
    whole = summed(*good)
    assert whole.close(about(whole)) is Verdict.SAFE
    one_waits = summed(*good, replace(GOOD, booked=replace(BOOKED, state=UploadState.PENDING)))
    assert one_waits.close(about(one_waits)) is Verdict.NOT_SAFE
    assert [each.reason for each in one_waits.problems] == ["it is waiting to be stored"]


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"swept": False}, ["never swept"]),
        # Of a folder that was never swept there is no last sweep to speak of.
        ({"swept": False, "last_sweep_complete": None}, ["never swept"]),
        ({"last_sweep_complete": False}, ["partial: no reason is kept"]),
        ({"last_sweep_complete": None}, ["partial: no reason is kept"]),
        (
            {"last_sweep_complete": False, "last_sweep_problem": "S: Permission denied"},
            ["partial: S: Permission denied"],
        ),
        ({"listing_problem": ""}, ["could not be listed whole"]),
        (
            {"swept": False, "listing_problem": "S: Input/output error"},
            ["never swept", "listed whole: S: Input/output error"],
        ),
    ],
)
def test_each_thing_against_the_folder_is_told_once(changes, reasons):
    made = summed(GOOD)
    assert made.close(about(made, **changes)) is Verdict.NOT_SAFE
    assert len(made.problems) == made.problem_count == len(reasons)
    for problem, words in zip(made.problems, reasons, strict=True):
        assert (problem.path, words in problem.reason) == ("", True)


@pytest.mark.parametrize("listed", [-1, 1, 1_000])
@pytest.mark.parametrize("what", ["listed", "booked"])
def test_a_file_more_or_less_than_others_counted_is_no_receipt(what, listed):
    made = summed(*FILES)
    number = {"listed": made.seen, "booked": made.booked}[what]
    with pytest.raises(DoesNotAddUpError, match=rf"{number + listed} files .* {number} of them"):
        made.close(about(made, **{what: number + listed}))


def test_numbers_beyond_the_small_ones_add_up_too():
    made = summed(*[replace(GOOD, path_text=f"S/{number}.wav") for number in range(1_000)])
    assert made.close(about(made, listed=int("1000"), booked=int("1000"))) is Verdict.SAFE


@pytest.mark.parametrize("difference", [-1, 1])
def test_sensors_that_are_not_the_sum_are_no_receipt(difference):
    made = summed(*FILES)
    made.sensors["T"].classes[FileClass.STORED].files += difference
    with pytest.raises(DoesNotAddUpError, match=f"{12 + difference} files of sensors"):
        made.close(about(made))


def test_each_sensor_has_a_verdict_of_its_own_files():
    waits = replace(GOOD, path_text="T/b.wav", sensor="T",
                    booked=replace(BOOKED, state=UploadState.PENDING))  # fmt: skip
    gone = replace(GOOD, path_text="U/c.wav", sensor="U", seen=None)
    junk = FileFacts(path_text="V/.DS_Store", sensor="V", seen=GOOD.seen)
    fine = replace(GOOD, path_text="T/a.wav", sensor="T")
    made = summed(GOOD, fine, waits, gone, junk)
    assert made.close(about(made)) is Verdict.NOT_SAFE
    assert {sensor: made.verdict_of(sensor) for sensor in made.sensors} == {
        "S": Verdict.SAFE,
        "T": Verdict.NOT_SAFE,
        "U": Verdict.NOT_SAFE,
        "V": Verdict.NOT_SAFE,
    }
    assert [each.problem_count for each in made.sensors.values()] == [0, 1, 0, 0]
    assert [each.compared for each in made.sensors.values()] == [1, 1, 0, 0]


def test_no_sensor_is_safe_where_something_stands_against_the_whole():
    made = summed(GOOD)
    made.close(about(made, swept=False))
    assert made.verdict_of("S") is Verdict.NOT_SAFE
    changed = summed(GOOD)
    changed.block(Problem(path="S/new.wav", reason="it came while the folder was read"))
    changed.close(about(changed))
    assert changed.verdict_of("S") is Verdict.NOT_SAFE


def test_however_much_waits_elsewhere_a_sensor_whose_files_are_stored_is_safe():
    waits = replace(GOOD, sensor="T", booked=replace(BOOKED, state=UploadState.PENDING))
    made = summed(GOOD, *[replace(waits, path_text=f"T/{number}.wav") for number in range(300)])
    assert made.close(about(made)) is Verdict.NOT_SAFE
    assert (made.verdict_of("S"), made.verdict_of("T")) == (Verdict.SAFE, Verdict.NOT_SAFE)
