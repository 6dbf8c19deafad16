"""Verifying on a real ledger, where the store is one that the test can damage as it likes."""

from __future__ import annotations

import hashlib

import pytest
from test_engine import make
from test_ledger import NOW, ask, binding, register, row, sweep

from sensordrop.adapters.clock import SystemClock
from sensordrop.core.failure import Failure, FailureError, FailureScope
from sensordrop.core.lifecycle import RecordSkipped, RecordUploaded
from sensordrop.core.model import Receipt
from sensordrop.core.verification import CheckMethod, FoundObject, Verdict, verdict
from sensordrop.engine import verifier
from sensordrop.engine.verifier import Verifier, VerifyOptions
from sensordrop.ports.records import Commit
from sensordrop.ports.storing import ListedObject, ListedPage
from sensordrop.ports.verifying import VerifyScope


class Vault:
    """A destination that holds what the test put there, and counts what it is asked."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.asked: list[str] = []
        self.trouble: dict[str, FailureScope] = {}
        self.archived: set[str] = set()
        self.page = 1_000

    def put(self, key: str, content: bytes, etag: str = "e") -> None:
        self.objects[key], self.etags[key] = content, etag

    def list_page(self, prefix, token):
        self._ask("list", "")
        keys = sorted(self.objects)
        at = int(token or 0)
        objects = [
            ListedObject(key=k, size_bytes=len(self.objects[k]), etag=self.etags[k])
            for k in keys[at : at + self.page]
        ]
        more = at + self.page < len(keys)
        return ListedPage(objects=objects, next_token=str(at + self.page) if more else None)

    def look(self, object_key):
        self._ask("look", object_key)
        if object_key not in self.objects:
            return None
        return FoundObject(size_bytes=len(self.objects[object_key]), etag=self.etags[object_key])

    def read_back(self, object_key, stop):
        self._ask("read", object_key)
        if object_key in self.archived:
            return None
        content = self.objects[object_key]
        return hashlib.sha256(content).digest(), len(content)

    def _ask(self, verb, object_key):
        self.asked.append(verb)
        scope = self.trouble.get(object_key) or self.trouble.get(verb)
        if scope is not None:
            raise FailureError(
                Failure(scope=scope, error_class="connect", message="no answer", hint="look there")
            )


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
def place(ledger):
    return register(ledger)


@pytest.fixture
def delivery(place, vault, tmp_path):
    return make(tmp_path, place.delivery_ids["north"], vault)


def store(ledger, place, vault, *names: str, name="north", action=RecordUploaded, **extra) -> None:
    """Get files on the books as stored, and into the vault."""
    delivery_id = place.delivery_ids[name]
    sweep(ledger, delivery_id, *(row(n.encode(), len(n)) for n in names))
    for claim in ledger.claim(place.daemon_id, delivery_id, 1_000):
        content = claim.path_text.encode()
        key = f"C1/{claim.path_text}"
        vault.put(key, content)
        told = Receipt(object_key=key, sha256=hashlib.sha256(content).digest(), etag="e")
        done = Commit(claim=claim, action=action(receipt=told, **extra))
        ledger.commit(place.daemon_id, [done], NOW)
    ask(
        ledger._connections._dsn(),
        "INSERT INTO delivery_status (delivery_id, state, last_sweep_ended_at, last_sweep_complete)"
        " VALUES (%s, 'watching', now(), true) ON CONFLICT DO NOTHING",
        delivery_id,
    )


def verify(ledger, delivery, **options):
    told: list[str] = []
    asked_for = VerifyOptions(**options)
    made = Verifier(ledger=ledger, clock=SystemClock(), options=asked_for, progress=told.append)
    (target,) = [
        t
        for t in ledger.deliveries_to_verify(station="hut", session_id=asked_for.session_id)
        if t.delivery_id == delivery.delivery_id
    ]
    return made.verify(target, delivery)


def reasons(report) -> dict[str, str]:
    return {p.path: p.reason for p in report.problems}


def test_bytes_that_rotted_are_found_by_reading_and_stay_found(ledger, place, vault, delivery):
    store(ledger, place, vault, "S/a.wav", "S/b.wav")
    vault.objects["C1/S/b.wav"] = b"S/X.wav"  # size and ETag are what they were
    assert verdict([verify(ledger, delivery)]) is Verdict.SAFE, "no listing can see it"
    report = verify(ledger, delivery, download=True)
    assert verdict([report]) is Verdict.NOT_SAFE
    assert report.different == 1
    assert "SHA-256" in reasons(report)["S/b.wav"]
    for weaker in ({}, {"sample": 1.0}, {"sensor": "S"}):
        report = verify(ledger, delivery, **weaker)
        assert verdict([report]) is Verdict.NOT_SAFE, "a weaker look does not see it, or forget it"
        assert "only --download" in reasons(report)["S/b.wav"]
    vault.objects["C1/S/b.wav"] = b"S/b.wav"
    assert verdict([verify(ledger, delivery, download=True)]) is Verdict.SAFE


def test_every_version_that_was_stored_must_be_there(ledger, place, vault, delivery, database):
    store(ledger, place, vault, "S/a.wav")
    ask(database, "UPDATE file_uploads SET is_current = false, state = 'superseded',"
                  " superseded_from = 'uploaded'")  # fmt: skip
    store(ledger, place, vault, "S/b.wav", action=RecordSkipped, evidence="same")
    report = verify(ledger, delivery)
    assert (report.files, report.missing) == (2, 0)
    del vault.objects["C1/S/a.wav"]
    assert verify(ledger, delivery).missing == 1


def test_an_object_that_a_listing_did_not_show_yet_is_looked_for(
    ledger, place, vault, delivery, monkeypatch
):
    store(ledger, place, vault, "S/a.wav", "S/b.wav")
    pages = vault.list_page("C1", None).objects[:1]
    late = ListedPage(objects=pages, next_token=None)
    monkeypatch.setattr(vault, "list_page", lambda *_: late)
    report = verify(ledger, delivery)
    assert (verdict([report]), report.checked["head"]) == (Verdict.SAFE, 1)


@pytest.mark.parametrize("scope", [FailureScope.FILE, FailureScope.DESTINATION])
@pytest.mark.parametrize("options", [{"download": True}, {"sample": 1.0}, {"sensor": "S"}])
def test_what_could_not_be_asked_is_unchecked(ledger, place, vault, delivery, scope, options):
    store(ledger, place, vault, "S/a.wav", "S/b.wav", "S/c.wav")
    vault.trouble["C1/S/b.wav"] = scope
    report = verify(ledger, delivery, **options)
    assert verdict([report]) is Verdict.NOT_SAFE
    assert report.unchecked >= 1
    assert "no answer" in reasons(report)["S/b.wav"]
    vault.trouble.clear()
    assert verdict([verify(ledger, delivery, **options)]) is Verdict.SAFE


def test_a_store_that_does_not_answer_leaves_all_unchecked(ledger, place, vault, delivery):
    store(ledger, place, vault, "S/a.wav", "S/b.wav")
    vault.trouble["list"] = FailureScope.PROJECT
    report = verify(ledger, delivery)
    assert (verdict([report]), report.unchecked, report.extra) == (Verdict.NOT_SAFE, 2, None)
    assert vault.asked == ["list"], "it is not asked for each object"


def test_an_archived_object_can_not_be_read_back(ledger, place, vault, delivery):
    store(ledger, place, vault, "S/a.wav")
    vault.archived.add("C1/S/a.wav")
    assert verdict([verify(ledger, delivery)]) is Verdict.SAFE
    report = verify(ledger, delivery, download=True)
    assert (verdict([report]), report.unchecked) == (Verdict.NOT_SAFE, 1)
    assert "archived" in reasons(report)["S/a.wav"]


def test_an_object_without_any_digest_is_not_taken_on_its_size(
    ledger, place, vault, delivery, database
):
    store(ledger, place, vault, "S/a.wav")
    ask(database, "UPDATE file_uploads SET etag = NULL")
    report = verify(ledger, delivery)
    assert (verdict([report]), report.unchecked) == (Verdict.NOT_SAFE, 1)
    assert verdict([verify(ledger, delivery, download=True)]) is Verdict.SAFE


def test_a_file_that_vanished_is_a_problem_though_another_has_its_name_size_and_time(
    ledger, place, vault, delivery, database
):
    """Two recorders on one schedule write such files; one of them may be lost."""
    store(ledger, place, vault, "S/a.wav", "T/b.wav")
    ask(database, "UPDATE file_uploads SET state = 'vanished', path = 'R/b.wav',"
                  " object_key = NULL WHERE path = 'S/a.wav'")  # fmt: skip
    ask(database, "UPDATE file_uploads SET mtime_ns = 1")
    assert reasons(verify(ledger, delivery)).keys() == {"R/b.wav"}


def test_what_another_delivery_stored_below_the_same_prefix_is_not_extra(ledger, vault, tmp_path):
    place = register(ledger, binding(), binding("south"))
    store(ledger, place, vault, "S/a.wav")
    store(ledger, place, vault, "S/b.wav", name="south")
    vault.put("C1/S/stranger.wav", b"?")
    report = verify(ledger, make(tmp_path, place.delivery_ids["north"], vault))
    assert [each.key for each in report.extras] == ["C1/S/stranger.wav"]
    assert (report.files, report.extra) == (1, 1)


def test_problems_are_listed_up_to_a_limit_and_counted_beyond(
    ledger, place, vault, delivery, monkeypatch
):
    store(ledger, place, vault, *(f"S/{n:03}.wav" for n in range(300)))
    vault.objects.clear()
    monkeypatch.setattr(verifier, "MOST_PROBLEMS", 10)
    monkeypatch.setattr(verifier, "LOOKS", 7)
    monkeypatch.setattr(verifier, "PAGE_OBJECTS", 50)
    report = verify(ledger, delivery)
    assert (len(report.problems), report.problem_count, report.missing) == (10, 300, 300)
    assert vault.asked.count("look") == 7
    assert verify(ledger, delivery, download=True).missing == 300


def test_a_part_with_many_files_is_listed_rather_than_looked_at(
    ledger, place, vault, delivery, monkeypatch
):
    store(ledger, place, vault, *(f"S/{n:03}.wav" for n in range(300)), "T/x.wav")
    monkeypatch.setattr(verifier, "LOOKS", 100)
    monkeypatch.setattr(verifier, "PROGRESS_OBJECTS", 100)
    vault.page = 60
    report = verify(ledger, delivery, sensor="S")
    assert (report.files, report.checked["listing"], report.extra) == (300, 300, None)
    assert "look" not in vault.asked


def test_findings_are_written_down_with_method_and_time(ledger, place, vault, delivery, database):
    store(ledger, place, vault, "S/a.wav")
    verify(ledger, delivery)
    first = ask(database, "SELECT checked_at, method::text, result::text FROM object_checks")
    assert [r[1:] for r in first] == [(CheckMethod.LISTING, "same")]
    verify(ledger, delivery, download=True)
    second = ask(database, "SELECT checked_at, method::text, result::text FROM object_checks")
    assert [r[1:] for r in second] == [("read-back", "same")]
    assert second[0][0] > first[0][0]


def test_a_scope_that_is_all_of_a_delivery_is_not_narrowed():
    assert not VerifyScope(delivery_id=1).narrowed
    assert VerifyScope(delivery_id=1, sensor="").narrowed
