"""Folders that hang, fail, or are not where they were: real file systems, the real scout."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))

from fuse_folder import fuse_folder
from test_engine import QUICK, Blind, Store, drop, make, wait_until
from test_ledger import ask, binding, register, states

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.mounts import filesystem_type, lasting_name, needs_polling
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.watcher import InotifyWatcher
from sensordrop.core.controls import Control, ControlKind, Rescan
from sensordrop.engine import sweeper
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.scout import Scout
from sensordrop.engine.transfers import TransferPool
from sensordrop.engine.uploader import Uploader

HUNG_SECONDS = 2.0


@pytest.fixture
def scouting(ledger) -> Iterator[Callable[..., Scout]]:
    """Start scouts on deliveries; they end with the test."""
    running: list[tuple[threading.Event, threading.Thread, Bell]] = []

    def start(place, *deliveries: Delivery, blind=False, watcher=None, clock=None) -> Scout:
        bell, stop = Bell(), threading.Event()
        hints = HintQueue(bell)
        scout = Scout(
            ledger=ledger,
            clock=clock or SystemClock(),
            deliveries=deliveries,
            watcher=watcher or (Blind() if blind else InotifyWatcher(hints)),
            hints=hints,
            bell=bell,
            wake_uploader=lambda: None,
            daemon_id=lambda: place.daemon_id,
            hung_seconds=HUNG_SECONDS,
        )
        thread = threading.Thread(target=scout.run, args=(stop,), daemon=True)
        running.append((stop, thread, bell))
        thread.start()
        return scout

    yield start
    for stop, _, _ in running:
        stop.set()
    for _, thread, bell in running:
        bell.ring()
        thread.join(60)
        assert not thread.is_alive(), "the scout waits for a folder at its end"


@contextmanager
def uploading(ledger, place, *deliveries: Delivery) -> Iterator[None]:
    """Upload with the daemon's own pool; its workers do all where there is no lane."""
    uploader = Uploader(
        ledger=ledger,
        clock=SystemClock(),
        deliveries=deliveries,
        daemon_id=lambda: place.daemon_id,
        make_pool=lambda size, abandon: TransferPool(
            size,
            abandon,
            make_lane=lambda most: CurlLane(LaneSettings(most_connections=most)),
            close_thread=ledger.close_own,
        ),
    )
    stop = threading.Event()
    thread = threading.Thread(target=uploader.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        uploader.wake()
        thread.join(60)
        assert not thread.is_alive()


def paths(ledger_dsn):
    return {path for (path,) in ask(ledger_dsn, "SELECT path FROM file_uploads")}


def test_a_share_that_does_not_answer_takes_only_its_own_delivery_offline(
    ledger, database, tmp_path, scouting
):
    place = register(ledger, binding("dead"), binding("well"), binding("well too"))
    roots = {name: tmp_path / name for name in place.delivery_ids}
    for root in roots.values():
        root.mkdir()
    with fuse_folder(roots["dead"], {"S1/first.wav": b"data"}) as share:
        deliveries = {
            name: make(root, place.delivery_ids[name], Store(), name, can_watch=lambda: True)
            for name, root in roots.items()
        }
        scouting(place, *deliveries.values())
        wait_until(lambda: paths(database) == {"S1/first.wav"}, "the share was swept")
        share.hang()
        dead = deliveries["dead"]
        wait_until(lambda: dead.offline_reason, "it is noticed")
        assert dead.offline_reason == f"the folder does not answer: {roots['dead']}"
        # Everything else goes on: hints, sweeps and states of the others.
        drop(roots["well"], "by a hint.wav")
        wait_until(lambda: "S1/by a hint.wav" in paths(database), "hints are followed")
        published = f"SELECT state FROM delivery_status WHERE delivery_id = {dead.delivery_id}"
        wait_until(lambda: ask(database, published) == [("offline",)], "it is told")
        assert deliveries["well"].offline_reason is None
        share.answer()
        wait_until(lambda: dead.offline_reason is None, "it answers again")
        wait_until(lambda: ask(database, published) == [("watching",)], "all is well")


def test_shares_that_hang_in_the_middle_of_their_sweeps_keep_nobody_from_sweeping(
    ledger, database, tmp_path, scouting
):
    names = ("dead 1", "dead 2", "dead 3")
    place = register(ledger, *[binding(name) for name in names], binding("well"))
    roots = {name: tmp_path / name for name in place.delivery_ids}
    roots["well"].mkdir()
    drop(roots["well"])
    files = {"S1/a.wav": b"data"}
    with (
        fuse_folder(roots["dead 1"], files) as one,
        fuse_folder(roots["dead 2"], files) as two,
        fuse_folder(roots["dead 3"], files) as three,
    ):
        deliveries = {
            name: make(root, place.delivery_ids[name], Store(), name)
            for name, root in roots.items()
        }
        for share in (one, two, three):
            share.hang()
        scouting(place, *deliveries.values(), blind=True)
        wait_until(lambda: "S1/a.wav" in paths(database), "the others are swept")
        dead = [deliveries[name] for name in names]
        wait_until(lambda: all(d.offline_reason for d in dead), "they are offline")
        for share in (one, two, three):
            share.answer()
        count = "SELECT count(*) FROM file_uploads"
        wait_until(lambda: ask(database, count) == [(4,)], "all are swept")


def test_a_share_that_hangs_while_its_files_are_read_keeps_nobody_else_from_uploading(
    ledger, database, tmp_path, scouting
):
    place = register(ledger, binding("dead"), binding("well"))
    roots = {name: tmp_path / name for name in place.delivery_ids}
    roots["well"].mkdir()
    with fuse_folder(roots["dead"], {f"S1/{n}.wav": b"data %d" % n for n in range(9)}) as share:
        stores = {name: Store() for name in roots}
        deliveries = {
            name: make(root, place.delivery_ids[name], stores[name], name, can_watch=lambda: True)
            for name, root in roots.items()
        }
        dead = deliveries["dead"]
        share.hang_reads()
        scouting(place, *deliveries.values())
        wait_until(lambda: len(paths(database)) == 9, "the share is on the books")
        with uploading(ledger, place, *deliveries.values()):
            claimed = "SELECT count(*) FROM upload_queue WHERE claimed_by IS NOT NULL"
            wait_until(lambda: ask(database, claimed) != [(0,)], "its files are being read")
            share.hang()
            wait_until(lambda: dead.hung, "it is noticed")
            drop(roots["well"])
            stored = "SELECT count(*) FROM file_uploads WHERE state = 'uploaded'"
            wait_until(lambda: ask(database, stored) == [(1,)], "the other delivery's is stored")
            wait_until(lambda: ask(database, claimed) == [(0,)], "its claims are given back")
            share.answer()
            wait_until(lambda: ask(database, stored) == [(10,)], "all are stored")
        assert ask(database, "SELECT * FROM upload_failures") == []
        assert stores["dead"].calls == 9, "what was written off was stored all the same"


def test_a_disk_that_holds_whoever_reads_it_keeps_no_small_file_of_others_waiting(
    ledger, database, tmp_path, scouting
):
    """The folder itself answers, as that of a dead card reader does; it is no network share."""
    place = register(ledger, binding("dead"), binding("well"))
    roots = {name: tmp_path / name for name in place.delivery_ids}
    roots["well"].mkdir()
    with fuse_folder(roots["dead"], {f"S1/{n}.wav": b"data %d" % n for n in range(3)}) as share:
        stores = {name: Store() for name in roots}
        deliveries = {
            name: make(root, place.delivery_ids[name], stores[name], name)
            for name, root in roots.items()
        }
        dead = deliveries["dead"]
        dead.settings.source.is_remote = lambda: False
        share.hang_reads()
        drop(roots["well"])
        scouting(place, *deliveries.values(), blind=True)
        wait_until(lambda: len(paths(database)) == 4, "all are on the books")
        with uploading(ledger, place, *deliveries.values()):
            wait_until(lambda: dead.offline_reason, "it is noticed")
            assert "a file does not answer: S1/" in dead.offline_reason
            stored = "SELECT count(*) FROM file_uploads WHERE state = 'uploaded'"
            wait_until(lambda: ask(database, stored) == [(1,)], "the other delivery's is stored")
            claimed = "SELECT count(*) FROM upload_queue WHERE claimed_by IS NOT NULL"
            wait_until(lambda: ask(database, claimed) == [(0,)], "all claims are given back")
            assert dead.offline_reason, "it came back though its files are held"
            share.answer()
            wait_until(lambda: ask(database, stored) == [(4,)], "all are stored")
            wait_until(lambda: dead.offline_reason is None, "it is back")
    assert ask(database, "SELECT * FROM upload_failures") == []
    assert stores["dead"].calls == 3, "what was given up was stored all the same"


class Deaf(InotifyWatcher):
    """A watcher that looks well and reports nothing."""

    def __init__(self) -> None:
        super().__init__(HintQueue(Bell()))
        self.begun = 0

    def watch(self, delivery, root):
        self.begun += 1
        super().watch(delivery, root)


def test_files_that_a_watcher_misses_are_counted_and_the_folder_is_watched_anew(
    ledger, database, tmp_path, scouting, monkeypatch
):
    monkeypatch.setattr(sweeper, "HINT_SECONDS", 0.0)
    place = register(ledger)
    drop(tmp_path, "before.wav")
    delivery = make(tmp_path, place.delivery_ids["north"], Store(), can_watch=lambda: True)
    deaf = Deaf()
    scout = scouting(place, delivery, watcher=deaf)
    tally = delivery.tally
    wait_until(lambda: paths(database) == {"S1/before.wav"}, "the first sweep is done")
    wait_until(lambda: tally.last_complete_sweep_at, "it is counted")
    assert (tally.missed_files, deaf.begun) == (0, 1)
    wait_until(lambda: tally.canary_at, "the canary was seen")
    for name in ("one.wav", "two.wav"):
        drop(tmp_path, name)
    time.sleep(3 * QUICK.quiet_seconds)
    scout.sweep_soon("north", "test")
    wait_until(lambda: tally.missed_files == 2, "they are counted")
    wait_until(lambda: deaf.begun == 2, "the folder is watched anew")
    # What comes while nobody vouches for it is not missed.
    assert tally.missed_files == 2


def test_a_fuse_share_is_polled_and_known_again(tmp_path):
    with fuse_folder(tmp_path / "share", {}, kind="fuse.sshfs"):
        assert filesystem_type(str(tmp_path / "share")) == "fuse.sshfs"
        assert needs_polling(str(tmp_path / "share"))
        first = lasting_name(str(tmp_path / "share"))
    with fuse_folder(tmp_path / "share", {}, kind="fuse.sshfs"):
        assert lasting_name(str(tmp_path / "share")) == first
    assert lasting_name(str(tmp_path / "share")) != first


# --- disks that come and go ---------------------------------------------------------------


@pytest.fixture
def slot(tmp_path) -> Iterator[Path]:
    """Give a folder that cards are mounted on; skips where nothing can be mounted."""
    folder = tmp_path / "slot"
    folder.mkdir()
    tried = subprocess.run(
        ["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"nothing can be mounted here: {tried.stderr.decode().strip()}")
    subprocess.run(["umount", folder], check=True)
    yield folder
    while os.path.ismount(folder):
        subprocess.run(["umount", "-l", folder], check=True)


class Cards:
    """Disk images with a file system each, mounted by loop devices as card readers' are."""

    def __init__(self, folder: Path, slot: Path) -> None:
        self._folder, self._slot = folder, slot

    def make(self, name: str, *files: str) -> None:
        image = self._folder / f"{name}.img"
        with image.open("wb") as out:
            out.truncate(8 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", image], check=True, capture_output=True)
        self.insert(name)
        for file in files:
            drop(self._slot, file)
        self.pull()

    def insert(self, name: str) -> None:
        image = self._folder / f"{name}.img"
        done = subprocess.run(
            ["mount", "-o", "loop", image, self._slot], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no loop device can be mounted here: {done.stderr.decode().strip()}")

    def pull(self) -> None:
        subprocess.run(["umount", "-l", self._slot], check=True)


def test_a_pulled_card_is_offline_another_one_is_taken_in_and_nothing_is_forgotten(
    ledger, database, tmp_path, slot, scouting
):
    place = register(ledger)
    cards = Cards(tmp_path, slot)
    cards.make("first", *[f"first {n:02}.wav" for n in range(5)])
    cards.make("second", "second.wav")
    first = {f"S1/first {n:02}.wav": "pending" for n in range(5)}
    cards.insert("first")
    delivery = make(slot, place.delivery_ids["north"], Store(), can_watch=lambda: True)
    delivery.device = None  # as at a start
    scout = scouting(place, delivery)
    wait_until(lambda: states(database) == first, "the first card is on the books")
    known = [delivery.delivery_id]
    wait_until(lambda: ledger.known_roots(place.daemon_id, known), "the card is remembered")

    cards.pull()
    wait_until(lambda: delivery.offline_reason, "the empty slot is noticed")
    assert "is the disk mounted?" in delivery.offline_reason

    cards.insert("second")
    both = {**first, "S1/second.wav": "pending"}
    wait_until(lambda: states(database) == both, "the second card is on the books")
    held = "SELECT count(*) FROM upload_queue WHERE next_at = '9999-01-01 00:00+00'"
    wait_until(lambda: ask(database, held) == [(5,)], "the first card's files are kept")
    assert delivery.offline_reason is None

    cards.pull()
    cards.insert("first")
    wait_until(lambda: ask(database, held) == [(1,)], "the first card is back, the second is not")
    assert states(database) == both
    asked = Control(
        kind=ControlKind.RESCAN,
        delivery_id=delivery.delivery_id,
        value=Rescan.CONFIRM_VANISHED,
        reason="",
        set_by="somebody",
        set_at=SystemClock().now(),
        until=None,
    )
    scout.rescan(delivery.delivery_id, asked)
    gone = {**first, "S1/second.wav": "vanished"}
    wait_until(lambda: states(database) == gone, "what was confirmed is gone")


def test_a_card_that_is_not_there_when_the_daemon_starts_is_offline(
    ledger, tmp_path, slot, scouting
):
    """Nothing waits any more, so only the ledger knows that a card belongs there."""
    place = register(ledger)
    cards = Cards(tmp_path, slot)
    cards.make("card")
    cards.insert("card")
    ledger.remember_root(
        place.daemon_id,
        place.delivery_ids["north"],
        make(slot, 0, Store()).settings.source.filesystem(),
    )
    cards.pull()
    delivery = make(slot, place.delivery_ids["north"], Store())
    delivery.device = None
    scouting(place, delivery, blind=True)
    wait_until(lambda: delivery.offline_reason, "the empty slot is noticed")
    assert "another file system" in delivery.offline_reason
    cards.insert("card")
    wait_until(lambda: delivery.device is not None and not delivery.offline_reason, "it is back")


# --- clocks that jump ---------------------------------------------------------------------


class JumpingClock(SystemClock):
    """The wall clock as a station sees it whose time is set while it works."""

    ahead_seconds = 0.0

    def wall_ns(self) -> int:
        return super().wall_ns() + int(self.ahead_seconds * 1e9)

    def now(self):
        return super().now() + timedelta(seconds=self.ahead_seconds)


@pytest.mark.parametrize("blind", [False, True], ids=["hints", "sweeps alone"])
def test_a_clock_that_jumps_keeps_no_file_waiting_and_lets_no_half_file_be_current(
    ledger, database, tmp_path, scouting, blind
):
    """The times of files stay what they were, as on a share with a clock of its own."""
    place = register(ledger)
    store, clock = Store(), JumpingClock()
    delivery = make(tmp_path, place.delivery_ids["north"], store, can_watch=lambda: not blind)
    scout = scouting(place, delivery, blind=blind, clock=clock)
    (tmp_path / "S1").mkdir()
    current = (
        "SELECT path, state::text, size_bytes, encode(sha256, 'hex') FROM file_uploads"
        " WHERE is_current ORDER BY path"
    )
    expected: list[tuple[str, str, int, str]] = []

    def settled() -> bool:
        scout.sweep_soon("north", "test")
        return ask(database, current) == sorted(expected)

    with uploading(ledger, place, delivery):
        for number, days in enumerate((1, -400, 0)):
            clock.ahead_seconds = days * 86_400.0
            path = f"S1/{number}.wav"
            with (tmp_path / path).open("wb") as file:
                for _ in range(4):
                    file.write(b"recording")
                    file.flush()
                    scout.sweep_soon("north", "test")
                    time.sleep(0.1)
                clock.ahead_seconds = -clock.ahead_seconds  # and once more while it is written
                file.write(b"end")
            content = b"recording" * 4 + b"end"
            digest = hashlib.sha256(content).hexdigest()
            expected.append((path, "uploaded", len(content), digest))
            wait_until(settled, f"the file is stored as it is, {days} days ahead")
        clock.ahead_seconds = 0.0
        ended = "SELECT count(*) FROM sync_sessions WHERE state <> 'ended'"
        wait_until(lambda: ask(database, ended) == [(0,)], "all sessions have ended")
    assert ask(database, "SELECT * FROM upload_failures") == []
