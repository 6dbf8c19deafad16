"""The engine's services on a real ledger and a real folder, where things go wrong between them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest
from test_ledger import (
    NOW,
    RULES,
    ask,
    binding,
    receipt,
    register,
    row,
    states,
    sweep,
)

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.finder import FindFinder
from sensordrop.adapters.source import FolderSource
from sensordrop.core.failure import (
    Failure,
    FailureError,
    FailureScope,
    LedgerUnavailableError,
)
from sensordrop.core.lifecycle import RecordUploaded, RetryPolicy, Stored
from sensordrop.core.model import Hint, HintKind
from sensordrop.core.selection import Selection
from sensordrop.engine.delivery import Bell, Delivery, DeliverySettings
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.scout import Scout
from sensordrop.engine.uploader import Uploader
from sensordrop.ports.reading import DigestPlan
from sensordrop.ports.records import Commit, EnrollRules

PATIENCE_SECONDS = 30.0
QUICK = EnrollRules(selection=Selection(), sensor_level=1, quiet_seconds=0.3)


class Store:
    """A destination that keeps nothing: it counts, waits for its gates, and fails when told."""

    def __init__(self, failure: Failure | None = None, gates: int = 0) -> None:
        self.calls = 0
        self.failure = failure
        self.gates = [threading.Event() for _ in range(gates)]

    def digest_plan(self, size_bytes):
        return DigestPlan()

    def quick(self, content, object_key, *, look=False):
        return None

    def preflight(self, prefix):
        return ()

    def store(self, content, object_key, stop, *, sender=None, journal=None, look_first=False):
        self.calls += 1
        if self.calls <= len(self.gates):
            assert self.gates[self.calls - 1].wait(PATIENCE_SECONDS)
        if self.failure is not None:
            raise FailureError(self.failure)
        return Stored(receipt=receipt(object_key, content.sha256))


class Blind:
    """A watcher that watches nothing."""

    def watch(self, delivery, root): ...
    def unwatch(self, delivery): ...
    def check(self, delivery): ...
    def close(self): ...
    def watching(self, delivery):
        return False

    def problem(self, delivery):
        return None

    def canary_age_seconds(self, delivery):
        return None


def wait_until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.02)


def make(root, delivery_id, store, name="north", can_watch=lambda: False) -> Delivery:
    source = FolderSource(str(root))
    return Delivery(
        device=source.device(),
        settings=DeliverySettings(
            name=name,
            delivery_id=delivery_id,
            root=str(root),
            s3_prefix="C1",
            rules=QUICK,
            policy=RetryPolicy(quiet_seconds=0.3),
            priority=0,
            max_workers=4,
            sweep_interval_seconds=3600,
            polling_interval_seconds=None,
            can_watch=can_watch,
            writer_check=False,
            vanish_share=0.5,
            enabled=True,
            breaker_keys={FailureScope.DESTINATION: name},
            source=source,
            destination=store,
            make_finder=FindFinder,
        ),
    )


def drop(root, name="a.wav"):
    path = root / "S1" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"recording")
    os.utime(path, (1e9, 1e9))
    return path


def enroll(ledger, delivery):
    chunks = FindFinder().list(delivery.settings.root, threading.Event(), lambda _: None)
    later = time.time_ns() + 10**10  # all that is there counts as settled
    return ledger.enroll_listing(
        delivery.delivery_id, chunks, QUICK, wall_ns=later, most_unsettled=10
    )


@pytest.fixture
def services():
    """Start services, and end them whatever happens."""
    running: list[tuple[threading.Event, threading.Thread, Callable[[], None]]] = []

    def start(service, wake) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=service.run, args=(stop,), daemon=True)
        running.append((stop, thread, wake))
        thread.start()

    yield start
    for stop, _, _ in running:
        stop.set()
    for _, thread, wake in running:
        while thread.is_alive():
            wake()
            thread.join(0.1)


@pytest.fixture
def upload(ledger, services):
    def start(place, *deliveries: Delivery) -> Uploader:
        uploader = Uploader(
            ledger=ledger,
            clock=SystemClock(),
            deliveries=deliveries,
            daemon_id=lambda: place[0].daemon_id,
        )
        services(uploader, uploader.wake)
        return uploader

    return start


@pytest.fixture
def scout(ledger, services):
    def start(delivery: Delivery, wake=lambda: None) -> Scout:
        bell = Bell()
        made = Scout(
            ledger=ledger,
            clock=SystemClock(),
            deliveries=[delivery],
            watcher=Blind(),
            hints=HintQueue(bell),
            bell=bell,
            wake_uploader=wake,
            daemon_id=lambda: 0,
        )
        services(made, bell.ring)
        return made

    return start


def queue(database):
    return ask(database, "SELECT upload_id FROM upload_queue")


def test_a_daemon_that_was_declared_dead_claims_nothing(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"))
    ask(database, "UPDATE daemons SET heartbeat_at = now() - interval '2 minutes'")
    ledger.take_back_dead()
    assert ledger.claim(place.daemon_id, delivery, 10) == []
    assert len(ledger.claim(register(ledger).daemon_id, delivery, 10)) == 1


def test_a_file_that_is_claimed_anew_while_its_old_attempt_runs_is_finished(
    ledger,
    database,
    tmp_path,
    upload,
):
    place = [register(ledger)]
    store = Store(gates=2)
    drop(tmp_path)
    delivery = make(tmp_path, place[0].delivery_ids["north"], store)
    enroll(ledger, delivery)
    uploader = upload(place, delivery)
    wait_until(lambda: store.calls == 1, "the first attempt runs")
    place[0] = register(ledger)  # declared dead and registered anew: the claim is free again
    uploader.wake()
    wait_until(lambda: store.calls == 2, "the second attempt runs")
    store.gates[0].set()
    store.gates[1].set()
    wait_until(lambda: queue(database) == [], "the file is finished")
    assert states(database) == {"S1/a.wav": "uploaded"}


def test_claims_whose_answer_was_lost_are_not_forgotten(
    ledger,
    database,
    tmp_path,
    upload,
    monkeypatch,
):
    place = register(ledger)
    drop(tmp_path)
    delivery = make(tmp_path, place.delivery_ids["north"], Store())
    enroll(ledger, delivery)
    claim, lost = ledger.claim, []

    def claim_and_lose_the_answer(*arguments):
        claims = claim(*arguments)
        if claims and not lost:
            lost.append(True)
            raise LedgerUnavailableError("the answer to COMMIT was lost")
        return claims

    monkeypatch.setattr(ledger, "claim", claim_and_lose_the_answer)
    upload([place], delivery)
    wait_until(lambda: states(database) == {"S1/a.wav": "uploaded"}, "the file is stored")
    assert lost


def test_a_suspect_of_a_dead_store_holds_nobody_up(
    ledger,
    database,
    tmp_path,
    upload,
):
    place = register(ledger, binding("north"), binding("south"))
    down = Failure(scope=FailureScope.DESTINATION, error_class="connect", message="down")
    dead, healthy = Store(failure=down), Store()
    (tmp_path / "n").mkdir()
    (tmp_path / "s").mkdir()
    north = make(tmp_path / "n", place.delivery_ids["north"], dead)
    south = make(tmp_path / "s", place.delivery_ids["south"], healthy, "south")
    drop(tmp_path / "n")
    enroll(ledger, north)
    ask(database, "UPDATE upload_queue SET crashes = 2")
    uploader = upload([place], north, south)
    wait_until(lambda: dead.calls >= 1, "the suspect was tried")
    drop(tmp_path / "s", "b.wav")
    enroll(ledger, south)
    uploader.wake()
    wait_until(lambda: healthy.calls == 1, "the healthy store got its file")
    assert dead.calls < 10


def test_a_session_ends_although_a_sweep_was_lost_after_it_had_opened_it(
    ledger,
    database,
    tmp_path,
    upload,
    scout,
    monkeypatch,
):
    place = register(ledger)
    drop(tmp_path)
    delivery = make(tmp_path, place.delivery_ids["north"], Store())
    publish, lost = ledger.publish_sweep, []

    def publish_or_lose(*arguments):
        if states(database) and not lost:
            lost.append(True)
            raise LedgerUnavailableError("it was restarted")
        return publish(*arguments)

    monkeypatch.setattr(ledger, "publish_sweep", publish_or_lose)
    uploader = upload([place], delivery)
    made = scout(delivery, uploader.wake)
    time.sleep(QUICK.quiet_seconds)
    made.sweep_soon("north", "test")
    ended = [("ended",)]
    wait_until(lambda: ask(database, "SELECT state FROM sync_sessions") == ended, "it ended")


def test_a_folder_that_is_offline_is_not_claimed_from(
    ledger,
    database,
    tmp_path,
    upload,
):
    place = register(ledger, binding("north"), binding("south"))
    (tmp_path / "n").mkdir()
    (tmp_path / "s").mkdir()
    away = make(tmp_path / "n", place.delivery_ids["north"], Store())
    there = make(tmp_path / "s", place.delivery_ids["south"], Store(), "south")
    drop(tmp_path / "n")
    drop(tmp_path / "s")
    enroll(ledger, away)
    enroll(ledger, there)
    away.offline_reason = "the folder is missing"
    upload([place], away, there)
    wait_until(
        lambda: ask(database, "SELECT claim_number FROM upload_queue") == [(0,)],
        "the other delivery's file is written down, and this one's was never claimed",
    )
    assert there.settings.destination.calls == 1


def test_a_disk_that_is_not_mounted_at_the_start_makes_nothing_vanish(
    ledger,
    database,
    tmp_path,
    upload,
    scout,
):
    place = register(ledger)
    delivery = make(tmp_path, place.delivery_ids["north"], Store())
    delivery.device = None  # as at a start
    sweep(ledger, delivery.delivery_id, row(b"S1/a.wav"), row(b"S1/b.wav"))
    uploader = upload([place], delivery)
    scout(delivery, uploader.wake)
    wait_until(lambda: delivery.offline_reason, "the folder counts as offline")
    assert "is the disk mounted?" in delivery.offline_reason
    assert set(states(database).values()) == {"pending"}
    drop(tmp_path)
    drop(tmp_path, "b.wav")
    stored = {"S1/a.wav": "uploaded", "S1/b.wav": "uploaded"}
    wait_until(lambda: states(database) == stored, "the files are back and stored")


def test_a_sweep_that_meets_a_bug_is_tried_again(ledger, database, tmp_path, services):
    place = register(ledger)
    drop(tmp_path)
    calls: list[int] = []

    def can_watch() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("an odd line of mountinfo")
        return False

    delivery = make(tmp_path, place.delivery_ids["north"], Store(), can_watch=can_watch)
    bell = Bell()
    scout = Scout(
        ledger=ledger,
        clock=SystemClock(),
        deliveries=[delivery],
        watcher=Blind(),
        hints=HintQueue(bell),
        bell=bell,
        wake_uploader=lambda: None,
        daemon_id=lambda: 0,
    )

    class Restarted:
        """The supervisor's part: run the service again after it raised."""

        def run(self, stop) -> None:
            while not stop.is_set():
                try:
                    scout.run(stop)
                except ValueError as bug:
                    assert "mountinfo" in str(bug)  # noqa: PT017 — others end the test

    services(Restarted(), bell.ring)
    wait_until(lambda: states(database) == {"S1/a.wav": "pending"}, "the file is on the books")
    assert len(calls) > 1, "it met the bug, and was asked again"


def test_times_beyond_what_the_ledger_keeps_stop_nobody(ledger, tmp_path):
    place = register(ledger)
    path = drop(tmp_path)
    far = 2**63 - 1  # some file systems keep less: then this is an ordinary time
    os.utime(path, ns=(far, far))
    delivery = make(tmp_path, place.delivery_ids["north"], Store())
    assert enroll(ledger, delivery).new == 1
    beyond = row(b"S/b").replace(b"\t10\t", b"\t10\t99999999999999.5\t", 1).split(b"\t")
    line = b"\t".join([beyond[0], beyond[1], beyond[2], *beyond[4:]])
    assert sweep(ledger, delivery.delivery_id, line).new == 1
    seen = delivery.settings.source.look(b"S1/a.wav")
    assert seen is not None
    assert abs(seen.fingerprint.mtime_ns) < 2**63


def test_a_delivery_that_is_pointed_elsewhere_ends_its_session(ledger, database):
    place = register(ledger)
    sweep(ledger, place.delivery_ids["north"], row(b"S/a"))
    register(ledger, binding(s3_prefix="C2", cycle="C2"))
    assert ask(database, "SELECT state::text FROM sync_sessions") == [("ended",)]


def test_a_delivery_that_becomes_shared_is_not_doubled(ledger, database):
    place = register(ledger)
    sweep(ledger, place.delivery_ids["north"], row(b"S/a"))
    place = register(ledger, binding(shared=True))
    sweep(ledger, place.delivery_ids["north"], row(b"S/a"))
    assert len(queue(database)) == 1
    assert len(ledger.status()) == 1


def test_a_file_that_was_a_link_for_a_while_is_not_counted_as_ignored(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"))
    claim = ledger.claim(place.daemon_id, delivery, 1)[0]
    stored = Commit(claim=claim, action=RecordUploaded(receipt=receipt()))
    ledger.commit(place.daemon_id, [stored], NOW)
    sweep(ledger, delivery, row(b"S/a", 5, kind="l"), rules=RULES)
    sweep(ledger, delivery, row(b"S/a", 12))
    assert ask(database, "SELECT count(*) FROM ignored_files") == [(0,)]


def test_closing_does_not_wait_for_a_statement_of_another_thread(ledger):
    broken_off = threading.Event()

    def ask_for_long() -> None:
        try:
            with ledger._connections.transaction() as cursor:
                cursor.execute(f"SELECT pg_sleep({3 * PATIENCE_SECONDS})")
        except LedgerUnavailableError:
            broken_off.set()

    asking = threading.Thread(target=ask_for_long, daemon=True)
    asking.start()
    wait_until(lambda: ledger._connections._open, "the statement runs")
    time.sleep(0.2)
    ledger.close()
    assert broken_off.wait(PATIENCE_SECONDS)


def test_a_look_that_ends_between_two_steps_keeps_what_it_looked_for(ledger, database, tmp_path):
    """The next look may begin before the last one's outcome was taken up: each keeps its own."""
    place = register(ledger)
    delivery = make(tmp_path, place.delivery_ids["north"], Store())
    bell = Bell()
    hints = HintQueue(bell)
    scout = Scout(
        ledger=ledger,
        clock=SystemClock(),
        deliveries=[delivery],
        watcher=Blind(),
        hints=hints,
        bell=bell,
        wake_uploader=lambda: None,
        daemon_id=lambda: place.daemon_id,
    )
    (folder,) = scout._folders.values()
    for name in ("first.wav", "second.wav"):
        drop(tmp_path, name)
        hints.offer(Hint(delivery=delivery.name, path=f"S1/{name}".encode(), kind=HintKind.CLOSED))
        scout._follow_hints(folder)
        wait_until(lambda: not scout._looks.under_way(delivery.name), "it was looked at")
    scout._take_looked()
    scout._looks.close(PATIENCE_SECONDS)
    assert states(database) == dict.fromkeys(["S1/first.wav", "S1/second.wav"], "pending")
