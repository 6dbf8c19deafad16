"""kill -9 at any instant, of anything, any number of times: then start, and everything arrives.

The kills come at chosen moments and at seeded random ones. What a run did is told when it fails;
SENSORDROP_TEST_SEED plays the same choices again.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg2
import pytest
from between import GoBetween
from daemon import (
    RunningDaemon,
    Station,
    age,
    drop_files,
    embedded_processes,
    under_prefix,
    wait_until,
)
from local_daemon import LocalDaemon

from sensordrop.adapters.s3 import S3Settings

SEED = int(os.environ.get("SENSORDROP_TEST_SEED", "20251121"))
MIB = 1024 * 1024
THRESHOLD_BYTES = 5 * MIB
"""Files from this size on go in parts here."""
PART_BYTES = S3Settings(bucket_name="any").minimum_part_bytes
WORKERS = 4
KILLS = 16
STORED = frozenset({"uploaded", "skipped"})
"""After a crash a file that arrived, but was not written down, is found stored: skipped."""


# --- helpers ------------------------------------------------------------------------------


class Cards:
    """Makes files of a seeded size and content, drops them, and knows what must arrive."""

    def __init__(self, drop: Path, chance: random.Random) -> None:
        self._drop = drop
        self._chance = chance
        self.digests: dict[str, str] = {}
        self.large: dict[str, int] = {}
        """Files that go in parts, with how many parts."""

    def small(self, count: int) -> None:
        """Drop files of 1 byte to 2 MiB, most of them small."""
        for _ in range(count):
            self._copy(int(2 ** self._chance.uniform(0, 21)))

    def in_parts(self, parts: int) -> None:
        """Drop one file that is sent in so many parts."""
        path = self._copy((parts - 1) * PART_BYTES + THRESHOLD_BYTES + self._chance.randrange(MIB))
        self.large[path] = parts

    def _copy(self, size_bytes: int) -> str:
        number = len(self.digests)
        path = f"95{number % 7:04d}/DATA/20250909_{number:06d}.WAV"
        content = self._chance.randbytes(size_bytes)
        self.digests |= drop_files(self._drop, {path: content})
        return path


def everything_is_stored(station: Station, digests: dict[str, str]) -> bool:
    states = station.ledger.states()
    return states.keys() == digests.keys() and set(states.values()) <= STORED


def assert_all_is_well(station: Station, digests: dict[str, str], seed: int = SEED) -> None:
    """Assert what must hold after any story of crashes, once the daemon was let run."""
    station.wait_for(
        lambda: everything_is_stored(station, digests),
        what=f"all files stored (seed {seed}): {sorted(station.ledger.states().items())[:9]}…",
    )
    station.wait_for(
        lambda: all(s["state"] == "ended" for s in station.ledger.sessions()),
        what="sessions ended",
    )
    assert station.daemon.stop() == 0, station.daemon.story()
    # Exactly one object for each file: no copy beside, nothing half sent.
    assert station.bucket.digests() == under_prefix(digests)
    rows = station.ledger.uploads()
    assert len(rows) == len(digests), "a file is on the books twice"
    assert not [row["path"] for row in rows if row["conflict"] or row["crashes"]]
    assert {row["path"]: row["digest"] for row in rows} == digests
    station.assert_sound()
    # Every file was of exactly one session, and no session was without files.
    sessions = station.ledger.sessions()
    assert sum(s["files_total"] for s in sessions) == len(digests)
    assert all(s["files_total"] > 0 for s in sessions)
    assert sum(s["files_uploaded"] + s["files_skipped"] for s in sessions) == len(digests)


def postmaster(station_or_state: Path) -> psutil.Process:
    """Find the embedded PostgreSQL's first process."""
    lines = (station_or_state / "postgresql" / "data" / "postmaster.pid").read_text().split("\n")
    return psutil.Process(int(lines[0]))


def kill_when(daemon: RunningDaemon, happened: Callable[[], bool], *, what: str) -> None:
    """Launch the daemon and kill it as soon as something is seen (or it ended by itself)."""
    daemon.launch()
    try:
        give_up = time.monotonic() + 60
        while not happened():
            assert daemon.running, f"it ended before {what}: {daemon.story()}"
            assert time.monotonic() < give_up, f"never: {what}: {daemon.story()}"
            time.sleep(0.002)
    finally:
        daemon.kill9()


# --- the daemon ---------------------------------------------------------------------------


@pytest.mark.parametrize("server_kind", ["moto", "rclone"])
def test_killed_again_and_again_while_cards_are_dropped(make_station, request, server_kind):
    seed = SEED + len(server_kind)
    chance = random.Random(seed)
    server = request.getfixturevalue(server_kind)

    def a_slow_wire(_method: str, _path: str) -> None:
        time.sleep(0.01)  # so that the kills find uploads under way

    with GoBetween(server.endpoint_url, refuse=a_slow_wire) as between:
        station = make_station(server)
        station.configure()
        station.delivery(
            endpoint_url=between.endpoint_url,
            max_workers=WORKERS,
            multipart_threshold_bytes=THRESHOLD_BYTES,
        )
        cards = Cards(station.drop, chance)
        cards.small(80)
        cards.in_parts(2)
        daemon = station.new_daemon()
        killed_at_work = 0
        for round_number in range(KILLS):
            requests_before = len(between.requests)
            dropper = threading.Thread(target=cards.small, args=(20,))
            enough = chance.randrange(1, 60)
            delay = chance.uniform(0.0, 2.5)
            by_work = chance.random() < 0.7
            if round_number in (4, 9):
                cards.in_parts(1)
            daemon.launch()
            dropper.start()
            give_up = time.monotonic() + (8.0 if by_work else delay)
            while time.monotonic() < give_up and not (
                by_work and len(between.requests) - requests_before >= enough
            ):
                time.sleep(0.005)
            daemon.kill9()
            killed_at_work += len(between.requests) > requests_before
            dropper.join()
        assert killed_at_work >= KILLS // 3, "the kills came too early to show anything"
        daemon.start()
        assert_all_is_well(station, cards.digests, seed)
        assert_nothing_was_sent_needlessly(between, cards)
        assert len(station.ledger.sessions()) <= KILLS + 1


def assert_nothing_was_sent_needlessly(between: GoBetween, cards: Cards) -> None:
    """Assert that each kill cost no more than the uploads that were under way."""
    large = tuple(cards.large)
    puts = between.puts()
    of_small = [path for path in puts if not path.endswith(large)]
    of_large = [path for path in puts if path.endswith(large)]
    files = len(cards.digests) - len(large)
    assert files <= len(of_small) <= files + KILLS * WORKERS, "small files"
    most_parts = max(cards.large.values())
    parts = sum(cards.large.values())
    assert parts <= len(of_large) <= parts + KILLS * len(large) * most_parts


def test_what_was_stored_but_not_written_down_is_not_sent_again(station, moto):
    """The narrowest gap: the bytes are there, and the ledger could not be told."""
    files = {f"950349/{number}.wav": b"sound %d" % number for number in range(WORKERS)}
    with GoBetween(moto.endpoint_url) as between:
        station.delivery(endpoint_url=between.endpoint_url, max_workers=WORKERS)
        between.gate.clear()
        digests = drop_files(station.drop, files)
        station.start()
        station.wait_for(lambda: between.waiting == WORKERS, what="uploads under way")
        with closing(psycopg2.connect(station.database)) as connection:
            connection.cursor().execute("LOCK TABLE file_uploads IN EXCLUSIVE MODE")
            between.gate.set()
            station.wait_for(lambda: len(between.puts()) == WORKERS, what="all is stored")
            station.daemon.kill9()
        assert set(station.ledger.states().values()) == {"pending"}
        station.start()
        assert_all_is_well(station, digests)
        assert set(station.ledger.states().values()) == {"skipped"}
        assert len(between.puts()) == WORKERS


# --- starting and stopping ----------------------------------------------------------------


def test_killed_during_the_very_first_start(make_station, moto):
    """Initdb, the server's start, the migration: each may be the last thing that was done."""
    station: Station = make_station(moto, database="embedded")
    station.configure()
    station.delivery()
    digests = drop_files(station.drop, {f"s{n}/{n}.wav": b"x" * n for n in range(20)})
    age(station.drop)
    home = station.state / "postgresql"
    daemon = station.new_daemon()
    kill_when(daemon, (home / "data.new").exists, what="initdb runs")
    kill_when(daemon, (home / "data.new" / "global").exists, what="initdb has begun")
    kill_when(daemon, (home / "data").exists, what="the cluster is made")
    kill_when(daemon, lambda: any((home / "socket").glob(".s*")), what="the server listens")
    kill_when(daemon, lambda: bool(daemon.logs("ledger_migrated")), what="the tables are made")
    chance = random.Random(SEED)
    for _ in range(2):
        daemon.launch()
        time.sleep(chance.uniform(0.1, 2.0))
        daemon.kill9()
    daemon.start()
    assert_embedded_is_well(station, digests)


def test_killed_while_it_stops(make_station, rclone):
    station: Station = make_station(rclone, database="embedded")
    station.configure()
    station.delivery()
    chance = random.Random(SEED)
    digests: dict[str, str] = {}
    daemon = station.new_daemon()
    for round_number in range(4):
        daemon.start()
        digests |= drop_files(
            station.drop,
            {f"s{round_number}/{n}.wav": chance.randbytes(1 + 900 * n) for n in range(40)},
        )
        time.sleep(chance.uniform(0.0, 0.3))
        daemon.signal(signal.SIGTERM)
        time.sleep(chance.uniform(0.0, 0.4))
        daemon.kill9()
    daemon.start()
    assert_embedded_is_well(station, digests)


def assert_embedded_is_well(station: Station, digests: dict[str, str]) -> None:
    """Assert the same with an embedded ledger, and that its last program ended it."""
    station.wait_for(lambda: everything_is_stored(station, digests), what="all files stored")
    station.wait_for(
        lambda: all(s["state"] == "ended" for s in station.ledger.sessions()),
        what="sessions ended",
    )
    assert len(station.ledger.uploads()) == len(digests)
    station.assert_sound()
    assert station.bucket.digests() == under_prefix(digests)
    assert station.daemon.stop() == 0, station.daemon.story()
    assert embedded_processes(station.folder) == []


# --- the servers that it runs itself ------------------------------------------------------


def test_the_embedded_ledger_comes_back_by_itself(make_station, moto):
    station: Station = make_station(moto, database="embedded")
    station.configure()
    station.delivery()
    daemon = station.start()
    digests = drop_files(station.drop, {"s1/before.wav": b"before"})
    station.wait_for(lambda: everything_is_stored(station, digests), what="the first file")
    for round_number in range(2):
        files = {f"s{round_number}/{n}.wav": b"%d" % n * (n + 1) for n in range(30)}
        digests |= drop_files(station.drop, dict(list(files.items())[:15]))
        told = len(daemon.logs("ledger_unavailable"))
        if round_number == 0:
            postmaster(station.state).kill()
        else:  # a server process: PostgreSQL itself starts all others anew
            wait_until(lambda: _killed_what_serves_the_daemon(station), what="somebody to kill")
        digests |= drop_files(station.drop, dict(list(files.items())[15:]))
        station.wait_for(
            lambda seen=told: len(daemon.logs("ledger_unavailable")) > seen,
            what=f"the daemon noticing kill {round_number}",
        )
        station.wait_for(
            lambda expected=dict(digests): _everything_is_stored_at_last(station, expected),
            what=f"all files stored after kill {round_number}",
        )
    assert_embedded_is_well(station, digests)


def _killed_what_serves_the_daemon(station: Station) -> bool:
    for process in postmaster(station.state).children():
        with suppress(psutil.NoSuchProcess):  # a worker of the server's that has ended
            if ": sensordrop sensordrop" in " ".join(process.cmdline()):
                process.kill()
                return True
    return False


def _everything_is_stored_at_last(station: Station, digests: dict[str, str]) -> bool:
    try:
        return everything_is_stored(station, digests)
    except psycopg2.OperationalError:
        return False  # it is ending or being started again: at any of the questions


def test_the_local_store_comes_back_by_itself(tmp_path):
    local = LocalDaemon(tmp_path)
    try:
        local.start()
        digests: dict[str, str] = {}
        address = local.greeting()["S3 address"]
        for round_number in range(2):
            victim = local.store_process()
            digests |= drop_files(
                local.drop, {f"s{round_number}/a{n}.wav": b"a%d" % n for n in range(20)}
            )
            victim.kill()
            digests |= drop_files(
                local.drop, {f"s{round_number}/b{n}.wav": b"b%d" % n for n in range(20)}
            )
            local.wait_for_objects(under_prefix(digests))
            assert local.store_process().pid != victim.pid
        assert local.status()["counts"]["failed"] == 0
        local.wait_for(lambda: local.status()["session"] is None, what="the session ends")
        counts = local.status()["counts"]
        assert counts["uploaded"] + counts["skipped"] == len(digests)
        assert address in local.output()
        assert local.stop() == 0, local.story()
        assert local.processes() == []
    finally:
        local.end_whatever_happens()


def test_daemon_ledger_and_store_killed_together(tmp_path):
    """A power cut: nothing had time to do anything."""
    local = LocalDaemon(tmp_path)
    chance = random.Random(SEED)
    digests: dict[str, str] = {}
    try:
        for round_number in range(3):
            local.start()
            digests |= drop_files(
                local.drop,
                {f"s{round_number}/{n}.wav": chance.randbytes(1 + 3000 * n) for n in range(30)},
            )
            time.sleep(chance.uniform(0.1, 2.0))
            for process in [psutil.Process(local.pid), *local.processes()]:
                with suppress(psutil.NoSuchProcess):  # PostgreSQL's end with their first
                    process.kill()
            local.wait_for_end()
            wait_until(lambda: local.processes() == [], what="all are dead")
        local.start()
        local.wait_for_objects(under_prefix(digests))
        local.wait_for(lambda: local.status()["session"] is None, what="the session ends")
        counts = local.status()["counts"]
        assert counts["uploaded"] + counts["skipped"] == len(digests)
        assert {
            k: counts[k] for k in ("failed", "superseded", "vanished", "pending")
        } == dict.fromkeys(("failed", "superseded", "vanished", "pending"), 0)
        assert local.stop() == 0, local.story()
        assert local.processes() == []
    finally:
        local.end_whatever_happens()
