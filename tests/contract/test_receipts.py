"""Receipts on a real ledger and a real folder, where the store is one that the test can damage."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import threading
from pathlib import Path

import pytest
from test_engine import enroll, make
from test_ledger import NOW, ask, register
from test_verification import Vault

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.finder import FindFinder, WalkFinder
from sensordrop.adapters.source import FolderSource
from sensordrop.core.failure import FailureScope, InterruptedAttemptError
from sensordrop.core.lifecycle import RecordUploaded, Stored
from sensordrop.core.model import Receipt, StoreCheck
from sensordrop.core.receipt_form import digest_of
from sensordrop.core.selection import Selection
from sensordrop.engine import receipts, verifier
from sensordrop.engine.card_receipts import Card, CardReceiptMaker
from sensordrop.engine.receipts import NoReceiptError, ReceiptMaker, ReceiptTools
from sensordrop.ports.reading import DigestPlan
from sensordrop.ports.receipts import FinishedReceipt
from sensordrop.ports.records import Commit

TAMPERINGS = 150
"""How often the folder, the books and the store are damaged; the pure rules have ten thousand."""


class Bank(Vault):
    """A vault that also keeps receipts, and whose ETags are MD5."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, bytes] = {}

    def address(self):
        return "https://store.example.org"

    def digest_plan(self, size_bytes):
        return DigestPlan(md5=False)

    def store(self, content, object_key, stop):
        with content.open() as file:
            self.kept[object_key] = file.read()
        return Stored(receipt=Receipt(object_key=object_key, sha256=content.sha256))

    def fill(self, key: str, content: bytes) -> None:
        self.put(key, content, hashlib.md5(content).hexdigest())


class Notes:
    """A receipt that is written nowhere."""

    folder = ""

    def __init__(self, name: str) -> None:
        self.lines: list = []

    def add(self, accounted) -> None:
        self.lines.append(accounted)

    def finish(self, document) -> FinishedReceipt:
        return FinishedReceipt(
            document=document, digest=digest_of(document), folder=self.folder, files=()
        )

    def discard(self) -> None:
        self.lines = []


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def place(ledger):
    return register(ledger)


@pytest.fixture
def delivery(place, bank, tmp_path):
    root = tmp_path / "drop"
    root.mkdir()
    return make(root, place.delivery_ids["north"], bank)


def write(root: Path, name: str, content: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def store(ledger, place, delivery, bank, *, check: StoreCheck = StoreCheck.ETAG) -> None:
    """Sweep the folder, and have all that it finds stored."""
    enroll(ledger, delivery)
    root = Path(delivery.settings.root)
    done = []
    for claim in ledger.claim(place.daemon_id, delivery.delivery_id, 1_000):
        content = (root / os.fsdecode(claim.path)).read_bytes()
        key = f"C1/{claim.path_text}"
        bank.fill(key, content)
        told = Receipt(
            object_key=key,
            sha256=hashlib.sha256(content).digest(),
            etag=bank.etags[key],
            store_check=check,
        )
        done.append(Commit(claim=claim, action=RecordUploaded(receipt=told)))
    ledger.commit(place.daemon_id, done, NOW)
    ask(
        ledger._connections._dsn(),
        "INSERT INTO delivery_status (delivery_id, state, last_sweep_ended_at, last_sweep_complete)"
        " VALUES (%s, 'watching', now(), true) ON CONFLICT DO NOTHING",
        delivery.delivery_id,
    )


def tools(ledger) -> ReceiptTools:
    return ReceiptTools(
        ledger=ledger,
        clock=SystemClock(),
        progress=lambda _: None,
        begin=Notes,
        source=FolderSource,
        station="hut",
        made_by="test",
    )


def receipt(ledger, delivery, *, sensor=None, reread=False):
    (target,) = [
        t
        for t in ledger.deliveries_to_verify(station="hut", session_id=None)
        if t.delivery_id == delivery.delivery_id
    ]
    maker = ReceiptMaker(tools(ledger), sensor=sensor, reread=reread)
    made = maker.make(target, delivery)
    return made.document if made is not None else None


def of_each_sensor(ledger, delivery, *, reread=False) -> dict[str, dict]:
    (target,) = ledger.deliveries_to_verify(station="hut", session_id=None)
    maker = ReceiptMaker(tools(ledger), sensor=None, reread=reread)
    made = [each.document for each in maker.make_each(target, delivery)]
    return {document["scope"]["sensor"]: document for document in made}


def card(ledger, delivery, folder: Path):
    (target,) = ledger.deliveries_to_verify(station="hut", session_id=None)
    made = CardReceiptMaker(
        tools(ledger),
        Card(
            folder=str(folder),
            source=FolderSource(str(folder)),
            finder=WalkFinder(),
            selection=Selection(),
        ),
        targets={target.delivery_id: target},
        deliveries={target.delivery_id: delivery},
        only=None,
    ).make()
    return made.document


def test_each_sensor_has_a_verdict_and_counts_that_add_up_to_the_whole(
    ledger, place, delivery, bank, monkeypatch
):
    monkeypatch.setattr(receipts, "PAGE_FILES", 3)
    root = Path(delivery.settings.root)
    for name in ("a.wav", "b.wav", ".DS_Store"):
        for sensor in ("S1", "S2", "S3"):
            write(root, f"{sensor}/{name}", f"{sensor}{name}".encode())
    write(root, "root.wav", b"root")
    store(ledger, place, delivery, bank)
    del bank.objects["C1/S2/b.wav"]
    write(root, "S3/new.wav", b"nobody saw me")
    write(root, "S4/only-new.wav", b"nor me")
    whole = receipt(ledger, delivery)
    assert {s: own["verdict"] for s, own in whole["sensors"].items()} == {
        "": "SAFE", "S1": "SAFE", "S2": "NOT SAFE", "S3": "NOT SAFE", "S4": "NOT SAFE",
    }  # fmt: skip
    each = of_each_sensor(ledger, delivery)
    assert {s: one["verdict"] for s, one in each.items()} == {
        s: own["verdict"] for s, own in whole["sensors"].items()
    }
    for name, all_of_it in whole["counts"].items():
        for unit, number in all_of_it.items():
            assert sum(own[name][unit] for own in whole["sensors"].values()) == number
            assert sum(one["counts"][name][unit] for one in each.values()) == number
    assert [p["path"] for p in each["S2"]["problems"]] == ["S2/b.wav"]
    assert whole["sensors"]["S2"]["problems"] == 1
    assert len(ledger.deliveries_to_verify(station="hut", session_id=None)) == 1
    (told,) = whole["stores"]
    assert told["address"] == "https://store.example.org"


def test_no_sensor_is_safe_where_something_is_wrong_with_the_whole(
    ledger, place, delivery, bank, database
):
    write(Path(delivery.settings.root), "S1/a.wav", b"a")
    store(ledger, place, delivery, bank)
    assert receipt(ledger, delivery)["sensors"]["S1"]["verdict"] == "SAFE"
    ask(database, "UPDATE delivery_status SET last_sweep_complete = false")
    assert receipt(ledger, delivery)["sensors"]["S1"]["verdict"] == "NOT SAFE"
    assert of_each_sensor(ledger, delivery)["S1"]["verdict"] == "NOT SAFE"


@pytest.mark.parametrize("each", [False, True])
def test_what_changes_while_the_folder_is_read_again_is_noticed(
    ledger, place, delivery, bank, monkeypatch, each
):
    root = Path(delivery.settings.root)
    for n in range(5):
        write(root, f"S/{n}.wav", b"%d" % n)
    write(root, "T/t.wav", b"t")
    store(ledger, place, delivery, bank)

    def told() -> dict:
        if each:
            return of_each_sensor(ledger, delivery, reread=True)["S"]
        return receipt(ledger, delivery, sensor="S", reread=True)

    assert told()["verdict"] == "SAFE"
    read = receipts.Reading.read

    def meanwhile(self, path):
        found = read(self, path)
        if path == b"S/4.wav":  # the last: the others were read, and are not looked at again
            write(root, "S/0.wav", b"another")
            (root / "S/1.wav").unlink()
            write(root, "S/new/5.wav", b"new")
            write(root, "T/other.wav", b"of another sensor")
        return found

    monkeypatch.setattr(receipts.Reading, "read", meanwhile)
    found = told()
    assert found["verdict"] == "NOT SAFE"
    assert {p["path"] for p in found["problems"]} == {"S/0.wav", "S/1.wav", "S/new/5.wav"}
    assert all("while the folder was read again" in p["reason"] for p in found["problems"])


def test_many_files_are_accounted_for_page_by_page(
    ledger, place, delivery, bank, monkeypatch, database
):
    monkeypatch.setattr(receipts, "PAGE_FILES", 7)
    monkeypatch.setattr(verifier, "LOOKS", 10)
    root = Path(delivery.settings.root)
    for n in range(40):
        write(root, f"S{n % 3}/{n:03}.wav", b"%d" % n)
    write(root, "S1/odd \\x41\tname\n.wav", b"odd")
    write(root, "root.wav", b"root")
    store(ledger, place, delivery, bank)
    told = receipt(ledger, delivery)
    assert (told["verdict"], told["counts"]["stored"]["files"]) == ("SAFE", 42)
    assert {s: c["stored"]["files"] for s, c in told["sensors"].items()} == {
        "": 1, "S0": 14, "S1": 14, "S2": 13,
    }  # fmt: skip
    assert "read" not in bank.asked, "the ETags were seen to be of the bytes"
    del bank.objects["C1/S1/001.wav"]
    assert receipt(ledger, delivery, sensor="S2")["verdict"] == "SAFE"
    told = receipt(ledger, delivery, sensor="S1")
    assert [p["path"] for p in told["problems"]] == ["S1/001.wav"]
    assert receipt(ledger, delivery, sensor="S9") is None
    rows = ask(database, "SELECT sensor, verdict, files_stored FROM receipts ORDER BY id")
    assert rows == [(None, "SAFE", 42), ("S2", "SAFE", 13), ("S1", "NOT SAFE", 13)]


def test_where_nothing_ties_the_etag_to_the_bytes_they_are_read_back(ledger, place, delivery, bank):
    write(Path(delivery.settings.root), "S/a.wav", b"recording")
    store(ledger, place, delivery, bank, check=StoreCheck.NONE)
    assert receipt(ledger, delivery)["verdict"] == "SAFE"
    assert bank.asked.count("read") == 1
    bank.objects["C1/S/a.wav"] = b"RECORDING"  # a store that forgot to change the ETag
    told = receipt(ledger, delivery)
    assert told["verdict"] == "NOT SAFE"
    assert "SHA-256" in told["problems"][0]["reason"]
    bank.objects["C1/S/a.wav"] = b"recording"
    assert receipt(ledger, delivery)["verdict"] == "SAFE", "it was read, and is well again"
    bank.trouble["read"] = FailureScope.DESTINATION
    assert receipt(ledger, delivery)["verdict"] == "NOT SAFE"


def test_what_comes_or_changes_while_the_store_is_asked_is_seen(
    ledger, place, delivery, bank, monkeypatch
):
    root = Path(delivery.settings.root)
    write(root, "S/a.wav", b"recording")
    write(root, "S/b.wav", b"recording")
    store(ledger, place, delivery, bank)
    look = bank.look

    once = threading.Lock()

    def slow(key):
        found = look(key)
        if once.acquire(blocking=False):
            write(root, "S/a.wav", b"RECORDING")
            write(root, "S/new.wav", b"new")
            store(ledger, place, delivery, bank)  # the daemon is at work: all of it gets stored
        return found

    monkeypatch.setattr(bank, "look", slow)
    told = receipt(ledger, delivery)
    assert told["verdict"] == "NOT SAFE"
    assert {p["path"] for p in told["problems"]} == {"S/a.wav", "S/new.wav"}
    monkeypatch.setattr(bank, "look", look)
    assert receipt(ledger, delivery)["verdict"] == "SAFE"


def test_a_folder_that_can_not_be_read_whole_is_not_safe(ledger, place, delivery, bank):
    write(Path(delivery.settings.root), "S/a.wav", b"recording")
    store(ledger, place, delivery, bank)

    class Broken(FindFinder):
        def list(self, root, stop, progress, *, strict=False):
            yield from super().list(root, stop, progress, strict=strict)
            self._report = self._report.__class__(
                files=self._report.files, folders=1, complete=False, problem="S: Input/output error"
            )

    object.__setattr__(delivery.settings, "make_finder", Broken)
    told = receipt(ledger, delivery)
    assert (told["verdict"], told["counts"]["stored"]["files"]) == ("NOT SAFE", 1)
    assert "Input/output error" in told["problems"][0]["reason"]
    shutil.rmtree(delivery.settings.root)
    with pytest.raises(NoReceiptError, match="missing"):
        receipt(ledger, delivery)


def test_a_card_that_changes_while_it_is_compared_is_not_safe(
    ledger, place, delivery, bank, monkeypatch, tmp_path
):
    write(Path(delivery.settings.root), "S/a.wav", b"recording")
    store(ledger, place, delivery, bank)
    write(tmp_path / "card", "DCIM/a.wav", b"recording")
    write(tmp_path / "card", "DCIM/b.wav", b"recording")
    assert card(ledger, delivery, tmp_path / "card")["verdict"] == "SAFE"
    look = bank.look

    def slow(key):
        write(tmp_path / "card", "DCIM/b.wav", b"RECORDING")
        write(tmp_path / "card", "DCIM/new.wav", b"recording")
        return look(key)

    monkeypatch.setattr(bank, "look", slow)
    told = card(ledger, delivery, tmp_path / "card")
    assert {p["path"] for p in told["problems"]} == {"DCIM/b.wav", "DCIM/new.wav"}


# --- tamperings ---------------------------------------------------------------------------


def trouble(dice: random.Random, root: Path, bank: Bank, database: str) -> None:
    """Damage the folder, the books or the store, as chance has it."""
    name = dice.choice(["S/a.wav", "S/b.wav", "T/c.wav"])
    key = f"C1/{name}"
    path = root / name
    columns = "state = 'pending'", "state = 'failed'", "etag = 'x'", "etag = NULL", \
        "sha256 = decode(repeat('00', 32), 'hex')", "object_key = 'C1/S/a.wav'", \
        "size_bytes = size_bytes + 1", "store_check = NULL", "is_current = false"  # fmt: skip
    match dice.randint(0, 9):
        case 0:
            bank.objects.pop(key, None)
        case 1:
            bank.fill(key, dice.choice([b"", b"recording", b"RECORDING"]))
        case 2:
            bank.trouble[dice.choice(["look", "read"])] = dice.choice(list(FailureScope))
        case 3 | 4:
            write(root, name, dice.choice([b"", b"recording", b"RECORDING"]))
        case 5:
            write(root, dice.choice(["S/new.wav", "U/x.wav"]), b"recording!")
        case 6:
            path.unlink(missing_ok=True)
        case 7 if path.exists():
            times = path.stat()
            path.write_bytes(bytes(times.st_size))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        case _:
            ask(database, f"UPDATE file_uploads SET {dice.choice(columns)} WHERE path = %s", name)


def test_no_tampering_with_the_real_thing_is_told_safe(ledger, place, delivery, bank, database):
    root = Path(delivery.settings.root)
    safe = 0
    for seed in range(TAMPERINGS):
        dice = random.Random(seed)
        ask(database, "TRUNCATE file_uploads, upload_queue, object_checks, ignored_files")
        bank.objects.clear()
        bank.trouble.clear()
        shutil.rmtree(root)
        for name in ("S/a.wav", "S/b.wav", "T/c.wav"):
            write(root, name, dice.choice([b"recording", b"RECORDING", b"other"]))
        store(ledger, place, delivery, bank)
        for _ in range(dice.choice([0, 1, 2])):
            trouble(dice, root, bank, database)
        told = receipt(ledger, delivery, reread=seed % 2 == 0)
        if told["verdict"] == "SAFE":
            safe += 1
            held = set(bank.objects.values())
            files = [each for each in root.rglob("*") if each.is_file()]
            assert files, seed
            assert [f for f in files if f.read_bytes() not in held] == [], seed
    assert safe > TAMPERINGS // 5, "a verdict that is never SAFE would be no use"


# --- sessions -----------------------------------------------------------------------------


def test_a_session_ends_with_its_receipt_only_if_nothing_came_into_it(
    ledger, place, delivery, bank, database
):
    root = Path(delivery.settings.root)
    write(root, "S/a.wav", b"recording")
    assert ledger.begin_verifying(delivery.delivery_id) is None, "there is no session"
    enroll(ledger, delivery)
    assert ledger.begin_verifying(delivery.delivery_id) is None, "a file is not finished"
    store(ledger, place, delivery, bank)
    mark = ledger.begin_verifying(delivery.delivery_id)
    assert mark is not None
    assert ledger.begin_verifying(delivery.delivery_id) == mark, "it may be begun again"
    stale = receipts.session_receipt(tools(ledger), delivery, mark)
    write(root, "S/b.wav", b"another")
    store(ledger, place, delivery, bank)
    assert ask(database, "SELECT state::text FROM sync_sessions") == [("open",)]
    assert ledger.finish_session(delivery.delivery_id, receipt=stale) is None
    mark = ledger.begin_verifying(delivery.delivery_id)
    made = receipts.session_receipt(tools(ledger), delivery, mark)
    summary = ledger.finish_session(delivery.delivery_id, receipt=made)
    assert (summary.files, made.verdict) == (2, "SAFE")
    rows = ask(database, "SELECT r.id, s.state::text FROM receipts r"
                         " JOIN sync_sessions s ON s.id = r.session_id")  # fmt: skip
    assert rows == [(made.number, "ended")]


def test_a_receipt_is_broken_off_when_the_daemon_ends(
    ledger, place, delivery, bank, database, monkeypatch
):
    root = Path(delivery.settings.root)
    for n in range(100):
        write(root, f"S/{n}.wav", b"%d" % n)
    store(ledger, place, delivery, bank, check=StoreCheck.NONE)
    mark = ledger.begin_verifying(delivery.delivery_id)
    stop = threading.Event()
    read = bank.read_back

    def ending(key, flag):
        stop.set()
        return read(key, flag)

    monkeypatch.setattr(bank, "read_back", ending)
    with pytest.raises(InterruptedAttemptError):
        receipts.session_receipt(tools(ledger), delivery, mark, stop)
    assert bank.asked.count("read") <= verifier.AT_ONCE, "what had not begun is not begun"
    assert ask(database, "SELECT count(*) FROM receipts") == [(0,)]


def test_a_delivery_that_was_pointed_elsewhere_meanwhile_has_no_receipt(
    ledger, place, delivery, bank, database
):
    write(Path(delivery.settings.root), "S/a.wav", b"recording")
    store(ledger, place, delivery, bank)
    mark = ledger.begin_verifying(delivery.delivery_id)
    ask(database, "UPDATE deliveries SET retired_at = now() WHERE id = %s", delivery.delivery_id)
    told = receipts.session_receipt(tools(ledger), delivery, mark)
    assert (told.number, "elsewhere" in told.problem) == (None, True)
    ledger.finish_retired(delivery.delivery_id)
    ((state, problem),) = ask(database, "SELECT state::text, receipt_problem FROM sync_sessions")
    assert (state, "elsewhere" in problem) == ("ended", True)
