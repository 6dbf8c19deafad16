"""The deliveries in force: a value that services look at each turn, exchanged as a whole.

Another configuration may come while the daemon runs. A delivery that changed is another object
then: attempts and errands that are under way keep the old one, with its settings, to their end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from sensordrop.engine.delivery import Delivery


class Roster(Sequence[Delivery]):
    """As a sequence: the deliveries in force at the instant of asking. Safe from every thread."""

    def __init__(self, deliveries: Iterable[Delivery] = ()) -> None:
        self._lock = threading.Lock()
        self._now = tuple(deliveries)
        self._left: tuple[Delivery, ...] = ()

    @classmethod
    def of(cls, deliveries: Sequence[Delivery]) -> Roster:
        """Give a roster of deliveries: themselves, where they are one."""
        return deliveries if isinstance(deliveries, Roster) else cls(deliveries)

    @property
    def now(self) -> tuple[Delivery, ...]:
        """The deliveries in force; the same object as long as nothing changed."""
        return self._now

    @property
    def left(self) -> tuple[Delivery, ...]:
        """Those that are no longer in force, and of which something may still be under way."""
        return self._left

    def replace(self, deliveries: Iterable[Delivery]) -> None:
        """Put these in force, and no others."""
        with self._lock:
            now = tuple(deliveries)
            staying = set(now)
            gone = [delivery for delivery in self._now if delivery not in staying]
            for delivery in gone:
                delivery.left = True
            self._left = (*self._left, *gone)
            self._now = now

    def forget(self, delivery: Delivery) -> None:
        """Take note that nothing is under way any more of a delivery that left."""
        with self._lock:
            self._left = tuple(each for each in self._left if each is not delivery)

    def __len__(self) -> int:
        """Count the deliveries in force."""
        return len(self._now)

    def __iter__(self) -> Iterator[Delivery]:
        """Go through those that are in force now, whatever is put in force meanwhile."""
        return iter(self._now)

    @overload
    def __getitem__(self, index: int) -> Delivery: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Delivery, ...]: ...
    def __getitem__(self, index: int | slice) -> Delivery | tuple[Delivery, ...]:
        """Give one of them, or some."""
        return self._now[index]
