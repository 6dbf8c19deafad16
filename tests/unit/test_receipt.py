"""What became of each file, what it comes to, and that nobody is told SAFE with a byte missing."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import pytest

from sensordrop.adapters.receipt_key import KeyProblemError, receipt_key, signature_problem
from sensordrop.adapters.receipt_shelf import ReceiptShelf
from sensordrop.cli.receipt_check import Checked, ReceiptCheck
from sensordrop.core.model import EntryType, Fingerprint, UploadState
from sensordrop.core.receipt import (
    Account,
    Booked,
    Circumstances,
    DoesNotAddUpError,
    FileClass,
    FileFacts,
    Proof,
    Reread,
    Seen,
    account,
)
from sensordrop.core.receipt_form import digest_of, manifest_line
from sensordrop.core.selection import Selection
from sensordrop.core.verification import (
    CheckMethod,
    CheckResult,
    FoundObject,
    KnownObject,
    Verdict,
    compare_bytes,
    compare_look,
)

PRINT = Fingerprint(size_bytes=9, mtime_ns=1, ctime_ns=1)
SHA = hashlib.sha256(b"recording").digest()
SEEN = Seen(entry_type=EntryType.FILE, fingerprint=PRINT)
STORED = Booked(state=UploadState.UPLOADED, fingerprint=PRINT, object_key="C1/S/a.wav", sha256=SHA)
SAME = Proof(result=CheckResult.SAME, method=CheckMethod.LISTING)
GOOD = FileFacts(path_text="S/a.wav", sensor="S", seen=SEEN, booked=STORED, proof=SAME)
RULES = Selection(exclude=("*.tmp",), extensions=("wav",))


def booked(state: UploadState, **changes) -> Booked:
    return replace(STORED, state=state, **changes)


def touched(**changes) -> Seen:
    return replace(SEEN, fingerprint=replace(PRINT, **changes))


@pytest.mark.parametrize(
    ("facts", "file_class", "words"),
    [
        (GOOD, FileClass.STORED, None),
        (replace(GOOD, booked=booked(UploadState.SKIPPED)), FileClass.STORED, None),
        (replace(GOOD, seen=None), FileClass.STORED, None),
        (replace(GOOD, booked=None, proof=None), FileClass.PENDING, "not on the books"),
        (replace(GOOD, booked=booked(UploadState.PENDING)), FileClass.PENDING, "waiting"),
        (replace(GOOD, booked=booked(UploadState.UPLOADING)), FileClass.PENDING, "waiting"),
        (replace(GOOD, booked=booked(UploadState.FAILED, reason="x")), FileClass.QUARANTINED, "x"),
        (replace(GOOD, booked=booked(UploadState.VANISHED)), FileClass.PENDING, "on disk again"),
        (
            replace(GOOD, seen=None, booked=booked(UploadState.VANISHED)),
            FileClass.QUARANTINED,
            "left the folder",
        ),
        (replace(GOOD, booked=replace(STORED, sha256=None)), FileClass.PENDING, "waiting"),
        (replace(GOOD, seen=touched(size_bytes=8)), FileClass.PENDING, "changed"),
        (replace(GOOD, seen=touched(mtime_ns=2)), FileClass.PENDING, "changed"),
        (replace(GOOD, seen=touched(ctime_ns=2)), FileClass.PENDING, "changed"),
        (
            replace(GOOD, seen=touched(mtime_ns=2), reread=Reread(size_bytes=9, sha256=SHA)),
            FileClass.STORED,
            None,
        ),
        (
            replace(GOOD, reread=Reread(size_bytes=9, sha256=b"other")),
            FileClass.PENDING,
            "read again",
        ),
        (replace(GOOD, reread=Reread(problem="bad sector")), FileClass.PENDING, "bad sector"),
        (
            replace(GOOD, seen=replace(SEEN, entry_type=EntryType.LINK)),
            FileClass.PENDING,
            "no longer a file",
        ),
        (replace(GOOD, proof=None), FileClass.PENDING, "nobody asked"),
        (
            replace(GOOD, proof=Proof(result=None, reason="no answer")),
            FileClass.PENDING,
            "no answer",
        ),
        (
            replace(GOOD, proof=Proof(result=CheckResult.MISSING, reason="not there")),
            FileClass.QUARANTINED,
            "not there",
        ),
        (
            replace(GOOD, proof=Proof(result=CheckResult.DIFFERENT, reason="other")),
            FileClass.QUARANTINED,
            "other",
        ),
        (
            replace(GOOD, path_text="S/a.txt", booked=None, proof=None),
            FileClass.SKIPPED,
            "extension",
        ),
        (
            replace(
                GOOD, seen=replace(SEEN, entry_type=EntryType.LINK), booked=None, proof=None
            ),
            FileClass.SKIPPED,
            "symbolic link",
        ),
        (
            replace(
                GOOD, seen=replace(SEEN, entry_type=EntryType.PIPE), booked=None, proof=None
            ),
            FileClass.SKIPPED,
            "not a regular file",
        ),
    ],
)  # fmt: skip
def test_every_file_is_in_one_class_and_blocks_unless_it_is_proven(facts, file_class, words):
    found = account(facts, RULES)
    assert found.file_class is file_class
    assert found.blocks is (words is not None)
    if words is not None:
        assert words in found.reason


@pytest.mark.parametrize("path", ["S/._a.wav", "S/.DS_Store", ".Trashes/a.wav", "S/a.tmp"])
@pytest.mark.parametrize(
    "facts",
    [
        replace(GOOD, booked=None, proof=None),
        replace(GOOD, seen=None, booked=booked(UploadState.VANISHED)),
        replace(GOOD, booked=booked(UploadState.FAILED)),
        replace(GOOD, seen=touched(mtime_ns=2)),
    ],
)
def test_only_junk_and_what_is_excluded_may_be_absent(path, facts):
    found = account(replace(facts, path_text=path), RULES)
    assert (found.file_class, found.blocks) == (FileClass.SKIPPED, False)


def summed(*files: FileFacts) -> Account:
    made = Account()
    for each in files:
        made.add(account(each, RULES))
    return made


def about(made: Account, **changes) -> Circumstances:
    calm = {
        "listed": made.seen, "booked": made.booked, "swept": True, "last_sweep_complete": True,
    }  # fmt: skip
    return Circumstances(**{**calm, **changes})


JUNK = FileFacts(path_text="S/.DS_Store", sensor="S", seen=SEEN)


def test_safe_needs_a_compared_file_and_nothing_against_it():
    made = summed(GOOD, JUNK)
    assert made.close(about(made)) is Verdict.SAFE
    assert (made.compared, made.ignored) == (1, {"junk": 1})


@pytest.mark.parametrize(
    ("files", "changes", "words"),
    [
        ((GOOD,), {"swept": False}, "never swept"),
        ((GOOD,), {"last_sweep_complete": False, "last_sweep_problem": "S3: denied"}, "denied"),
        ((GOOD,), {"last_sweep_complete": None}, "partial"),
        ((GOOD,), {"listing_problem": "S3: Permission denied"}, "Permission denied"),
        ((), {}, "no file in the folder"),
        ((JUNK,), {}, "no file in the folder"),
        ((replace(GOOD, seen=None),), {}, "no file in the folder"),
    ],
)
def test_what_holds_for_the_whole_folder_can_stand_against_it(files, changes, words):
    made = summed(*files)
    assert made.close(about(made, **changes)) is Verdict.NOT_SAFE
    assert any(words in p.reason and p.path == "" for p in made.problems)


@pytest.mark.parametrize("changes", [{"listed": 2}, {"booked": 2}, {"listed": 0}])
def test_where_the_classes_do_not_add_up_there_is_no_receipt(changes):
    made = summed(GOOD)
    with pytest.raises(DoesNotAddUpError, match="try again"):
        made.close(about(made, **changes))


def test_a_conflict_whose_contents_are_stored_is_shown_and_does_not_block():
    made = summed(replace(GOOD, booked=replace(STORED, conflict=True)))
    assert made.close(about(made)) is Verdict.SAFE
    assert made.conflicts == 1


def test_the_manifest_keeps_lines_apart():
    odd = account(replace(GOOD, path_text="S/50%\r\n.wav"), RULES)
    assert manifest_line(odd) == f"{SHA.hex()}  S/50%25%0D%0A.wav\n"
    assert manifest_line(account(replace(GOOD, proof=None), RULES)) is None


# --- ten thousand tamperings --------------------------------------------------------------


@dataclass(kw_only=True)
class World:
    """A folder, the books and a store, as they really behave: whoever writes a file changes its
    ctime, an ETag is the MD5 of the bytes, and the books know only what was stored.
    """

    dice: random.Random
    folder: dict[str, tuple[EntryType, Fingerprint, bytes]] = field(default_factory=dict)
    books: dict[str, Booked] = field(default_factory=dict)
    etags: dict[str, str | None] = field(default_factory=dict)
    store: dict[str, bytes] = field(default_factory=dict)
    silent: bool = False
    proofs: dict[str, tuple[Booked, Proof]] = field(default_factory=dict)
    listing_problem: str | None = None
    reread: bool = False
    ticks: int = 100

    def __post_init__(self) -> None:
        names = ["a.wav", "b.wav", "c.wav", "d.wav", "._a.wav", "notes.tmp"]
        for name in self.dice.sample(names, self.dice.randint(1, len(names))):
            self.write(name, self.content())
            if not name.startswith("._") and not name.endswith(".tmp"):
                self.upload(name)

    def content(self) -> bytes:
        return self.dice.choice([b"", b"x", b"recording", b"RECORDING", b"another"])

    def write(self, name: str, content: bytes, *, keep_mtime: bool = False) -> None:
        self.ticks += 1
        old = self.folder.get(name)
        mtime = old[1].mtime_ns if old and keep_mtime else self.ticks
        known = Fingerprint(size_bytes=len(content), mtime_ns=mtime, ctime_ns=self.ticks)
        self.folder[name] = (EntryType.FILE, known, content)

    def upload(self, name: str) -> None:
        _, known, content = self.folder[name]
        key = f"C1/{name}"
        self.store[key] = content
        self.etags[name] = hashlib.md5(content).hexdigest()
        self.books[name] = Booked(
            state=UploadState.UPLOADED,
            fingerprint=known,
            object_key=key,
            sha256=hashlib.sha256(content).digest(),
        )

    # what goes wrong

    def tamper(self, *, with_store: bool) -> None:
        kinds = [self.source_trouble, self.ledger_trouble, *([self.store_trouble] * with_store)]
        self.dice.choice(kinds)()

    def source_trouble(self) -> None:
        name = self.dice.choice([*self.folder, "new.wav", "e.wav"])
        match self.dice.randint(0, 6):
            case 0:
                self.write(name, self.content())
            case 1:
                self.write(name, self.content(), keep_mtime=True)
            case 2:
                self.folder.pop(name, None)
            case 3 if name in self.folder:
                self.folder[name] = (EntryType.LINK, *self.folder[name][1:])
            case 4:
                self.listing_problem = "S: Permission denied"
            case 5:
                self.folder.clear()
            case 6 if name in self.folder:
                self.upload(name)  # the daemon was at work meanwhile

    def ledger_trouble(self) -> None:
        if not self.books:
            return
        name = self.dice.choice(list(self.books))
        row = self.books[name]
        match self.dice.randint(0, 6):
            case 0:
                del self.books[name]
            case 1:
                self.books[name] = replace(row, state=self.dice.choice(list(UploadState)))
            case 2:
                self.books[name] = replace(row, sha256=self.dice.randbytes(32))
            case 3:
                self.etags[name] = self.dice.choice([None, "", self.dice.randbytes(16).hex()])
            case 4:
                other = self.books[self.dice.choice(list(self.books))]
                self.books[name] = replace(row, object_key=other.object_key)
            case 5:
                self.books[name] = replace(row, object_key=None)
            case 6:
                size = row.fingerprint.size_bytes + self.dice.choice([-1, 1])
                self.books[name] = replace(
                    row, fingerprint=replace(row.fingerprint, size_bytes=size)
                )

    def store_trouble(self) -> None:
        if not self.store:
            return
        key = self.dice.choice(list(self.store))
        match self.dice.randint(0, 4):
            case 0:
                del self.store[key]
            case 1:
                self.store[key] = self.content()
            case 2:
                self.store[key] = self.store[key][:-1]
            case 3:
                self.store[key] = self.store[self.dice.choice(list(self.store))]
            case 4:
                self.silent = True

    # what is asked

    def ask_store(self) -> None:
        """Prove every object as the program does: by ETag, by reading where there is none."""
        for name, row in self.books.items():
            if row.stored:
                self.proofs[name] = (row, self.prove(name, row))

    def prove(self, name: str, row: Booked) -> Proof:
        if self.silent:
            return Proof(result=None, reason="no answer")
        assert row.object_key is not None
        assert row.sha256 is not None
        known = KnownObject(
            upload_id=1, delivery_id=1, path=name.encode(), path_text=name,
            object_key=row.object_key, size_bytes=row.fingerprint.size_bytes, sha256=row.sha256,
            etag=self.etags[name], checksum_sha256=None,
        )  # fmt: skip
        content = self.store.get(row.object_key)
        found = content is not None and FoundObject(
            size_bytes=len(content), etag=hashlib.md5(content).hexdigest()
        )
        finding = compare_look(known, found or None)
        method = CheckMethod.HEAD
        if content is not None and finding.result is not CheckResult.SAME:
            method = CheckMethod.READ_BACK
            finding = compare_bytes(known, hashlib.sha256(content).digest(), len(content))
        return Proof(result=finding.result, method=method, reason=finding.reason)

    def verdict(self) -> Verdict:
        made = Account()
        for name in self.folder.keys() | self.books.keys():
            made.add(account(self.facts(name), RULES))
        there = len(self.folder)
        return made.close(
            Circumstances(
                listed=there,
                booked=len(self.books),
                swept=True,
                last_sweep_complete=True,
                listing_problem=self.listing_problem,
            )
        )

    def facts(self, name: str) -> FileFacts:
        entry, row = self.folder.get(name), self.books.get(name)
        reread = None
        if self.reread and entry is not None and row is not None and row.stored:
            reread = Reread(size_bytes=len(entry[2]), sha256=hashlib.sha256(entry[2]).digest())
        # A row that was written anew is another upload: nothing was proven of it.
        proven, proof = self.proofs.get(name, (None, None))
        return FileFacts(
            path_text=name,
            sensor="",
            seen=None if entry is None else Seen(entry_type=entry[0], fingerprint=entry[1]),
            booked=row,
            proof=proof if proven is row else None,
            reread=reread,
        )

    def missing(self) -> list[str]:
        """Name the files whose bytes the store had nowhere when it was asked: seen from outside."""
        return [
            name
            for name, (_, _, content) in self.folder.items()
            if not name.startswith("._") and not name.endswith(".tmp")
            if content not in self.held
        ]

    def ask_everybody(self) -> Verdict:
        """Let things go wrong before and between the steps, and give the verdict."""
        for _ in range(self.dice.choice([0, 1, 1, 2, 3])):
            self.tamper(with_store=True)
        self.held = set(self.store.values())
        self.ask_store()
        for _ in range(self.dice.choice([0, 0, 1, 2])):
            self.tamper(with_store=False)
        return self.verdict()


def test_nobody_is_told_safe_with_a_byte_missing():
    safe = 0
    for seed in range(10_000):
        world = World(dice=random.Random(seed), reread=seed % 3 == 0)
        if world.ask_everybody() is Verdict.SAFE:
            safe += 1
            assert world.missing() == [], seed
            assert world.folder, seed
            assert world.listing_problem is None, seed
            assert not world.silent, seed
    assert safe > 500, "a verdict that is never SAFE would be no use"


# --- signatures ---------------------------------------------------------------------------


def signed(key) -> dict:
    document = {
        "format": "x",
        "verdict": "SAFE",
        "files": {"n": [1, "ä"]},
        "public_key": key.public,
    }
    return document | {"signature": key.sign(document)}


def test_a_signature_holds_for_what_was_signed_and_nothing_else(tmp_path):
    key = receipt_key(tmp_path)
    other = receipt_key(tmp_path / "other")
    document = signed(key)
    again = json.loads(json.dumps(document, indent=3))
    assert signature_problem(again, key.public) is None
    assert digest_of(again) == digest_of(document)
    for changed in (
        document | {"verdict": "NOT SAFE"},
        document | {"more": 1},
        {k: v for k, v in document.items() if k != "files"},
        document | {"signature": base64.b64encode(bytes(64)).decode()},
        document | {"signature": "?"},
        {k: v for k, v in document.items() if k != "signature"},
        document | {"public_key": other.public},
    ):
        assert signature_problem(changed, key.public), changed
    assert "another key" in (signature_problem(signed(other), key.public) or "")
    assert signature_problem(document, "ed25519:short")


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path):
    state = tmp_path / "state"
    first = receipt_key(state).public
    assert receipt_key(state).public == first
    assert stat.S_IMODE((state / "receipt-key.pem").stat().st_mode) == 0o600
    assert [each.name for each in state.iterdir()] == ["receipt-key.pem"]
    (state / "receipt-key.pem").write_text("no key")
    with pytest.raises(KeyProblemError, match="backup"):
        receipt_key(state)


def test_whoever_only_verifies_makes_no_key(tmp_path):
    with pytest.raises(KeyProblemError, match="--public-key"):
        receipt_key(tmp_path / "state", make=False)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "text",
    [
        '{"verdict": "SAFE", "format": "sensordrop-receipt-1", "verdict": "NOT SAFE"}',
        '{"format": "sensordrop-receipt-1", "counts": NaN}',
        '{"format": ' + "[" * 100_000,
        '{"format": "another"}',
    ],
)
def test_what_two_programs_would_read_differently_is_no_receipt(tmp_path, text):
    path = tmp_path / "receipt.json"
    path.write_text(text)
    check = ReceiptCheck(config=None, local=None, database=None, progress=lambda _: None)
    with pytest.raises(click.UsageError, match="no receipt"):
        check.go(path, public_key="ed25519:x", store=False)


def test_a_receipt_without_a_verdict_is_refused_in_words(tmp_path):
    (tmp_path / "receipt.json").write_text('{"format": "sensordrop-receipt-1"}')
    check = ReceiptCheck(config=None, local=None, database=None, progress=lambda _: None)
    found = check.go(tmp_path, public_key=receipt_key(tmp_path / "state").public, store=False)
    assert (found.verdict, found.genuine) == ("NOT SAFE", False)
    assert found.problems


# --- the shelf ----------------------------------------------------------------------------


def shelf(state) -> ReceiptShelf:
    return ReceiptShelf(state, receipt_key(state), lambda _: "<p>")


def finished(writer) -> str:
    told = {"counts": {"stored": {"bytes": 0, "files": 0}}, "made_at": "2025-09-09T09:20:00+00:00"}
    return writer.finish(told).folder


def test_what_a_killed_receipt_left_is_tidied_and_what_is_being_written_is_not(tmp_path):
    killed = tmp_path / "receipts" / ".20250909T092000Z-north.0a1b2c3d"
    killed.mkdir(parents=True)
    (killed / "files.jsonl").write_text("half")
    one = shelf(tmp_path).begin("now-north")
    other = shelf(tmp_path).begin("now-north")  # another thread or program, in the same second
    assert not killed.exists()
    one.add(account(FileFacts(path_text="a.wav", sensor="", seen=SEEN), Selection()))
    first = finished(one)
    second = finished(other)
    assert (Path(first) / "files.jsonl").read_text().count("a.wav") == 1
    assert (Path(second) / "files.jsonl").read_text() == ""
    kept = {each.name for each in (tmp_path / "receipts").iterdir()}
    assert kept == {Path(first).name, Path(second).name}
    shelf(tmp_path).begin("more").discard()
    assert {each.name for each in (tmp_path / "receipts").iterdir()} == kept


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    writer = shelf(tmp_path).begin("now-north")
    writer.add(account(FileFacts(path_text="a.wav", sensor="", seen=SEEN), Selection()))
    for part in (writer._manifest, writer._files):
        raw = part._file.detach()
        raw.close()
        part._file = open("/dev/full", "wb")  # noqa: PTH123, SIM115 — closed by what is tested
        part._file.write(b"x")
    writer.discard()
    assert list((tmp_path / "receipts").iterdir()) == []


class Shop:
    """A store that has one object under every key."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def look(self, key: str) -> FoundObject:
        return FoundObject(size_bytes=len(self.content), etag="")

    def read_back(self, key: str, stop: object) -> tuple[bytes, int]:
        return hashlib.sha256(self.content).digest(), len(self.content)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [("https://a", None), ("https://b", "SHA-256"), ("https://c", "not in this configuration")],
)
def test_a_cards_objects_are_looked_for_in_their_own_store(tmp_path, endpoint, words):
    line = {
        "path": "a.wav", "class": "stored", "key": "field/C1/a.wav", "endpoint_url": endpoint,
        "bytes": 1, "sha256": hashlib.sha256(b"a").hexdigest(), "etag": None,
    }  # fmt: skip
    (tmp_path / "files.jsonl").write_text(json.dumps(line) + "\n")
    document = {"scope": {"card": "/card"}, "stores": [], "files": {"name": "files.jsonl"}}
    stores = {("https://a", "field"): Shop(b"a"), ("https://b", "field"): Shop(b"b")}
    found = Checked()
    check = ReceiptCheck(config=None, local=None, database=None, progress=lambda _: None)
    check._ask_store(tmp_path / "receipt.json", document, stores, found)
    assert [p.reason for p in found.problems if words is None or words not in p.reason] == []
    assert (found.objects, len(found.problems)) == ((1, 0) if words is None else (0, 1))
