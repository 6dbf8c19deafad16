"""Taking stored files away, on a real ledger and real folders: what is taken, and what never is."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from test_engine import enroll, wait_until
from test_ledger import ask
from test_receipts import Bank, bank, delivery, make, place, receipt, store, tools, write

from sensordrop.adapters import taking, target
from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.source import FolderSource
from sensordrop.adapters.taking import FolderTaking
from sensordrop.core.failure import FailureScope, InterruptedAttemptError
from sensordrop.core.model import StoreCheck
from sensordrop.core.taking import ARRIVING, name_of_ours, wish_of
from sensordrop.engine import taking as rounds
from sensordrop.engine.receipts import NoReceiptError, delivery_receipt
from sensordrop.engine.taker import ROUNDS, Taker
from sensordrop.engine.taking import TakingRound
from sensordrop.ports.taking import FileToTake, LeftError

__all__ = ["bank", "delivery", "place"]  # fixtures

CARD = {
    "S1/a.wav": b"recording a",
    "S1/DCIM/b.wav": b"recording b",
    "S2/c.wav": b"recording c",
    "S2/d.wav": b"",
    "root.wav": b"in the root",
}
TAMPERINGS = 50
"""How often chance gets in the way of a round, between any two of its steps."""


@pytest.fixture
def root(delivery) -> Path:
    return Path(delivery.settings.root)


@pytest.fixture
def done(tmp_path) -> Path:
    folder = tmp_path / "done"
    folder.mkdir()
    return folder


def fill(root: Path, files=CARD) -> None:
    for name, content in files.items():
        write(root, name, content)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in sorted(folder.rglob("*"))
        if each.is_file() and not each.is_symlink()
    }


class Go:
    """Rounds on one delivery; `between` is called after the receipt was made."""

    def __init__(self, ledger, delivery, wish: str) -> None:
        self.ledger, self.delivery = ledger, delivery
        self.taking = FolderTaking(delivery.settings.root, wish_of(wish))
        self.between = lambda: None
        self.stop = threading.Event()

    def __call__(self) -> rounds.Round:
        def make(delivery, stop):
            made = delivery_receipt(tools(self.ledger), delivery, stop)
            self.between()
            return made

        return TakingRound(
            ledger=self.ledger,
            clock=SystemClock(),
            delivery=self.delivery,
            taking=self.taking,
            make_receipt=make,
            stop=self.stop,
        ).go()


@pytest.fixture
def stored(ledger, place, delivery, bank, root):
    """Give a delivery whose card is stored."""
    fill(root)
    store(ledger, place, delivery, bank)
    return delivery


def log(database: str) -> dict[str, tuple]:
    rows = ask(
        database,
        "SELECT f.path, t.wish, t.outcome, t.moved_to, t.reason FROM taken_files AS t"
        " JOIN file_uploads AS f ON f.id = t.upload_id ORDER BY t.id",
    )
    return {path: tuple(rest) for path, *rest in rows}


# --- what is taken ------------------------------------------------------------------------


def test_what_is_safe_is_deleted_and_still_counts_as_stored(
    ledger, stored, root, database, monkeypatch
):
    monkeypatch.setattr(rounds, "BATCH_FILES", 2)
    came = Go(ledger, stored, "delete")()
    assert (came.files, came.size_bytes, came.problem) == (5, sum(map(len, CARD.values())), None)
    assert list(root.iterdir()) == [], "the empty folders went, too"
    assert log(database) == dict.fromkeys(CARD, ("delete", "taken", None, None))
    (number,) = ask(database, "SELECT DISTINCT receipt_id FROM taken_files")
    assert ask(database, "SELECT verdict FROM receipts WHERE id = %s", *number) == [("SAFE",)]
    enroll(ledger, stored)
    states = ask(database, "SELECT DISTINCT state::text FROM file_uploads WHERE is_current")
    assert states == [("uploaded",)]
    write(root, "S3/other.wav", b"recording a")
    told = receipt(ledger, stored)
    assert (told["gone"], told["counts"]["stored"]["files"]) == (5, 5)


def test_what_is_moved_is_there_under_its_own_path_or_beside_what_is_there(
    ledger, stored, root, done, database
):
    write(done, "S1/a.wav", b"somebody else's")
    write(done, "S2/c.wav", CARD["S2/c.wav"])
    came = Go(ledger, stored, f"move:{done}")()
    assert (came.files, came.problem) == (5, None)
    assert list(root.iterdir()) == []
    moved = files_in(done)
    (beside,) = [name for name in moved if name.startswith("S1/a~")]
    assert moved == {**CARD, "S1/a.wav": b"somebody else's", beside: CARD["S1/a.wav"]}
    assert {path: row[2] for path, row in log(database).items()} == {
        **{name: name for name in CARD}, "S1/a.wav": beside,
    }  # fmt: skip


def test_to_another_file_system_it_is_copied_and_the_copy_read_again(
    ledger, stored, root, done, database, monkeypatch
):
    def other_device(*_arguments, **_more):
        raise OSError(18, os.strerror(18))

    real = os.link
    monkeypatch.setattr(target.os, "link", lambda src, *more, **kw: other_device()
                        if str(src).startswith("/proc/") else real(src, *more, **kw))  # fmt: skip
    times = (root / "S1/a.wav").stat()
    go = Go(ledger, stored, f"move:{done}")
    go.between = lambda: ask(
        database,
        "INSERT INTO taken_files (upload_id, delivery_id, receipt_id, wish, target)"
        " SELECT f.id, f.delivery_id, r.id, 'move', %s FROM file_uploads AS f, receipts AS r"
        " WHERE f.path = 'S1/a.wav'",
        str(done),
    )
    go.taking.take = lambda *_: go.stop.set()
    with pytest.raises(InterruptedAttemptError):
        go()
    begun = name_of_ours(ARRIVING, 1, hashlib.sha256(CARD["S1/a.wav"]).digest())
    write(done, f"S1/{begun.decode()}", b"of a copy that was broken off")
    assert Go(ledger, stored, f"move:{done}")().files == 5
    assert files_in(done) == CARD
    assert (done / "S1/a.wav").stat().st_mtime_ns == times.st_mtime_ns
    assert list(root.iterdir()) == []


def test_junk_and_what_is_left_aside_stay_with_their_folders(ledger, place, delivery, bank, root):
    rules = delivery.settings.rules
    selection = replace(rules.selection, exclude=("**/*.tmp",))
    object.__setattr__(delivery.settings, "rules", replace(rules, selection=selection))
    fill(root, {**CARD, "S1/.DS_Store": b"junk", "S2/x.tmp": b"excluded"})
    store(ledger, place, delivery, bank)
    go = Go(ledger, delivery, "delete")
    go.between = lambda: write(root, "S1/Thumbs.db", b"junk that came just now")
    assert go().files == 5
    assert files_in(root) == {
        "S1/.DS_Store": b"junk", "S1/Thumbs.db": b"junk that came just now", "S2/x.tmp": b"excluded"
    }  # fmt: skip
    assert not (root / "S1/DCIM").exists()


def test_a_card_that_is_filled_again_is_new_and_taken_when_it_is_stored(
    ledger, place, stored, root
):
    go = Go(ledger, stored, "delete")
    assert go().files == 5
    write(root, "S1/a.wav", b"another recording")
    assert "S1/a.wav: its size or times on disk changed" in str(go().problem)
    assert files_in(root) == {"S1/a.wav": b"another recording"}
    enroll(ledger, stored)
    (claim,) = ledger.claim(place.daemon_id, stored.delivery_id, 10)
    assert claim.path == b"S1/a.wav"


# --- what is not --------------------------------------------------------------------------


def test_where_the_verdict_is_not_safe_nothing_is_touched(ledger, stored, root, bank, database):
    del bank.objects["C1/S1/a.wav"]
    came = Go(ledger, stored, "delete")()
    assert came.files == 0
    assert came.problem.startswith("the verdict is NOT SAFE: S1/a.wav: it is not in the bucket")
    assert files_in(root) == CARD
    assert log(database) == {}


@pytest.mark.parametrize("change", ["changed", "same size and time", "new", "removed", "linked"])
def test_a_folder_that_changed_after_the_receipt_is_left_whole(ledger, stored, root, change):
    def between():
        path = root / "S1" / "a.wav"
        times = path.stat()
        if change == "new":
            write(root, "S1/DCIM/new.wav", b"nobody saw me")
        elif change in ("removed", "linked"):
            path.unlink()
            if change == "linked":
                path.symlink_to("DCIM/b.wav")
        else:
            path.write_bytes(b"RECORDING A" if "same" in change else b"more")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    go = Go(ledger, stored, "delete")
    go.between = between
    came = go()
    assert "S1 is left as it is" in came.problem
    assert "S1/DCIM/b.wav" in files_in(root)
    assert set(files_in(root)) <= {"S1/a.wav", "S1/DCIM/b.wav", "S1/DCIM/new.wav"}
    assert came.files == 3, "S2 and the root did not change"


def test_a_file_that_somebody_has_open_for_writing_keeps_its_folder(ledger, stored, root):
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("this system has no leases")
    with (root / "S1" / "a.wav").open("r+b"):
        came = Go(ledger, stored, "delete")()
        assert "S1/a.wav: somebody has it open for writing" in came.problem
    assert (root / "S1" / "a.wav").read_bytes() == CARD["S1/a.wav"]


def test_an_object_that_is_lost_after_the_receipt_ends_the_round(ledger, stored, root, bank):
    go = Go(ledger, stored, "delete")
    go.between = lambda: bank.objects.pop("C1/S2/c.wav")
    came = go()
    assert (came.files, came.failures) == (2, 1)
    assert came.problem == "S2/c.wav: it is not in the bucket"
    assert files_in(root) == {n: c for n, c in CARD.items() if not n.startswith("S1/")}
    bank.fill("C1/S2/c.wav", CARD["S2/c.wav"])
    go.between = lambda: bank.trouble.update(look=FailureScope.DESTINATION)
    assert "could not be asked" in go().problem
    assert len(files_in(root)) == 3


def test_an_object_that_no_etag_proves_is_read_back_right_before(
    ledger,
    place,
    delivery,
    bank,
    root,
):
    write(root, "S/a.wav", b"recording")
    store(ledger, place, delivery, bank, check=StoreCheck.NONE)
    go = Go(ledger, delivery, "delete")
    go.between = lambda: bank.objects.update({"C1/S/a.wav": b"RECORDING"})
    assert "SHA-256" in go().problem
    assert files_in(root) == {"S/a.wav": b"recording"}


def test_one_program_takes_a_deliverys_files(ledger, stored, root, database):
    from sensordrop.adapters.ledger.ledger import PostgresLedger

    other = PostgresLedger(lambda: database)
    assert other.hold_taking(stored.delivery_id)
    assert Go(ledger, stored, "delete")().busy
    assert files_in(root) == CARD
    other.release_taking(stored.delivery_id)
    assert Go(ledger, stored, "delete")().files == 5
    other.close()


# --- where it can't be written ------------------------------------------------------------


def test_a_target_that_is_missing_or_inside_is_told_and_nothing_is_touched(
    ledger, stored, root, tmp_path
):
    came = Go(ledger, stored, f"move:{tmp_path}/missing")()
    assert "is not there" in came.problem
    assert "mount its disk" in came.problem
    (tmp_path / "way-in").symlink_to(root)
    assert "inside the drop folder" in Go(ledger, stored, f"move:{tmp_path}/way-in")().problem
    assert files_in(root) == CARD


def test_a_read_only_folder_is_told_with_the_line_that_opens_it(ledger, stored, root, monkeypatch):
    real = os.statvfs

    def read_only(path):
        seen = real(path)
        return os.statvfs_result((*seen[:8], seen.f_flag | os.ST_RDONLY, seen.f_namemax))

    monkeypatch.setattr(taking.os, "statvfs", read_only)
    came = Go(ledger, stored, "delete")()
    assert f"ReadWritePaths={root}" in came.problem
    assert files_in(root) == CARD


# --- broken off ---------------------------------------------------------------------------


class Died(BaseException):
    """The process ends here."""


POINTS = ["before rename", "after rename", "after unlink", "after link"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("wish", ["delete", "move"])
def test_whoever_died_in_the_middle_is_found_out_about(
    ledger, stored, root, done, database, monkeypatch, wish, point
):
    wish = f"move:{done}" if wish == "move" else wish
    when, what = point.split()
    real = getattr(os, what)
    calls: list = []

    def dying(*arguments, **more):
        calls.append(arguments)
        if when == "after":
            real(*arguments, **more)
        monkeypatch.setattr(os, what, real)
        monkeypatch.setattr(taking, "_give_back", lambda *_: None)
        raise Died

    go = Go(ledger, stored, wish)
    monkeypatch.setattr(os, what, dying)
    monkeypatch.setattr(ledger, "end_taking", lambda _became: None)
    try:
        go()
    except Died:
        ledger.close_own()
    else:
        assert not calls, "deleting links nothing"
    monkeypatch.undo()
    ledger.release_taking(stored.delivery_id)
    go()
    files = files_in(root) | files_in(done)
    for name, content in CARD.items():
        row = log(database).get(name)
        assert row is None or row[1] in ("taken", "left"), (name, row)
        if wish.startswith("move") or row is None or row[1] != "taken":
            assert files[name] == content
    assert not [name for name in files if ".sensordrop" in name]
    assert ask(database, "SELECT count(*) FROM taken_files WHERE ended_at IS NULL") == [(0,)]


def test_a_stop_leaves_everything_told(ledger, stored, root, database):
    go = Go(ledger, stored, "delete")
    go.between = go.stop.set
    with pytest.raises(InterruptedAttemptError):
        go()
    assert files_in(root) == CARD
    assert log(database) == {}


# --- anything at all ----------------------------------------------------------------------


def tamper(dice: random.Random, root: Path, bank: Bank) -> None:
    """Do what people, programs and stores do at the wrong moment."""
    name = dice.choice(list(CARD))
    path, key = root / name, f"C1/{name}"
    content = dice.choice([b"", b"other", CARD[name], CARD[name].upper()])
    try:
        match dice.randint(0, 6):
            case 0:
                bank.objects.pop(key, None)
            case 1:
                bank.fill(key, content)
            case 2:
                write(root, name, content)
            case 3:
                write(root, f"{name}.new", content)
                (root / f"{name}.new").rename(path)
            case 4:
                write(root, f"{dice.choice(['S1', 'S2'])}/new.wav", content)
            case 5:
                path.unlink(missing_ok=True)
            case 6:
                path.rename(root / "S2.wav")
    except OSError:
        pass  # its folder went away just now


def test_whatever_gets_in_the_way_no_bytes_are_removed_that_the_store_does_not_have(
    ledger,
    place,
    delivery,
    bank,
    root,
    done,
    database,
    monkeypatch,
):
    """Each step of the system is a chance to get in the way; what is unlinked is looked at."""
    dice = random.Random()
    removed: list[bytes] = []
    odds = [0.0]
    real = {name: getattr(os, name) for name in ("rename", "unlink", "stat", "pread", "link")}

    def in_the_way() -> None:
        if dice.random() < odds[0]:
            chances, odds[0] = odds[0], 0.0  # one at a time
            tamper(dice, root, bank)
            odds[0] = chances

    def at_the_last_moment(name: bytes, folder: int) -> None:
        """Write into a file that was read just now, or put another one in its place."""
        if odds[0] and dice.random() < 0.3:
            path = Path(f"/proc/self/fd/{folder}").readlink() / os.fsdecode(name)
            if dice.random() < 0.5:
                path.write_bytes(b"written into at the last moment")
            else:
                (root / "other").write_bytes(b"another one at the last moment")
                real["rename"](root / "other", path)

    def step(name):
        def call(*arguments, **more):
            in_the_way()
            if name == "rename" and "dst_dir_fd" in more:
                at_the_last_moment(arguments[0], more["src_dir_fd"])
            if name == "unlink" and os.fsencode(arguments[0]).startswith(b".sensordrop-taking-"):
                at = os.open(arguments[0], os.O_RDONLY | os.O_NOFOLLOW, dir_fd=more["dir_fd"])
                content = real["pread"](at, 1_000, 0)
                links = os.fstat(at).st_nlink
                os.close(at)
                real["unlink"](*arguments, **more)
                if links == 1:
                    removed.append(content)
                    held = {*bank.objects.values(), *lost_since}
                    assert content in held, content
                return None
            return real[name](*arguments, **more)

        return call

    lost_since: set[bytes] = set()
    look = bank.look

    def looked(key):
        """Note what the store had when it was asked: what it loses afterwards is not ours."""
        lost_since.clear()
        lost_since.update(bank.objects.values())
        return look(key)

    monkeypatch.setattr(bank, "look", looked)
    whole = taken = 0
    for seed in range(TAMPERINGS):
        dice.seed(seed)
        for each in (root, done):
            for path in sorted(each.rglob("*"), reverse=True):
                path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
        ask(
            database,
            "TRUNCATE file_uploads, upload_queue, object_checks, ignored_files, taken_files",
        )
        bank.objects.clear()
        lost_since.clear()
        fill(root)
        store(ledger, place, delivery, bank)
        go = Go(ledger, delivery, "delete" if seed % 2 else f"move:{done}")
        go.between = lambda: (
            lost_since.clear(),
            odds.__setitem__(0, dice.choice([0.0, 0.02, 0.1])),
        )
        for name in real:
            monkeypatch.setattr(os, name, step(name))
        try:
            came = go()
        finally:
            odds[0] = 0.0
            for name, function in real.items():
                monkeypatch.setattr(os, name, function)
        taken += came.files
        whole += came.problem is None
        left = [n for n in files_in(root) | files_in(done) if ".sensordrop" in n]
        assert not [n for n in left if "arriving" in n]
    assert whole > TAMPERINGS // 5
    assert taken > TAMPERINGS
    assert removed


def test_the_bytes_decide_whatever_size_and_times_say(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RECORDING")
    sighting = FolderSource(str(tmp_path)).look(b"a.wav")
    assert sighting is not None
    file = FileToTake(
        number=1,
        path=b"a.wav",
        fingerprint=sighting.fingerprint,
        sha256=hashlib.sha256(b"recording").digest(),
    )
    with pytest.raises(LeftError, match="bytes"):
        FolderTaking(str(tmp_path), wish_of("delete")).take(file, threading.Event())
    assert (tmp_path / "a.wav").read_bytes() == b"RECORDING"


def test_a_target_that_is_the_folder_itself_by_another_way_takes_nothing(tmp_path):
    """As two mounts of one share would be: the same files, and nothing says so."""
    root, done = tmp_path / "drop", tmp_path / "done"
    write(root, "S1/a.wav", b"recording")
    done.mkdir()
    sighting = FolderSource(str(root)).look(b"S1/a.wav")
    file = FileToTake(
        number=1,
        path=b"S1/a.wav",
        fingerprint=sighting.fingerprint,
        sha256=hashlib.sha256(b"recording").digest(),
    )
    done.rmdir()
    done.symlink_to(root)
    with pytest.raises(LeftError, match="by another way"):
        FolderTaking(str(root), wish_of(f"move:{done}")).take(file, threading.Event())
    assert files_in(root) == {"S1/a.wav": b"recording"}


def test_a_folder_is_swept_though_all_rounds_there_may_be_are_under_way(ledger, bank, tmp_path):
    """What was broken off there is looked for first, and that waits for no other delivery."""
    go_on = threading.Event()
    begun: list[str] = []

    def make_receipt(delivery, _stop):
        begun.append(delivery.name)
        assert go_on.wait(60)
        raise NoReceiptError("not today")

    deliveries = []
    for number in range(ROUNDS + 1):
        folder = tmp_path / f"drop{number}"
        write(folder, "S1/a.wav", b"recording")
        made = make(folder, 1_000 + number, bank, name=f"d{number}")
        taking_of = FolderTaking(str(folder), wish_of("delete"))
        object.__setattr__(made.settings, "taking", taking_of)
        made.swept, made.mended = True, number < ROUNDS
        deliveries.append(made)
    late = deliveries[-1]
    late.offline_reason = "its disk is not there"
    taker = Taker(
        ledger=ledger, clock=SystemClock(), deliveries=deliveries, make_receipt=make_receipt
    )
    stop = threading.Event()
    thread = threading.Thread(target=taker.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: len(begun) == ROUNDS, "all rounds are under way")
        late.offline_reason = None
        wait_until(lambda: late.mended, "the folder may be swept")
        assert late.name not in begun
        go_on.set()
        wait_until(lambda: late.name in begun, "it has its turn")
    finally:
        go_on.set()
        stop.set()
        taker.wake()
        thread.join()
