"""The audit on a real ledger, where the store is one that the test can damage as it likes."""

from __future__ import annotations

import threading
import time

import pytest
from structlog.testing import capture_logs
from test_engine import make, wait_until
from test_ledger import ask, binding, register
from test_verification import Vault, store

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.ledger import verification
from sensordrop.core.failure import FailureScope
from sensordrop.engine.auditor import Auditor

PAST = "UPDATE audit_rounds SET used_until = now() - interval '1 day', began_at = now()"


@pytest.fixture
def vault() -> Vault:
    return Vault()


def auditor(ledger, place, *deliveries, share: float = 1.0) -> Auditor:
    return Auditor(
        ledger=ledger,
        clock=SystemClock(),
        deliveries=deliveries,
        daemon_id=lambda: place.daemon_id,
        share_per_day=share,
        rest_seconds=0.0,
        close_thread=ledger.close_own,
    )


def a_day_passes(database) -> None:
    """Let the audit believe that it has not looked for a day, and that its round begins now."""
    ask(database, PAST)


def step(made: Auditor) -> float:
    return made._step(threading.Event())


def checked(database) -> dict[str, str]:
    sql = (
        "SELECT f.path, k.result::text FROM object_checks k JOIN file_uploads f ON f.id = upload_id"
    )
    return dict(ask(database, sql))


def test_a_days_share_is_looked_at_and_no_more(ledger, database, vault, tmp_path):
    place = register(ledger)
    names = [f"S/{n:02}.wav" for n in range(40)]
    store(ledger, place, vault, *names)
    made = auditor(ledger, place, make(tmp_path, place.delivery_ids["north"], vault), share=0.25)
    step(made)
    assert vault.asked == [], "a new ledger was verified when it was stored"
    a_day_passes(database)
    for _ in range(5):
        step(made)
    assert sorted(checked(database)) == names[:10], "a quarter of forty, the oldest first"
    a_day_passes(database)
    ask(database, "UPDATE audit_rounds SET began_at = now() - interval '1 hour'")
    ask(database, "UPDATE file_uploads SET finished_at = now() - interval '2 hours'")
    step(auditor(ledger, place, make(tmp_path, place.delivery_ids["north"], vault), share=0.25))
    assert sorted(checked(database)) == names[:20], "a restart goes on where it was"


def test_what_was_verified_by_hand_is_not_looked_at_again_in_the_round(
    ledger, database, vault, tmp_path
):
    place = register(ledger)
    store(ledger, place, vault, "S/a.wav", "S/b.wav", "S/c.wav")
    made = auditor(ledger, place, make(tmp_path, place.delivery_ids["north"], vault))
    step(made)
    a_day_passes(database)
    ask(
        database,
        "INSERT INTO object_checks SELECT id, delivery_id, now() + interval '1 minute', 'listing',"
        " 'same' FROM file_uploads WHERE path = 'S/b.wav'",
    )
    step(made)
    assert vault.asked == ["look", "look"]


def test_a_damaged_object_is_told_once_and_shown(ledger, database, vault, tmp_path):
    place = register(ledger)
    store(ledger, place, vault, "S/a.wav", "S/b.wav", "S/c.wav")
    made = auditor(ledger, place, make(tmp_path, place.delivery_ids["north"], vault))
    step(made)
    del vault.objects["C1/S/a.wav"]
    vault.etags["C1/S/b.wav"] = "other"
    with capture_logs() as told:
        for _ in range(3):
            a_day_passes(database)
            step(made)
    events = [(each["event"], each["path"]) for each in told if each["log_level"] == "error"]
    assert events == [("object_missing", "S/a.wav"), ("object_different", "S/b.wav")]
    assert vault.asked.count("look") == 9
    assert checked(database) == {"S/a.wav": "missing", "S/b.wav": "different", "S/c.wav": "same"}
    assert ledger.status()[0].mismatches == 2
    vault.put("C1/S/a.wav", b"S/a.wav")
    a_day_passes(database)
    step(made)
    assert ledger.status()[0].mismatches == 1, "it was put back"


def test_bytes_found_different_are_not_found_well_by_a_look(ledger, database, vault, tmp_path):
    place = register(ledger)
    store(ledger, place, vault, "S/a.wav")
    ask(
        database,
        "INSERT INTO object_checks SELECT id, delivery_id, now(), 'read-back', 'different', 'rot'"
        " FROM file_uploads",
    )
    made = auditor(ledger, place, make(tmp_path, place.delivery_ids["north"], vault))
    step(made)
    a_day_passes(database)
    step(made)
    assert vault.asked == ["look"]
    assert checked(database) == {"S/a.wav": "different"}


def test_a_store_in_trouble_is_left_alone_and_nothing_is_noted_of_its_objects(
    ledger, database, vault, tmp_path
):
    place = register(ledger, binding(), binding("south", s3_prefix="C1", bucket_name="south"))
    healthy = Vault()
    store(ledger, place, vault, "S/a.wav", "S/b.wav", "S/c.wav")
    store(ledger, place, healthy, "T/d.wav", name="south")
    vault.trouble["look"] = FailureScope.DESTINATION
    north = make(tmp_path, place.delivery_ids["north"], vault)
    south = make(tmp_path, place.delivery_ids["south"], healthy, "south")
    made = auditor(ledger, place, north, south)
    step(made)
    with capture_logs() as told:
        for _ in range(3):
            a_day_passes(database)
            step(made)
    assert vault.asked == ["look"], "the first answer said enough"
    assert [each["event"] for each in told if each["log_level"] == "warning"] == ["audit_failed"]
    assert checked(database) == {"T/d.wav": "same"}
    blocked = auditor(ledger, place, south)
    south.blocked_reason = "the breaker is open"
    asked = len(healthy.asked)
    a_day_passes(database)
    step(blocked)
    assert len(healthy.asked) == asked


def test_failures_of_single_objects_use_up_the_share_too(ledger, database, vault, tmp_path):
    place = register(ledger)
    store(ledger, place, vault, *(f"S/{n:02}.wav" for n in range(40)))
    vault.trouble["look"] = FailureScope.FILE
    made = auditor(ledger, place, make(tmp_path, place.delivery_ids["north"], vault), share=0.25)
    step(made)
    a_day_passes(database)
    for _ in range(5):
        step(made)
    assert len(vault.asked) == 10


def test_a_walk_over_many_rows_goes_on_range_by_range(
    ledger, database, vault, tmp_path, monkeypatch
):
    monkeypatch.setattr(verification, "AUDIT_WINDOW", 7)
    place = register(ledger)
    store(ledger, place, vault, *(f"S/{n:02}.wav" for n in range(30)))
    ask(database, "UPDATE file_uploads SET state = 'failed' WHERE path < 'S/20'")
    ledger.fold_counters()
    made = auditor(ledger, place, make(tmp_path, place.delivery_ids["north"], vault))
    step(made)
    a_day_passes(database)
    for _ in range(6):
        step(made)
    assert len(checked(database)) == 10


def test_a_store_that_hangs_does_not_hold_up_the_end(ledger, database, vault, tmp_path):
    place = register(ledger)
    store(ledger, place, vault, "S/a.wav")
    hang = threading.Event()
    asked = threading.Event()

    def look(_key):
        asked.set()
        hang.wait(60)

    vault.look = look
    made = auditor(ledger, place, make(tmp_path, place.delivery_ids["north"], vault))
    step(made)
    a_day_passes(database)
    stop = threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    wait_until(asked.is_set, "it looks")
    began = time.monotonic()
    stop.set()
    made.wake()
    thread.join(30)
    took = time.monotonic() - began
    hang.set()
    assert not thread.is_alive()
    assert took < 20, "the hanging request would take a minute"
    assert checked(database) == {}
