"""Who is at the control socket just now, and for how much longer."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter

from sensordrop.core.admission import is_admitted
from sensordrop.core.principal import Rank

ASK_SECONDS = 10.0
"""How long somebody may take to say what they want, and how long to take the answer."""


class Visit:
    """One connection, from its first byte to its last."""

    def __init__(self, connection: socket.socket, *, user_id: int, rank: Rank) -> None:
        self.connection = connection
        self.user_id = user_id
        self.rank = rank
        self.ends_at = time.monotonic() + ASK_SECONDS

    def at_work(self) -> None:
        """Its operation runs: for how long is the ledger's business."""
        self.ends_at = float("inf")

    def answering(self) -> None:
        """It is given its answer."""
        self.ends_at = time.monotonic() + ASK_SECONDS

    def end(self) -> None:
        """Break it off, whatever it does."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it ended by itself just now


class Visits:
    """All of them. Safe from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: set[Visit] = set()

    def admit(self, visit: Visit) -> bool:
        """Take it in, if there is room for it."""
        with self._lock:
            users = Counter(each.user_id for each in self._now)
            admitted = is_admitted(
                visit.rank, open_now=len(self._now), of_the_user=users[visit.user_id]
            )
            if admitted:
                self._now.add(visit)
            return admitted

    def leave(self, visit: Visit) -> None:
        """Take note that it has ended."""
        with self._lock:
            self._now.discard(visit)

    def end_the_slow(self) -> None:
        """End visits that take too long to ask, or to listen."""
        now = time.monotonic()
        for visit in self._all():
            if visit.ends_at < now:
                visit.end()

    def end_all(self) -> None:
        """End all visits. What is at work on the ledger ends by itself."""
        for visit in self._all():
            visit.end()

    def _all(self) -> list[Visit]:
        with self._lock:
            return list(self._now)
