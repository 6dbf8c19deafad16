"""What the ledger reads to do its work: a large ledger must cost no more than a small one.

Statistics are kept from being renewed, as they are for a while after every large card.
"""

from __future__ import annotations

import time

import pytest
from test_ledger import OLD, RULES, WALL_NS, ask, register, row, sweep

from sensordrop.adapters.ledger.enrollment import CHUNK_ROWS
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.core.model import Fingerprint, Sighting
from sensordrop.ports.records import SettledSighting

SENSORS = 300
FILES = 2 * CHUNK_ROWS
CARD = b"".join(row(b"95%04d/%06d.wav" % (n % SENSORS, n)) for n in range(FILES))


@pytest.fixture
def ledger(database) -> PostgresLedger:
    made = PostgresLedger(lambda: database)
    made.migrate()
    ask(database, "ALTER TABLE file_uploads SET (autovacuum_enabled = false)")
    ask(database, "ALTER TABLE upload_queue SET (autovacuum_enabled = false)")
    yield made
    made.close()


def rows_read(database: str, ledger: PostgresLedger, table: str) -> int:
    """Give how many rows of a table were read so far, once all that was done is counted."""
    ledger.close_own()  # a server process counts at the latest when it ends
    give_up = time.monotonic() + 30
    while ask(
        database,
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    ):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    ((read,),) = ask(
        database,
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
        " WHERE relname = %s",
        table,
    )
    return int(read)


def test_a_card_of_many_sensors_does_not_read_the_sensors_for_each_file(ledger, database):
    (delivery_id,) = register(ledger).delivery_ids.values()
    before = rows_read(database, ledger, "sensors")
    assert sweep(ledger, delivery_id, CARD).new == FILES
    assert rows_read(database, ledger, "sensors") - before < FILES


def test_one_new_file_does_not_read_all_that_are_known(ledger, database):
    (delivery_id,) = register(ledger).delivery_ids.values()
    sweep(ledger, delivery_id, CARD)
    before = rows_read(database, ledger, "file_uploads")
    fingerprint = Fingerprint(size_bytes=1, mtime_ns=OLD, ctime_ns=OLD)
    settled = [
        SettledSighting(sighting=Sighting(path=path, fingerprint=fingerprint), eager=True)
        for path in (b"950001/new.wav", b"950001/000001.wav")
    ]
    result = ledger.enroll_sightings(delivery_id, settled, RULES, wall_ns=WALL_NS)
    assert result.new == 1
    assert rows_read(database, ledger, "file_uploads") - before < 100


def test_a_claim_from_a_long_queue_reads_little_more_than_it_takes(ledger, database):
    registration = register(ledger)
    (delivery_id,) = registration.delivery_ids.values()
    sweep(ledger, delivery_id, CARD)
    before = rows_read(database, ledger, "upload_queue")
    assert len(ledger.claim(registration.daemon_id, delivery_id, 128)) == 128
    assert rows_read(database, ledger, "upload_queue") - before < 1_000
