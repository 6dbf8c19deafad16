"""Small files in their lanes: one that takes long holds up its own lane, and nothing else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_engine import PATIENCE_SECONDS, drop, make

from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.core.lifecycle import Stored
from sensordrop.core.model import Claim, Receipt
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.transfers import TransferPool
from sensordrop.engine.workers import Done
from sensordrop.ports.reading import DigestPlan

MOST = 4


class Place:
    """A destination that takes small files without a request, after `hold` let them through."""

    def __init__(self, hold: Callable[[str], object] = lambda _key: None) -> None:
        self._hold = hold
        self.threads: list[str] = []

    def digest_plan(self, size_bytes):
        return DigestPlan()

    def quick(self, content, object_key, *, look=False):
        self.threads.append(threading.current_thread().name)
        self._hold(object_key)
        return self._steps(Receipt(object_key=object_key, sha256=content.sha256))

    def _steps(self, receipt):
        return Stored(receipt=receipt)
        yield


@pytest.fixture
def pool() -> Iterator[TransferPool]:
    stop = threading.Event()
    pool = TransferPool(
        MOST, stop, make_lane=lambda most: CurlLane(LaneSettings(most_connections=most))
    )
    yield pool
    stop.set()
    pool.close()


def claim(delivery: Delivery, number: int) -> Claim:
    name = f"{number:03}.wav"
    drop(Path(delivery.settings.root), name)
    path = f"S1/{name}"
    found = delivery.settings.source.look(path.encode())
    return Claim(
        upload_id=number, delivery_id=1, path=path.encode(), path_text=path,
        fingerprint=found.fingerprint, claim_number=1, attempts=0, crashes=0,
    )  # fmt: skip


def collect(pool: TransferPool, count: int) -> list[Done]:
    """Wait for so many outcomes."""
    found: list[Done] = []
    end = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} files ended"
        found += pool.collect(1.0)
    return found


def test_a_file_that_takes_long_to_read_does_not_hold_up_the_next(pool, tmp_path):
    others_ended = threading.Event()
    place = Place(lambda key: key.endswith("000.wav") and others_ended.wait(PATIENCE_SECONDS))
    delivery = make(tmp_path, 1, place)
    for number in range(2):
        pool.submit(claim(delivery, number), delivery)
    (first,) = collect(pool, 1)
    others_ended.set()
    (second,) = collect(pool, 1)
    assert [first.claim.upload_id, second.claim.upload_id] == [1, 0]
    assert all(isinstance(done.outcome, Stored) for done in (first, second))


def test_files_that_come_one_by_one_take_one_lane_whose_connections_are_kept(pool, tmp_path):
    place = Place()
    delivery = make(tmp_path, 1, place)
    for number in range(3):
        pool.submit(claim(delivery, number), delivery)
        collect(pool, 1)
    assert len(set(place.threads)) == 1, place.threads


def test_every_file_has_its_outcome_once_however_many_wait(pool, tmp_path):
    delivery = make(tmp_path, 1, Place())
    waiting = [claim(delivery, number) for number in range(60)]
    for each in waiting:
        pool.submit(each, delivery)
    ended = Counter(done.claim.upload_id for done in collect(pool, len(waiting)))
    assert ended == Counter(range(60))
    assert not pool.collect(0.0)
