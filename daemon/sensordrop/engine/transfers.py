"""The transfers: small files in one thread, many at once; large ones by workers, part by part.

What takes long (hashing large files, folders on a network, stores that must be asked twice, keys
that are known to be taken, other content under the key) would hold the lane up, so it goes to the
worker threads. They
send their bytes through a lane of their own: reading a large file from a slow disk must not hold
up the small ones.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.core.lifecycle import Failed, Interrupted, Outcome
from sensordrop.core.model import Claim
from sensordrop.engine.attempt import Attempt
from sensordrop.engine.delivery import AttemptStop, Delivery
from sensordrop.engine.lane_thread import LaneThread
from sensordrop.engine.turnstile import Turnstile
from sensordrop.engine.workers import Done, WorkerPool, failed_by_a_bug
from sensordrop.ports.life import StopFlag
from sensordrop.ports.storing import PartsJournal
from sensordrop.ports.transfer import Flight, HttpAnswer, Lane, QuickSteps

LANE_BYTES = 4 * 1024 * 1024
"""Files up to this size go through the small files' lane: hashing them takes milliseconds."""

LARGE_LANES = 2
"""Threads that send large files: one alone would have to encrypt everything on one core."""
HAND_OVER_SECONDS = 0.01
"""How long an outcome waits for others while transfers run."""


@dataclass(kw_only=True, eq=False)
class _Transfer:
    attempt: Attempt
    steps: QuickSteps
    ticket: int = -1
    """Of the request that is running."""


class _Lanes:
    """The lanes of large files as one sender: attempts take them in turn."""

    def __init__(self, lanes: Iterable[LaneThread]) -> None:
        self._lanes = list(lanes)
        self._turn = itertools.count()

    def flight(self, stop: StopFlag) -> AbstractContextManager[Flight]:
        """See `ports.Sender`."""
        return self._lanes[next(self._turn) % len(self._lanes)].flight(stop)

    def resize(self, most: int) -> None:
        for lane in self._lanes:
            lane.resize(max(1, most // LARGE_LANES))

    def begin(self) -> None:
        for lane in self._lanes:
            lane.begin()

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()


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
        self._turnstile = Turnstile(size)
        self.backlog = size
        self._small = LaneThread(make_lane(size), name="transfers", most=size, abandon=abandon)
        self._large = _Lanes(
            LaneThread(
                make_lane(size),
                name=f"parts-{number}",
                most=max(1, size // LARGE_LANES),
                abandon=abandon,
            )
            for number in range(LARGE_LANES)
        )
        self._workers = WorkerPool(
            size,
            abandon,
            sender=self._large,
            make_journal=make_journal,
            close_thread=close_thread,
            ended=self._ended,
        )
        self._running: set[_Transfer] = set()
        self._finished: list[Done] = []
        self._finished_since = 0.0
        self._small.begin(
            broken_off=self._break_off, look=self._break_off_paused, turned=self._turned
        )
        self._large.begin()

    def submit(self, claim: Claim, delivery: Delivery) -> None:
        """Give the pool a claim to work on; it begins when there is room."""
        if self._turnstile.enter(claim, delivery):
            self._set_going(claim, delivery)

    def recall(self, delivery: Delivery | None) -> list[Claim]:
        """Take back claims that were not begun: a delivery's, or all."""
        return self._turnstile.recall(delivery)

    def write_off(self, delivery: Delivery) -> list[Claim]:
        """Give up the workers that a delivery's folder holds up."""
        return self._workers.write_off(delivery)

    def resize(self, size: int) -> None:
        """Work on so many claims at once from now on. What is at work is not broken off."""
        self._turnstile.resize(size)
        self._small.resize(size)
        self._large.resize(size)
        self._workers.resize(size)
        self.backlog = size

    def _set_going(self, claim: Claim, delivery: Delivery) -> None:
        slow = claim.listed or claim.fingerprint.size_bytes > LANE_BYTES
        if slow or delivery.slow_folder or not self._small.alive:
            self._workers.submit(claim, delivery)
            return
        self._small.call(lambda: self._begin(claim, delivery))

    def wake(self) -> None:
        """Make a waiting `collect` return. Safe from every thread."""
        self._workers.wake()

    def collect(self, seconds: float) -> list[Done]:
        """Wait for outcomes or a wake, at most so long; give all that are there."""
        return self._workers.collect(seconds)

    def close(self) -> None:
        """Let the threads end when their work is done. Does not wait for them."""
        self._small.close()
        self._workers.close(then=self._large.close)

    # --- in the small files' lane's thread ------------------------------------------------

    def _begin(self, claim: Claim, delivery: Delivery) -> None:
        stop = AttemptStop(self._abandon, delivery)
        trial = Attempt(claim, delivery, stop)
        try:
            outcome = Interrupted() if stop.is_set() else trial.begin()
            if outcome is None:
                steps = delivery.settings.destination.quick(
                    trial.file, trial.key, look=claim.unlisted
                )
                if steps is None:
                    trial.close()
                    self._workers.submit(claim, delivery)
                    return
                transfer = _Transfer(attempt=trial, steps=steps)
                self._running.add(transfer)
                self._advance(transfer, None)
                return
        except FailureError as error:
            outcome = Failed(failure=error.failure)
        except InterruptedAttemptError:
            outcome = Interrupted()
        except Exception as bug:  # noqa: BLE001 — one file's bug must not stop its neighbours
            outcome = failed_by_a_bug(claim, delivery, bug)
        self._hand_over(trial, outcome)

    def _advance(self, transfer: _Transfer, answer: HttpAnswer | None) -> None:
        """Give a transfer its answer, and begin its next request or end it."""
        trial = transfer.attempt
        try:
            request = next(transfer.steps) if answer is None else transfer.steps.send(answer)
            transfer.ticket = self._small.start(request, lambda got: self._advance(transfer, got))
        except StopIteration as end:
            if end.value is None:
                self._running.discard(transfer)
                trial.close()
                self._workers.submit(trial.claim, trial.delivery)
            else:
                self._end(transfer, trial.judge(end.value))
        except FailureError as error:
            self._end(transfer, trial.judge(Failed(failure=error.failure)))
        except Exception as bug:  # noqa: BLE001 — as above
            self._end(transfer, failed_by_a_bug(trial.claim, trial.delivery, bug))

    def _break_off(self) -> None:
        for transfer in list(self._running):
            self._end(transfer, Interrupted())

    def _break_off_paused(self) -> None:
        for transfer in list(self._running):
            if transfer.attempt.delivery.paused_reason is not None:
                self._small.drop(transfer.ticket)
                self._end(transfer, Interrupted())

    def _end(self, transfer: _Transfer, outcome: Outcome) -> None:
        self._running.discard(transfer)
        self._hand_over(transfer.attempt, outcome)

    def _hand_over(self, trial: Attempt, outcome: Outcome) -> None:
        trial.close()
        self._finished.append(
            Done(
                claim=trial.claim,
                delivery=trial.delivery,
                outcome=outcome,
                seconds=time.monotonic() - trial.began,
            )
        )
        self._ended(trial.delivery)

    def _turned(self) -> None:
        """Hand over what ended lately, all at once: each waking of a thread costs time."""
        if not self._finished:
            return
        now = time.monotonic()
        if not self._finished_since:
            self._finished_since = now
        waited = now - self._finished_since
        if not self._running or waited >= HAND_OVER_SECONDS or len(self._finished) >= self.backlog:
            self._workers.put(self._finished)
            self._finished = []
            self._finished_since = 0.0

    # --- in any thread ----------------------------------------------------------------------

    def _ended(self, delivery: Delivery) -> None:
        """Begin the next claim: the lane must not wait for whoever writes the outcome down."""
        following = self._turnstile.leave(delivery)
        if following is not None:
            self._set_going(*following)
