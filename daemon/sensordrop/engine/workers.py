"""The uploader threads: each takes a claim, makes one attempt, and hands the outcome back."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from sensordrop.core.failure import Failure, FailureScope
from sensordrop.core.lifecycle import Failed, Outcome
from sensordrop.core.model import Claim
from sensordrop.engine.attempt import attempt
from sensordrop.engine.delivery import AttemptStop, Delivery
from sensordrop.ports import PartsJournal, Sender, StopFlag

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished attempt."""

    claim: Claim
    delivery: Delivery
    outcome: Outcome
    seconds: float = 0.0
    """How long it took, from the opening of the file."""


class Pool(Protocol):
    """Where the uploader sends claims to, and gets outcomes from."""

    def submit(self, claim: Claim, delivery: Delivery) -> None:
        """Give the pool a claim to work on."""
        ...

    def wake(self) -> None:
        """Make a waiting `collect` return. Safe from every thread."""
        ...

    def collect(self, seconds: float) -> list[Done]:
        """Wait for outcomes or a wake, at most so long; give all that are there."""
        ...

    def recall(self, delivery: Delivery | None) -> list[Claim]:
        """Take back claims that were not begun: a delivery's, or all."""
        ...

    @property
    def backlog(self) -> int:
        """How many claims it takes beyond those that it works on, so that it never runs dry."""
        ...

    def close(self) -> None:
        """Let the threads end when their work is done. Does not wait for them."""
        ...


class WorkerPool:
    """A fixed number of daemonic threads. Outcomes and rings come out of one queue."""

    def __init__(
        self,
        size: int,
        abandon: StopFlag,
        *,
        sender: Sender | None = None,
        make_journal: Callable[[Claim], PartsJournal] | None = None,
        close_thread: Callable[[], None] = lambda: None,
        ended: Callable[[Delivery], None] = lambda _delivery: None,
    ) -> None:
        """Begin the threads. `close_thread` is called in each of them when it ends, `ended`
        after each attempt.
        """
        self._abandon = abandon
        self._sender = sender
        self._make_journal = make_journal
        self._close_thread = close_thread
        self._ended = ended
        self._left = size
        self._left_lock = threading.Lock()
        self._then: Callable[[], None] = lambda: None
        self._jobs: queue.SimpleQueue[tuple[Claim, Delivery] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Sequence[Done]] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{n}", daemon=True)
            for n in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, claim: Claim, delivery: Delivery) -> None:
        """Give the pool a claim to work on."""
        self._jobs.put((claim, delivery))

    def recall(self, delivery: Delivery | None) -> list[Claim]:
        """Take back claims that were not begun: there are none."""
        return []

    @property
    def backlog(self) -> int:
        """None: a claim is taken when a thread is free for it."""
        return 0

    def wake(self) -> None:
        """Make a waiting `collect` return. Safe from every thread."""
        self._done.put(())

    def collect(self, seconds: float) -> list[Done]:
        """Wait for outcomes or a wake, at most so long; give all that are there."""
        found: list[Done] = []
        try:
            item = self._done.get(timeout=max(0.0, seconds))
            while True:
                found += item
                item = self._done.get_nowait()
        except queue.Empty:
            return found

    def put(self, done: Sequence[Done]) -> None:
        """Hand over outcomes that were come to elsewhere. Safe from every thread."""
        self._done.put(done)

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        """Let the threads end when their work is done. Does not wait for them.

        `then` is called by the last one of them.
        """
        self._then = then
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            claim, delivery = job
            began = time.monotonic()
            outcome = self._attempt(claim, delivery)
            seconds = time.monotonic() - began
            self._done.put([Done(claim=claim, delivery=delivery, outcome=outcome, seconds=seconds)])
            self._ended(delivery)
        self._close_thread()
        with self._left_lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._then()

    def _attempt(self, claim: Claim, delivery: Delivery) -> Outcome:
        try:
            journal = self._make_journal(claim) if self._make_journal else None
            stop = AttemptStop(self._abandon, delivery)
            return attempt(claim, delivery, stop, sender=self._sender, journal=journal)
        except Exception as bug:  # noqa: BLE001 — one file's bug must not stop its neighbours
            return failed_by_a_bug(claim, delivery, bug)


def failed_by_a_bug(claim: Claim, delivery: Delivery, bug: Exception) -> Failed:
    """Tell a mistake of ours with its traceback, and make it a failure of the one file."""
    _log.error("bug", delivery=delivery.name, path=claim.path_text, exc_info=bug)
    return Failed(
        failure=Failure(
            scope=FailureScope.FILE,
            error_class="bug",
            message=f"a mistake in sensordrop: {type(bug).__name__}: {bug}",
            hint="report it with the traceback from the journal",
        )
    )
