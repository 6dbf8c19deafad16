"""A database that is cut off, read-only, full or slow: the daemon stays up, says so, and goes on.

Stopped, killed and restarted servers are in tests/e2e (test_trouble.py, test_crashes.py).
SENSORDROP_TEST_SEED chooses the instants; a failure tells the seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from daemon import Station, database_url, drop_files, short_socket_folder, under_prefix

from sensordrop.adapters.ledger.embedded import EmbeddedPostgres

SEED = int(os.environ.get("SENSORDROP_TEST_SEED", "20261121"))
STORED = {"uploaded", "skipped"}
FULL_MIB = 160
"""Room of the file system that becomes full: a cluster with its first journal, and some more."""


class Cards:
    """Drops files with seeded content, and knows what must arrive."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._chance = random.Random(SEED)
        self.digests: dict[str, str] = {}

    def drop(self, name: str, files: int = 30) -> None:
        chance = self._chance
        made = {
            f"{name}/{n:03}.wav": chance.randbytes(chance.randrange(9000)) for n in range(files)
        }
        self.digests |= drop_files(self._station.drop, made)

    def all_stored(self) -> bool:
        try:
            states = self._station.ledger.states()
        except psycopg2.Error:
            return False  # it is away just now
        return states.keys() == self.digests.keys() and {*states.values()} <= STORED

    def assert_all_is_well(self) -> None:
        station = self._station
        station.wait_for(self.all_stored, what=f"all is stored (seed {SEED})", seconds=180)
        station.wait_for(
            lambda: all(s["state"] == "ended" for s in station.ledger.sessions()),
            what="sessions ended",
        )
        assert station.bucket.digests() == under_prefix(self.digests)
        rows = station.ledger.uploads()
        assert len(rows) == len(self.digests), "a file is on the books twice"
        assert not [row["path"] for row in rows if row["conflict"] or row["attempts"]]
        assert station.daemon.logs("bug") == []
        assert station.daemon.logs("service_failed") == []
        station.assert_sound()


def test_connections_that_are_cut_at_any_instant_lose_nothing(station):
    """pg_terminate_backend on whatever the daemon is doing, some hundred times."""
    cards = Cards(station)
    chance = random.Random(SEED)
    station.start()
    cut = 0
    for number in range(12):
        cards.drop(f"card{number}")
        for _ in range(8):
            time.sleep(chance.uniform(0.0, 0.15))
            rows = station.ledger.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'sensordrop%%' AND datname = current_database()"
                " AND pid <> pg_backend_pid() ORDER BY random() LIMIT %s",
                chance.randrange(1, 4),
            )
            cut += len(rows)
    assert cut > 5, "hardly anything was cut"
    cards.assert_all_is_well()
    assert station.daemon.logs("ledger_unavailable") != []
    assert station.daemon.logs("ledger_back") != []


def test_a_read_only_database_is_told_and_waited_for(station):
    """As after a failover to a standby; at work, and at a start."""
    name = psycopg2.extensions.parse_dsn(station.database)["dbname"]
    cards = Cards(station)
    cards.drop("before")
    station.start()
    station.wait_for(cards.all_stored, what="the first card is stored")

    def set_read_only(value: str) -> None:
        with psycopg2.connect(station.database) as connection:
            connection.set_session(autocommit=True, readonly=False)
            cursor = connection.cursor()
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'sensordrop%' AND datname = current_database()"
            )
        connection.close()

    set_read_only("on")
    cards.drop("during")
    told = station.wait_for(
        lambda: [
            line
            for line in station.daemon.logs("ledger_unavailable")
            if "read-only" in line["problem"]
        ],
        what="the journal says read-only",
    )
    assert told[0]["hint"]
    assert station.daemon.stop() == 0
    daemon = station.new_daemon()
    daemon.launch()
    assert "read-only" in daemon.wait_for_log("ledger_unavailable")["problem"]
    set_read_only("off")
    daemon.wait_for_log("daemon_started")
    cards.assert_all_is_well()


def fill(file: Path) -> None:
    """Write until there is no room left; raises OSError then."""
    with file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(65_536))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system with little room."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={FULL_MIB}m,mode=755", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_database_whose_disk_is_full_goes_on_when_there_is_room_again(
    make_station, moto, tmp_path
):
    with small_disk(tmp_path / "disk") as disk:
        server = EmbeddedPostgres(disk / "postgresql")
        server.start()
        with short_socket_folder(server.socket_directory) as folder:
            station = make_station(moto, database=database_url(folder, "sensordrop"))
            station.configure()
            station.delivery()
            cards = Cards(station)
            cards.drop("before")
            station.start()
            station.wait_for(cards.all_stored, what="the first card is stored")
            ballast = disk / "ballast"
            # All that is free: whatever the server writes beyond its files finds no room.
            with pytest.raises(OSError, match="space"):
                fill(ballast)
            for number in range(40):
                cards.drop(f"during{number}", 400)
                if station.daemon.logs("ledger_unavailable"):
                    break
                time.sleep(0.5)
            station.daemon.wait_for_log("ledger_unavailable", seconds=120)
            assert station.daemon.running
            ballast.unlink()
            server.ensure_running()  # a full journal ends the server itself
            cards.assert_all_is_well()
            assert station.daemon.stop() == 0
        server.stop()
