"""What the ledger tells for the metrics is what is in it, and asking costs and hinders nobody."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import psycopg2
import pytest
from test_ledger import NOW, ask, binding, receipt, register, row, sweep

from sensordrop.adapters.ledger import vitals
from sensordrop.core.failure import Failure, FailureScope, LedgerUnavailableError
from sensordrop.core.lifecycle import Quarantine, RecordUploaded, Retry
from sensordrop.core.vitals import DeliveryReading
from sensordrop.ports.records import Commit

WEARY = Failure(scope=FailureScope.FILE, error_class="unreadable", message="no")


@pytest.fixture
def places(ledger):
    """Give a ledger with two deliveries, and their registration."""
    return ledger, register(ledger, binding("north"), binding("south", s3_prefix="C2"))


def work(ledger, registration, name: str, **actions) -> None:
    """Put a file for each action on the books of a delivery, claim all, and commit the actions."""
    delivery_id = registration.delivery_ids[name]
    sweep(ledger, delivery_id, *(row(b"s/" + path.encode(), 100) for path in actions))
    claims = ledger.claim(registration.daemon_id, delivery_id, 100)
    done = [
        Commit(claim=claim, action=actions[claim.path_text[2:]])
        for claim in claims
        if actions[claim.path_text[2:]] is not None
    ]
    assert ledger.commit(registration.daemon_id, done, NOW) == len(done)


def standing(reading: DeliveryReading) -> DeliveryReading:
    """Give a reading without its speeds, which change as time goes by."""
    assert reading.session is not None
    progress = replace(
        reading.session.progress,
        files_per_second=0.0, bytes_per_second=0.0, best_bytes_per_second=0.0,
    )  # fmt: skip
    return replace(reading, session=replace(reading.session, progress=progress))


def test_a_reading_tells_how_each_delivery_stands(places, database):
    ledger, registration = places
    north, south = (registration.delivery_ids[name] for name in ("north", "south"))
    work(
        ledger, registration, "north",
        stored=RecordUploaded(receipt=receipt()), bad=Quarantine(failure=WEARY),
        again=Retry(failure=WEARY, until=NOW + timedelta(hours=1)), held=None,
    )  # fmt: skip
    sweep(ledger, north, row(b"s/fresh", 1000))
    ask(
        database,
        "UPDATE file_uploads SET enrolled_at = timestamptz 'epoch' + CASE path"
        " WHEN 's/again' THEN interval '50 s' WHEN 's/held' THEN interval '60 s'"
        " WHEN 's/stored' THEN interval '1 s' ELSE interval '70 s' END",
    )
    ledger.note_audit(registration.daemon_id, [], position=None, round_over=False, used_seconds=0)
    (stored,) = ask(database, "SELECT id FROM file_uploads WHERE path = 's/stored'")
    ask(
        database,
        "INSERT INTO object_checks VALUES (%s, %s, now(), 'head', 'missing', 'gone')",
        *stored,
        north,
    )
    read = ledger.read_vitals(registration.daemon_id, [north, south])
    found = read.deliveries[north]
    assert found.counts["uploaded"] == (1, 100)
    assert found.counts["failed"] == (1, 100)
    assert found.counts["pending"] == (3, 1200)
    assert found.uploading == 1
    assert found.oldest_pending_at == 50
    assert found.last_success_at == pytest.approx(time.time(), abs=600)
    assert found.mismatches == 1
    assert found.session is not None
    progress = found.session.progress
    assert (progress.total, progress.bytes, progress.uploaded, progress.failed) == (5, 1400, 1, 1)
    assert (progress.files_left, progress.bytes_left) == (3, 1200)
    assert progress.files_per_second > 0
    empty = read.deliveries[south]
    assert (empty.counts, empty.uploading, empty.oldest_pending_at) == ({}, 0, None)
    assert (empty.session, empty.mismatches, empty.last_success_at) == (None, 0, None)


def test_counts_are_the_same_before_and_after_they_are_folded(places):
    ledger, registration = places
    north = registration.delivery_ids["north"]
    work(ledger, registration, "north", stored=RecordUploaded(receipt=receipt()), waits=None)
    before = standing(ledger.read_vitals(registration.daemon_id, [north]).deliveries[north])
    assert ledger.fold_counters() > 0
    after = standing(ledger.read_vitals(registration.daemon_id, [north]).deliveries[north])
    assert after == before


def test_the_last_success_is_that_of_the_newest_hour_whatever_it_came_to(places, database):
    ledger, registration = places
    north, south = (registration.delivery_ids[name] for name in ("north", "south"))
    at = "timestamptz 'epoch' + interval '%s h'"
    for delivery_id, result, hour in [
        (north, "uploaded", 10), (north, "uploaded", 15), (north, "skipped", 12),
        (north, "failed", 20), (south, "failed", 30),
    ]:  # fmt: skip
        ask(
            database,
            f"INSERT INTO hourly_rates VALUES (%s, %s, {at}, 1, 1, {at})",
            delivery_id, result, hour, hour,
        )  # fmt: skip
    read = ledger.read_vitals(registration.daemon_id, [north, south])
    assert read.deliveries[north].last_success_at == 15 * 3600
    assert read.deliveries[south].last_success_at is None


def test_a_reading_waits_for_no_row_that_somebody_holds(places, database):
    ledger, registration = places
    north = registration.delivery_ids["north"]
    work(ledger, registration, "north", stored=RecordUploaded(receipt=receipt()), waits=None)
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute("UPDATE upload_queue SET attempts = attempts")
        cursor.execute("UPDATE file_uploads SET attempts = attempts")
        cursor.execute("UPDATE sync_sessions SET files_total = files_total")
        read = ledger.read_vitals(registration.daemon_id, [north])
    assert read.deliveries[north].counts["uploaded"] == (1, 100)


def test_a_reading_that_takes_too_long_is_given_up(places, database, monkeypatch):
    ledger, registration = places
    monkeypatch.setattr(vitals, "STATEMENT_TIMEOUT_MILLISECONDS", 50)
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE delivery_counts IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            ledger.read_vitals(registration.daemon_id, list(registration.delivery_ids.values()))
    assert ledger.ping() >= 0


def test_an_answer_is_timed(places):
    ledger, _ = places
    assert 0 <= ledger.ping() < 30
