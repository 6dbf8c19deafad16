"""Lets so many claims through at a time, of each delivery and in total; the others wait."""

from __future__ import annotations

import threading
from collections import Counter, deque

from sensordrop.core.model import Claim
from sensordrop.engine.delivery import Delivery

Job = tuple[Claim, Delivery]


class Turnstile:
    """Which claims are worked on, and which wait for their turn. Safe from every thread."""

    def __init__(self, most: int) -> None:
        """Let `most` through in total, and of each delivery its `max_workers`."""
        self._most = most
        self._lock = threading.Lock()
        self._inside: Counter[int] = Counter()
        self._waiting: deque[Job] = deque()

    def resize(self, most: int) -> None:
        """Let so many through in total from now on."""
        with self._lock:
            self._most = most

    def enter(self, claim: Claim, delivery: Delivery) -> bool:
        """Let a claim through, or keep it waiting."""
        with self._lock:
            if self._has_room(delivery):
                self._inside[delivery.delivery_id] += 1
                return True
            self._waiting.append((claim, delivery))
            return False

    def leave(self, delivery: Delivery) -> Job | None:
        """Count a claim out, and let the next one through that has waited longest."""
        with self._lock:
            self._inside[delivery.delivery_id] -= 1
            for index, (claim, other) in enumerate(self._waiting):
                if self._has_room(other):
                    del self._waiting[index]
                    self._inside[other.delivery_id] += 1
                    return claim, other
            return None

    def recall(self, delivery: Delivery | None) -> list[Claim]:
        """Take back what waits: of a delivery, or all."""
        with self._lock:
            taken = [(c, d) for c, d in self._waiting if delivery is None or d is delivery]
            if taken:
                self._waiting = deque(job for job in self._waiting if job not in taken)
            return [claim for claim, _ in taken]

    def _has_room(self, delivery: Delivery) -> bool:
        inside = self._inside[delivery.delivery_id]
        return inside < delivery.settings.max_workers and self._inside.total() < self._most
