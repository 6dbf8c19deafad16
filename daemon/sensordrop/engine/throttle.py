"""The bandwidth limits in force: one bucket for the station, one for each delivery, one queue.

A bucket fills with the bytes that its rate lets through. Transfers queue for small helpings, and
each must be in the buckets of its delivery and of the station; so all get the same share, and the
smaller limit wins at every instant.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from sensordrop.core.timetable import Rate
from sensordrop.ports.life import Clock

BURST_SECONDS = 0.25
"""What a bucket holds at most: enough for a thread that wakes late, too little to be noticed."""
HELPING_SECONDS = 0.05
"""How long a rate needs for one helping, within the next two limits."""
LEAST_HELPING_BYTES = 1024
"""Smaller helpings cost more in packets and wakes than they carry."""
MOST_HELPING_BYTES = 256 * 1024
"""What libcurl asks for at once (`UPLOAD_BUFFERSIZE`): larger helpings help nobody."""
SHORTEST_WAIT_SECONDS = 0.005
"""The queue is not looked through more often than this, however many ask."""
LONGEST_WAIT_SECONDS = 0.25
"""A change of the rate is seen by whoever waits within this time."""


class _Bucket:
    """What one limit lets through. Guarded by the lock of its `Throttles`."""

    def __init__(self) -> None:
        self.rate: Rate = None
        self.bytes = 0.0
        self._filled_at = 0.0

    def set_rate(self, rate: Rate, now: float) -> None:
        self.fill(now)
        if self.rate is None:
            self.bytes, self._filled_at = 0.0, now
        self.rate = rate
        self._cap()

    def fill(self, now: float) -> None:
        if self.rate is not None:
            self.bytes += self.rate * (now - self._filled_at)
            self._cap()
        self._filled_at = now

    def helping(self) -> int:
        if self.rate is None:
            return MOST_HELPING_BYTES
        wanted = int(self.rate * HELPING_SECONDS)
        return max(LEAST_HELPING_BYTES, min(MOST_HELPING_BYTES, wanted))

    def holds(self, amount: int) -> bool:
        return self.rate is None or self.bytes >= amount

    def seconds_until(self, amount: int) -> float:
        return 0.0 if self.rate is None else max(0.0, (amount - self.bytes) / self.rate)

    def _cap(self) -> None:
        if self.rate is not None:
            self.bytes = min(self.bytes, self.rate * BURST_SECONDS + self.helping())


class Throttles:
    """All limits of this station and who waits for them. Safe from every thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._station = _Bucket()
        self._deliveries: dict[str, _Bucket] = {}
        self._queue: deque[_Turn] = deque()
        self._served_at = 0.0

    def of(self, delivery: str) -> DeliveryThrottle:
        """Give the limits that a delivery falls under: its own, and the station's."""
        with self._lock:
            own = self._deliveries.setdefault(delivery, _Bucket())
        return DeliveryThrottle(self, (self._station, own))

    def set_rates(self, station: Rate, deliveries: Mapping[str, Rate]) -> None:
        """Put rates (bytes per second) in force; a delivery that is not named has no limit."""
        with self._lock:
            now = self._clock.monotonic()
            self._station.set_rate(station, now)
            for name in {*self._deliveries, *deliveries}:
                bucket = self._deliveries.setdefault(name, _Bucket())
                bucket.set_rate(deliveries.get(name), now)
            self._served_at = 0.0
            self._serve(now)

    def take(self, turn: _Turn, wanted: int) -> int:
        """See `Turn.take`."""
        with self._lock:
            if not turn.given:
                if not turn.limited:
                    self._drop(turn)
                    return wanted
                if not turn.waiting:
                    turn.wanted, turn.waiting = wanted, True
                    self._queue.append(turn)
                self._serve(self._clock.monotonic())
            taken = min(turn.given, wanted)
            turn.given -= taken
            return taken

    def ready(self, turn: _Turn) -> bool:
        """See `Turn.ready`."""
        if turn.given or not turn.limited:
            return True
        with self._lock:
            self._serve(self._clock.monotonic())
            return turn.given > 0

    def wait_seconds(self, turn: _Turn) -> float:
        """See `Turn.wait_seconds`."""
        with self._lock:
            amount = turn.helping()
            wait = max(bucket.seconds_until(amount) for bucket in turn.buckets)
        return min(max(wait, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)

    def leave(self, turn: _Turn) -> None:
        """See `Turn.leave`."""
        with self._lock:
            self._drop(turn)
            for bucket in turn.buckets:
                bucket.bytes += turn.given
            turn.given = 0

    def _drop(self, turn: _Turn) -> None:
        if turn.waiting:
            self._queue.remove(turn)
            turn.waiting = False

    def _serve(self, now: float) -> None:
        """Give helpings in the order of the queue, as far as the buckets reach.

        A turn whose own delivery's bucket is empty holds up no other delivery's; one that the
        station's bucket can't serve holds up all behind it, or large helpings would starve.
        """
        if len(self._queue) > 1 and 0.0 <= now - self._served_at < SHORTEST_WAIT_SECONDS:
            return
        self._served_at = now
        for bucket in (self._station, *self._deliveries.values()):
            bucket.fill(now)
        empty: set[_Bucket] = set()
        kept: deque[_Turn] = deque()
        for turn in self._queue:
            amount = turn.helping()
            short = {bucket for bucket in turn.buckets if not bucket.holds(amount)}
            if short or empty.intersection(turn.buckets):
                empty |= short
                kept.append(turn)
                continue
            for bucket in turn.buckets:
                bucket.bytes -= amount
            turn.given, turn.waiting = amount, False
        self._queue = kept


class DeliveryThrottle:
    """A delivery's limits, as `ports.Throttle`."""

    def __init__(self, throttles: Throttles, buckets: tuple[_Bucket, ...]) -> None:
        self._throttles = throttles
        self._buckets = buckets

    @property
    def limited(self) -> bool:
        """See `ports.Throttle.limited`."""
        return any(bucket.rate is not None for bucket in self._buckets)

    def turn(self) -> _Turn:
        """See `ports.Throttle.turn`."""
        return _Turn(self._throttles, self._buckets)


class _Turn:
    """One transfer's place, as `ports.Turn`. Its fields are guarded by the throttles' lock."""

    def __init__(self, throttles: Throttles, buckets: tuple[_Bucket, ...]) -> None:
        self._throttles = throttles
        self.buckets = buckets
        self.wanted = 0
        self.given = 0
        self.waiting = False

    @property
    def limited(self) -> bool:
        return any(bucket.rate is not None for bucket in self.buckets)

    def helping(self) -> int:
        """Give how much is to be given at once.

        As much as the largest limit's helping, which the others in the queue get, as far as the
        smaller limit's bucket has it: or a delivery with a small limit of its own would be served
        as often as the others, with less each time, and come to less than its share.
        """
        helpings = {bucket: bucket.helping() for bucket in self.buckets if bucket.rate is not None}
        largest = max(helpings.values(), default=MOST_HELPING_BYTES)
        there = (
            max(least, int(bucket.bytes)) for bucket, least in helpings.items() if least < largest
        )
        return min(self.wanted, largest, *there)

    def take(self, wanted: int) -> int:
        """See `ports.Turn.take`."""
        return self._throttles.take(self, wanted)

    def ready(self) -> bool:
        """See `ports.Turn.ready`."""
        return self._throttles.ready(self)

    def wait_seconds(self) -> float:
        """See `ports.Turn.wait_seconds`."""
        return self._throttles.wait_seconds(self)

    def leave(self) -> None:
        """See `ports.Turn.leave`."""
        self._throttles.leave(self)
