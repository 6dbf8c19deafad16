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
from sensordrop.core.lifecycle import Failed, Interrupted, Outcome
from sensordrop.core.model import Claim
from sensordrop.engine.attempt import attempt
from sensordrop.engine.delivery import AttemptStop, Delivery
from sensordrop.ports.life import StopFlag
from sensordrop.ports.storing import PartsJournal
from sensordrop.ports.transfer import Sender

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

    def write_off(self, delivery: Delivery) -> list[Claim]:
        """Give up what is at work on a delivery whose folder does not answer; others take its
        place. Gives the claims; nothing more comes of them. May be repeated.
        """
        ...

    def resize(self, size: int) -> None:
        """Work on so many claims at once from now on. What is at work is not broken off."""
        ...

    @property
    def backlog(self) -> int:
        """How many claims it takes beyond those that it works on, so that it never runs dry."""
        ...

    def close(self) -> None:
        """Let the threads end when their work is done. Does not wait for them."""
        ...


@dataclass(kw_only=True, eq=False)
class _Job:
    """A claim that is given to a thread. Also the stop flag of its attempt."""

    claim: Claim
    delivery: Delivery
    stop: StopFlag
    written_off: bool = False

    def is_set(self) -> bool:
        return self.written_off or self.stop.is_set()


class WorkerPool:
    """A number of daemonic threads that work. Outcomes and rings come out of one queue.

    A thread that a folder holds up is written off, and another one begun: it ends by itself when
    the folder answers.
    """

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
        self._size = self._left = size
        self._lock = threading.Lock()
        self._at_work: set[_Job] = set()
        self._then: Callable[[], None] = lambda: None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Sequence[Done]] = queue.SimpleQueue()
        self._begun = 0
        for _ in range(size):
            self._begin_thread()

    def submit(self, claim: Claim, delivery: Delivery) -> None:
        """Give the pool a claim to work on."""
        stop = AttemptStop(self._abandon, delivery)
        self._jobs.put(_Job(claim=claim, delivery=delivery, stop=stop))

    def recall(self, delivery: Delivery | None) -> list[Claim]:
        """Take back claims that were not begun: there are none."""
        return []

    def write_off(self, delivery: Delivery) -> list[Claim]:
        """Give up the threads that a delivery's folder holds up, and begin others."""
        with self._lock:
            held_up = [
                job for job in self._at_work if job.delivery is delivery and not job.written_off
            ]
            for job in held_up:
                job.written_off = True
        for _ in held_up:
            self._begin_thread()
            self._ended(delivery)
        return [job.claim for job in held_up]

    def resize(self, size: int) -> None:
        """Have more threads where there are fewer than so many; idle ones cost nothing and stay."""
        with self._lock:
            more = max(0, size - self._size)
            self._size += more
            self._left += more
        for _ in range(more):
            self._begin_thread()

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
        for _ in range(self._size):
            self._jobs.put(None)

    def _begin_thread(self) -> None:
        self._begun += 1
        name = f"worker-{self._begun}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._lock:
                self._at_work.add(job)
            began = time.monotonic()
            outcome = self._attempt(job)
            seconds = time.monotonic() - began
            with self._lock:
                self._at_work.discard(job)
            if job.written_off:
                self._close_thread()
                return
            done = Done(claim=job.claim, delivery=job.delivery, outcome=outcome, seconds=seconds)
            self._done.put([done])
            self._ended(job.delivery)
        self._close_thread()
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._then()

    def _attempt(self, job: _Job) -> Outcome:
        claim, delivery = job.claim, job.delivery
        if delivery.hung:
            return Interrupted()
        try:
            journal = self._make_journal(claim) if self._make_journal else None
            return attempt(claim, delivery, job, sender=self._sender, journal=journal)
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
