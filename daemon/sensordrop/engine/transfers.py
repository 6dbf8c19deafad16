"""The transfers: small files go through one thread's lane, many at once; all else to workers.

What takes long (large files, stores that must be asked twice, other content under the key) would
hold the lane up, so it goes to the worker threads, which make the same attempt the slow way.
"""

from __future__ import annotations

import itertools
import queue
import threading
from dataclasses import dataclass

from sensordrop.core.failure import FailureError
from sensordrop.core.lifecycle import Failed, Interrupted, Outcome
from sensordrop.core.model import Claim
from sensordrop.engine.attempt import Attempt
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.workers import Done, WorkerPool, failed_by_a_bug
from sensordrop.ports import HttpAnswer, Lane, QuickSteps, StopFlag

LANE_BYTES = 4 * 1024 * 1024
"""Files up to this size go through the lane: hashing them takes some milliseconds."""
TURN_SECONDS = 0.5
"""Longest time that the lane waits without looking at the stop flag."""


@dataclass(kw_only=True)
class _Transfer:
    attempt: Attempt
    steps: QuickSteps


class TransferPool:
    """The same to the uploader as a `WorkerPool`, with a lane before it."""

    def __init__(self, workers: WorkerPool, lane: Lane, abandon: StopFlag) -> None:
        self._workers = workers
        self._lane = lane
        self._abandon = abandon
        self._jobs: queue.SimpleQueue[tuple[Claim, Delivery] | None] = queue.SimpleQueue()
        self._tickets = itertools.count()
        self._running: dict[int, _Transfer] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._drive, name="transfers", daemon=True)
        self._thread.start()

    def submit(self, claim: Claim, delivery: Delivery) -> None:
        """Give the pool a claim to work on."""
        if claim.fingerprint.size_bytes > LANE_BYTES or not self._thread.is_alive():
            self._workers.submit(claim, delivery)
            return
        self._jobs.put((claim, delivery))
        self._lane.wake()

    def wake(self) -> None:
        """Make a waiting `collect` return. Safe from every thread."""
        self._workers.wake()

    def collect(self, seconds: float) -> list[Done]:
        """Wait for outcomes or a wake, at most so long; give all that are there."""
        return self._workers.collect(seconds)

    def close(self) -> None:
        """Let the threads end when their work is done. Does not wait for them."""
        self._jobs.put(None)
        self._lane.wake()
        self._workers.close()

    # --- the lane's thread ----------------------------------------------------------------

    def _drive(self) -> None:
        while not self._closing or self._running:
            if self._abandon.is_set():
                self._break_off()
            self._take_jobs(block=not self._running)
            for ticket, answer in self._lane.step(TURN_SECONDS if self._running else 0.0):
                transfer = self._running.pop(ticket)
                self._advance(transfer, answer)
        self._lane.close()

    def _take_jobs(self, *, block: bool) -> None:
        """Begin what waits; with nothing running, wait for a job."""
        while True:
            try:
                job = self._jobs.get(block=block, timeout=TURN_SECONDS if block else None)
            except queue.Empty:
                return
            block = False
            if job is None:
                self._closing = True
                return
            self._begin(*job)

    def _begin(self, claim: Claim, delivery: Delivery) -> None:
        trial = Attempt(claim, delivery)
        try:
            outcome = Interrupted() if self._abandon.is_set() else trial.begin()
            if outcome is None:
                steps = delivery.settings.destination.quick(trial.file, trial.key)
                if steps is None:
                    trial.close()
                    self._workers.submit(claim, delivery)
                    return
                self._advance(_Transfer(attempt=trial, steps=steps), None)
                return
        except FailureError as error:
            outcome = Failed(failure=error.failure)
        except Exception as bug:  # noqa: BLE001 — one file's bug must not stop its neighbours
            outcome = failed_by_a_bug(claim, delivery, bug)
        self._end(trial, outcome)

    def _advance(self, transfer: _Transfer, answer: HttpAnswer | None) -> None:
        """Give a transfer its answer, and begin its next request or end it."""
        trial = transfer.attempt
        try:
            request = next(transfer.steps) if answer is None else transfer.steps.send(answer)
            ticket = next(self._tickets)
            self._lane.start(ticket, request)
            self._running[ticket] = transfer
        except StopIteration as end:
            if end.value is None:
                trial.close()
                self._workers.submit(trial.claim, trial.delivery)
            else:
                self._end(trial, trial.judge(end.value))
        except FailureError as error:
            self._end(trial, trial.judge(Failed(failure=error.failure)))
        except Exception as bug:  # noqa: BLE001 — as above
            self._end(trial, failed_by_a_bug(trial.claim, trial.delivery, bug))

    def _break_off(self) -> None:
        self._lane.abandon()
        for transfer in self._running.values():
            self._end(transfer.attempt, Interrupted())
        self._running.clear()

    def _end(self, trial: Attempt, outcome: Outcome) -> None:
        trial.close()
        self._workers.put(Done(claim=trial.claim, delivery=trial.delivery, outcome=outcome))
