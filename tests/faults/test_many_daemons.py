"""Several daemons on one ledger: they share work, survive each other, and write nothing twice."""

from __future__ import annotations

import signal
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from between import GoBetween
from daemon import Station, age, drop_files, under_prefix

from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.ports.records import DeliveryBinding

STATIONS = 6
FILES = 300
"""More than one daemon claims at a time, so that both have some."""
STORED = {"uploaded", "skipped"}


def shared_delivery(client: str) -> DeliveryBinding:
    return DeliveryBinding(
        name="common",
        client=client,
        project="birds",
        cycle="C1",
        local_directory="/drop/common",
        bucket_name=f"birds-of-{client}",
        s3_prefix="C1",
        endpoint_url=None,
        aws_region=None,
        sensor_level=1,
        shared=True,
        enabled=True,
        selection={},
        configuration={},
    )


@pytest.mark.parametrize("they_agree", [True, False])
def test_stations_may_register_a_new_shared_delivery_at_once(ledger, database, they_agree):
    """Where they disagree whose it is, the last one has its way, as if they had come in turn."""
    for _ in range(5):
        together = threading.Barrier(STATIONS)

        def register(number: int, together: threading.Barrier = together) -> int:
            with closing(PostgresLedger(lambda: database)) as mine:
                mine.open_sessions([])  # connected: what follows happens at the same time
                together.wait()
                registered = mine.register(
                    station=f"station {number}",
                    instance=uuid.uuid4(),
                    origin="daemon",
                    version="0",
                    bindings=[shared_delivery("acme" if they_agree else f"client-{number}")],
                    daemon_configuration={},
                    crashed=False,
                )
                return registered.delivery_ids["common"]

        with ThreadPoolExecutor(STATIONS) as threads:
            ids = set(threads.map(register, range(STATIONS)))
        assert len(ids) == (1 if they_agree else STATIONS)
        with ledger._connections.transaction() as cursor:
            cursor.execute("UPDATE deliveries SET retired_at = now() WHERE retired_at IS NULL")
            assert cursor.rowcount == 1, "one of them is in force; the next round makes a new one"


def let_the_heartbeat_be_old(station: Station, of: Station) -> None:
    """Age the heartbeat of another station's daemon: it is dead for all that the ledger knows."""
    station.ledger.rows(
        "UPDATE daemons SET heartbeat_at = now() - interval '10 minutes' WHERE ended_at IS NULL"
        " AND station_id = (SELECT id FROM stations WHERE name = %s) RETURNING id",
        of.daemon_keys["station"],
    )


def claims_of(station: Station) -> int:
    """Count the files that a station's daemons hold."""
    (row,) = station.ledger.rows(
        "SELECT count(*) AS files FROM upload_queue q JOIN daemons d ON d.id = q.claimed_by"
        " JOIN stations s ON s.id = d.station_id WHERE s.name = %s",
        station.daemon_keys["station"],
    )
    return int(row["files"])


def all_stored(station: Station, digests: dict[str, str]) -> bool:
    states = station.ledger.states()
    return states.keys() >= digests.keys() and {states[path] for path in digests} <= STORED


@pytest.fixture
def two(make_station, moto, tmp_path):
    """Give two stations that share a delivery, behind one gate; the second has one of its own."""
    shared = tmp_path / "shared"
    shared.mkdir()
    with GoBetween(moto.endpoint_url) as between:
        hut: Station = make_station(moto)
        hill: Station = make_station(moto, bucket=hut.bucket.name)
        for station, name in ((hut, "hut"), (hill, "hill")):
            station.configure(station=name)
            station.delivery(
                "common",
                local_directory=str(shared),
                endpoint_url=between.endpoint_url,
                shared=True,
            )
        hill.delivery("own", s3_prefix="C2", project="own")
        yield hut, hill, shared, between


def snapshot(station: Station) -> dict[str, object]:
    return {
        row["path"]: (row["state"], row["claim_number"], row["finished_at"], row["object_key"])
        for row in station.ledger.uploads()
    }


@pytest.mark.timeout(600)
def test_a_frozen_one_writes_nothing_down_and_a_killed_one_leaves_nothing_behind(two):
    hut, hill, shared, between = two
    between.gate.clear()
    digests = drop(shared, "first")
    own = drop_files(hill.drop, {f"s/{n}.wav": b"own %d" % n for n in range(5)})
    hut.start()
    hut.wait_for(lambda: claims_of(hut) > 0 and between.waiting > 0, what="the hut has claims")
    hill.start()
    hill.wait_for(lambda: claims_of(hill) > 0, what="the hill has some too")

    # The hut freezes while its uploads are on their way; they arrive, and it can't say so.
    hut.daemon.signal(signal.SIGSTOP)
    let_the_heartbeat_be_old(hill, hut)
    between.gate.set()
    hill.wait_for(lambda: all_stored(hill, digests | own), what="the hill stores it all")
    hill.wait_for(
        lambda: all(s["state"] == "ended" for s in hill.ledger.sessions()), what="sessions ended"
    )
    before = snapshot(hill)
    hut.daemon.signal(signal.SIGCONT)
    hut.daemon.wait_for_log("declared_dead")
    hut.wait_for(lambda: claims_of(hut) == 0, what="it holds nothing")
    hut.wait_for(lambda: bool(hut.daemon.logs("claims_lost")), what="its outcomes were refused")
    assert snapshot(hill) == before, "a lost lease was written down"

    # Both work again; then one is killed in the middle, and the other ends the work.
    between.gate.clear()
    more = drop(shared, "second")
    hut.wait_for(lambda: claims_of(hut) > 0 and claims_of(hill) > 0, what="both have claims")
    hill.daemon.kill9()
    let_the_heartbeat_be_old(hut, hill)
    between.gate.set()
    hut.wait_for(lambda: all_stored(hut, digests | more), what="the hut stores the rest")
    hut.wait_for(
        lambda: all(s["state"] == "ended" for s in hut.ledger.sessions()), what="sessions ended"
    )
    assert hut.daemon.stop() == 0
    rows = hut.ledger.uploads()
    assert len(rows) == 2 * FILES + len(own), "a file is on the books twice"
    assert not [row["path"] for row in rows if row["conflict"] or row["attempts"]]
    assert hut.bucket.digests() == under_prefix(digests | more) | under_prefix(own, "C2")
    stored = between.puts()
    assert len(stored) == len(set(stored)), "bytes were taken twice"
    hut.assert_sound()
    sessions = hut.ledger.sessions()
    assert sum(s["files_total"] for s in sessions) == len(rows)


def drop(shared: Path, name: str) -> dict[str, str]:
    """Drop a card into the shared folder, as if it had been there for long."""
    card = shared.parent / f"card {name}"
    files = {f"{name}/{n:03}.wav": b"%s %d" % (name.encode(), n) for n in range(FILES)}
    digests = drop_files(card, files)
    age(card)
    (card / name).rename(shared / name)
    return digests
