"""The transfers: small files in lanes of theirs, many at once; large ones by workers, in parts.

What takes long (hashing large files, folders on a network, stores that must be asked twice, keys
that are known to be taken, other content under the key) would hold a lane up, so it goes to the
worker threads. They send their bytes through other lanes: reading a large file from a slow disk
must not hold up the small ones.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from sensordrop.core.model import Claim
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.lane_thread import LaneThread
from sensordrop.engine.small_files import SmallFiles
from sensordrop.engine.turnstile import Turnstile
from sensordrop.engine.workers import Done, WorkerPool
from sensordrop.ports.life import StopFlag
from sensordrop.ports.storing import PartsJournal
from sensordrop.ports.transfer import Flight, Lane

LANE_BYTES = 4 * 1024 * 1024
"""Files up to this size go through the small files' lanes: hashing them takes milliseconds."""
SMALL_LANES = 2
"""Threads that send small files. One alone is what all files wait for: most of its time goes into
hashing and encrypting, which another core can do. A third one would mostly wait for Python."""

LARGE_LANES = 2
"""Threads that send large files: one alone would have to encrypt everything on one core."""


class _Lanes:
    """The lanes of large files as one sender: attempts take them in turn."""

    def __init__(self, make_lane: Callable[[int], Lane], size: int, abandon: StopFlag) -> None:
        self._make_lane = make_lane
        self._size = size
        self._abandon = abandon
        self._turn = itertools.count()
        self._lock = threading.Lock()
        self._lanes = [self._begin(number) for number in range(LARGE_LANES)]

    def flight(self, stop: StopFlag) -> AbstractContextManager[Flight]:
        """See `ports.Sender`. A lane whose thread ended by a mistake of ours is begun anew."""
        number = next(self._turn) % len(self._lanes)
        with self._lock:
            if not self._lanes[number].alive:
                self._lanes[number] = self._begin(number)
            return self._lanes[number].flight(stop)

    def resize(self, most: int) -> None:
        self._size = most
        for lane in self._lanes:
            lane.resize(max(1, most // LARGE_LANES))

    def give_up_held(self) -> None:
        """Leave the lanes alone that a disk holds; others take their place."""
        with self._lock:
            for number, lane in enumerate(self._lanes):
                if lane.held:
                    lane.give_up()
                    self._lanes[number] = self._begin(number)

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()

    def _begin(self, number: int) -> LaneThread:
        lane = LaneThread(
            self._make_lane(self._size),
            name=f"parts-{number}",
            most=max(1, self._size // LARGE_LANES),
            abandon=self._abandon,
        )
        lane.begin()
        return lane


class TransferPool:
    """The same to the uploader as a `WorkerPool`, with lanes for the bytes."""

    def __init__(
        self,
        size: int,
        abandon: StopFlag,
        *,
        make_lane: Callable[[int], Lane],
        make_journal: Callable[[Claim], PartsJournal] | None = None,
        close_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin the threads. `size`: transfers at once; `close_thread` ends each worker."""
        self._abandon = abandon
        self._make_lane = make_lane
        self._closed = False
        self._turnstile = Turnstile(size)
        self.backlog = size
        self._large = _Lanes(make_lane, size, abandon)
        self._workers = WorkerPool(
            size,
            abandon,
            sender=self._large,
            make_journal=make_journal,
            close_thread=close_thread,
            ended=self._ended,
        )
        self._small = [self._begin_small(number) for number in range(SMALL_LANES)]

    def submit(self, claim: Claim, delivery: Delivery) -> None:
        """Give the pool a claim to work on; it begins when there is room."""
        if self._turnstile.enter(claim, delivery):
            self._set_going(claim, delivery)

    def recall(self, delivery: Delivery | None) -> list[Claim]:
        """Take back claims that were not begun: a delivery's, or all."""
        return self._turnstile.recall(delivery)

    def write_off(self, delivery: Delivery) -> list[Claim]:
        """Give up the threads that a delivery's disk holds up; others take their place.

        What other deliveries had in them is tried again.
        """
        claims: list[Claim] = []
        for number, lane in enumerate(self._small):
            if lane.held_by(delivery):
                self._small[number] = self._begin_small(number)
                claims += lane.give_up(delivery)
        self._large.give_up_held()
        return claims + self._workers.write_off(delivery)

    def resize(self, size: int) -> None:
        """Work on so many claims at once from now on. What is at work is not broken off."""
        self._turnstile.resize(size)
        for lane in self._small:
            lane.resize(size)
        self._large.resize(size)
        self._workers.resize(size)
        self.backlog = size

    def _set_going(self, claim: Claim, delivery: Delivery, lane: SmallFiles | None = None) -> None:
        """Have a claim worked on now. `lane`: the one that has room for it; otherwise the one with
        the fewest claims takes it, so that single files always go the same way.
        """
        slow = claim.listed or claim.fingerprint.size_bytes > LANE_BYTES
        if slow or delivery.slow_folder:
            self._workers.submit(claim, delivery)
            return
        if lane is None:
            lane = min(self._small, key=len)
        lane.submit(claim, delivery)

    def wake(self) -> None:
        """Make a waiting `collect` return. Safe from every thread."""
        self._workers.wake()

    def collect(self, seconds: float) -> list[Done]:
        """Wait for outcomes or a wake, at most so long; give all that are there."""
        for number, lane in enumerate(self._small):
            if not lane.alive and not self._closed:  # it ended by a mistake of ours
                self._small[number] = self._begin_small(number)
                lane.give_up(None)
        return self._workers.collect(seconds)

    def close(self) -> None:
        """Let the threads end when their work is done. Does not wait for them."""
        self._closed = True
        for lane in self._small:
            lane.close()
        self._workers.close(then=self._large.close)

    def _begin_small(self, number: int) -> SmallFiles:
        return SmallFiles(
            self._make_lane(self.backlog),
            name=f"transfers-{number}",
            most=self.backlog,
            abandon=self._abandon,
            done=self._workers.put,
            too_slow=self._workers.submit,
            # The next claim stays in the lane: waking another thread would cost more.
            ended=lambda delivery: self._begin_next(delivery, self._small[number]),
        )

    def _ended(self, delivery: Delivery) -> None:
        self._begin_next(delivery)

    def _begin_next(self, delivery: Delivery, lane: SmallFiles | None = None) -> None:
        """Begin the next claim: a lane must not wait for whoever writes the outcome down."""
        following = self._turnstile.leave(delivery)
        if following is not None:
            self._set_going(*following, lane=lane)
