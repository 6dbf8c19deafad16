"""Where the watcher's hints wait for the scout: bounded, and each path only once."""

from __future__ import annotations

import threading
from collections import defaultdict

from sensordrop.core.model import Doubt, DoubtKind, Hint, HintKind
from sensordrop.engine.delivery import Bell

MOST_HINTS = 50_000
"""Hints kept for all deliveries together: some 10 MiB. At the limit they are dropped and the
delivery is swept, which finds them all."""


class HintQueue:
    """`ports.HintSink`: collects hints and doubts by delivery until the scout drains them."""

    def __init__(self, bell: Bell, most: int = MOST_HINTS) -> None:
        self._bell = bell
        self._most = most
        self._lock = threading.Lock()
        self._hints: dict[str, dict[bytes, HintKind]] = defaultdict(dict)
        self._doubts: dict[str, DoubtKind] = {}
        self._count = 0
        self.dropped = 0
        """Hints dropped since the start."""

    def __len__(self) -> int:
        """Tell how many hints wait, of all deliveries. Safe from every thread."""
        return self._count

    def offer(self, hint: Hint) -> None:
        """Take a hint; a close outweighs an appearance of the same path."""
        with self._lock:
            waiting = self._hints[hint.delivery]
            if hint.path not in waiting:
                if self._count >= self._most:
                    self.dropped += 1
                    self._doubts[hint.delivery] = DoubtKind.HINTS_DROPPED
                    return
                self._count += 1
                waiting[hint.path] = hint.kind
            elif hint.kind is HintKind.CLOSED:
                waiting[hint.path] = hint.kind
        self._bell.ring()

    def doubt(self, doubt: Doubt) -> None:
        """Take note that a delivery must be swept."""
        with self._lock:
            self._doubts[doubt.delivery] = doubt.kind
        self._bell.ring()

    def drain(self, delivery: str) -> tuple[dict[bytes, HintKind], DoubtKind | None]:
        """Give what waits for a delivery, and forget it."""
        with self._lock:
            hints = self._hints.pop(delivery, {})
            self._count -= len(hints)
            return hints, self._doubts.pop(delivery, None)

    def waiting(self, delivery: str) -> bool:
        """Tell whether anything waits for a delivery."""
        with self._lock:
            return bool(self._hints.get(delivery)) or delivery in self._doubts
