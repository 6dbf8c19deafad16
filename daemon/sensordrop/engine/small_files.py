"""Small files: a lane works on them in one thread, many at once, from opening to the answer.

A disk that does not answer holds that thread, and all files in it. It is given up then as a whole,
and another one begun: the outcome of each claim is told once, by whoever takes it out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.core.lifecycle import Failed, Interrupted, Outcome
from sensordrop.core.model import Claim
from sensordrop.engine.attempt import Attempt
from sensordrop.engine.delivery import AttemptStop, Delivery
from sensordrop.engine.lane_thread import LaneThread
from sensordrop.engine.workers import Done, failed_by_a_bug
from sensordrop.ports.life import StopFlag
from sensordrop.ports.transfer import HttpAnswer, Lane, QuickSteps

HAND_OVER_SECONDS = 0.01
"""How long an outcome waits for others while transfers run."""


@dataclass(kw_only=True, eq=False)
class _Transfer:
    attempt: Attempt
    steps: QuickSteps | None = None
    """What is to be asked of the store; None: it was not begun."""
    ticket: int = -1
    """Of the request that is running."""


class SmallFiles:
    """A lane with its thread, and the claims in it. `submit`, `held_by` and `give_up` are safe from
    every thread; `most` is how many it works on at once.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        name: str,
        most: int,
        abandon: StopFlag,
        done: Callable[[Sequence[Done]], None],
        too_slow: Callable[[Claim, Delivery], None],
        ended: Callable[[Delivery], None],
    ) -> None:
        """`done` takes outcomes, `too_slow` claims that would hold the lane up; `ended` is called
        after each outcome.
        """
        self.most = most
        self._abandon = abandon
        self._done = done
        self._too_slow = too_slow
        self._ended = ended
        self._lock = threading.Lock()
        self._inside: set[_Transfer] = set()
        """Those whose outcome is still to be told."""
        self._finished: list[Done] = []
        self._finished_since = 0.0
        self._running: set[_Transfer] = set()
        """Those that hold something of the thread's; it alone touches them."""
        self._at: Delivery | None = None
        """Whose file the thread is at just now."""
        self._thread = LaneThread(lane, name=name, most=most, abandon=abandon)
        self._thread.begin(
            broken_off=self._break_off, look=self._break_off_paused, turned=self._turned
        )

    def __len__(self) -> int:
        """Count the claims in it. Safe from every thread."""
        return len(self._inside)

    @property
    def alive(self) -> bool:
        """Whether it still takes claims."""
        return self._thread.alive

    def submit(self, claim: Claim, delivery: Delivery) -> None:
        """Have a claim worked on."""
        stop = AttemptStop(self._abandon, delivery)
        transfer = _Transfer(attempt=Attempt(claim, delivery, stop))
        with self._lock:
            if self._thread.alive:
                self._inside.add(transfer)
                self._thread.call(lambda: self._begin(transfer, stop))
                return
        self._too_slow(claim, delivery)

    def resize(self, most: int) -> None:
        """Work on so many at once from now on."""
        self.most = most
        self._thread.resize(most)

    def close(self) -> None:
        """Let the thread end when its work is done. Does not wait for it."""
        self._thread.close()

    def held_by(self, delivery: Delivery) -> bool:
        """Tell whether a file of that delivery has been holding the thread for a while."""
        return self._at is delivery and self._thread.held

    def give_up(self, delivery: Delivery | None) -> list[Claim]:
        """Leave the thread, which a file of that delivery holds, alone; give the delivery's claims.

        Nothing more comes of these. All others are told to be interrupted. The thread lets go of
        what it has when its disk answers.
        """
        with self._lock:
            self._thread.give_up()
            left, self._inside = self._inside, set()
            finished, self._finished = self._finished, []
        own = [each.attempt.claim for each in left if each.attempt.delivery is delivery]
        others = [each.attempt for each in left if each.attempt.delivery is not delivery]
        finished += [_done(attempt, Interrupted()) for attempt in others]
        if finished:
            self._done(finished)
        for each in left:
            self._ended(each.attempt.delivery)
        return own

    # --- in the lane's thread -------------------------------------------------------------

    def _begin(self, transfer: _Transfer, stop: StopFlag) -> None:
        trial = transfer.attempt
        claim, delivery = trial.claim, trial.delivery
        self._running.add(transfer)
        try:
            self._at = delivery
            outcome = Interrupted() if stop.is_set() else trial.begin()
            self._at = None
            if outcome is None:
                if not self._thread.alive:
                    return  # it was given up meanwhile: `_break_off` lets go of it
                transfer.steps = delivery.settings.destination.quick(
                    trial.file, trial.key, look=claim.unlisted
                )
                self._advance(transfer, None)
                return
        except FailureError as error:
            outcome = Failed(failure=error.failure)
        except InterruptedAttemptError:
            outcome = Interrupted()
        except Exception as bug:  # noqa: BLE001 — one file's bug must not stop its neighbours
            outcome = failed_by_a_bug(claim, delivery, bug)
        self._end(transfer, outcome)

    def _advance(self, transfer: _Transfer, answer: HttpAnswer | None) -> None:
        """Give a transfer its answer, and begin its next request or end it."""
        trial, steps = transfer.attempt, transfer.steps
        if steps is None:
            self._pass_on(transfer)
            return
        try:
            request = next(steps) if answer is None else steps.send(answer)
            transfer.ticket = self._thread.start(request, lambda got: self._advance(transfer, got))
        except StopIteration as end:
            if end.value is None:
                self._pass_on(transfer)
            else:
                self._end(transfer, self._judge(trial, end.value))
        except FailureError as error:
            self._end(transfer, self._judge(trial, Failed(failure=error.failure)))
        except Exception as bug:  # noqa: BLE001 — as above
            self._end(transfer, failed_by_a_bug(trial.claim, trial.delivery, bug))

    def _judge(self, trial: Attempt, outcome: Outcome) -> Outcome:
        self._at = trial.delivery
        try:
            return trial.judge(outcome)
        finally:
            self._at = None

    def _break_off(self) -> None:
        for transfer in list(self._running):
            self._end(transfer, Interrupted())

    def _break_off_paused(self) -> None:
        for transfer in list(self._running):
            if transfer.attempt.delivery.paused_reason is not None:
                self._thread.drop(transfer.ticket)
                self._end(transfer, Interrupted())

    def _pass_on(self, transfer: _Transfer) -> None:
        """Hand a claim over to those who may take their time."""
        trial = transfer.attempt
        if self._take_out(transfer):
            self._too_slow(trial.claim, trial.delivery)

    def _end(self, transfer: _Transfer, outcome: Outcome) -> None:
        if not self._take_out(transfer, outcome):
            return
        self._ended(transfer.attempt.delivery)

    def _take_out(self, transfer: _Transfer, outcome: Outcome | None = None) -> bool:
        """Let go of a transfer; tell whether what comes of it is still ours to say."""
        self._running.discard(transfer)
        self._at = transfer.attempt.delivery
        transfer.attempt.close()
        self._at = None
        with self._lock:
            if transfer not in self._inside:
                return False
            self._inside.discard(transfer)
            if outcome is not None:
                self._finished.append(_done(transfer.attempt, outcome))
        return True

    def _turned(self) -> None:
        """Hand over what ended lately, all at once: each waking of a thread costs time."""
        if not self._finished:
            return
        now = time.monotonic()
        if not self._finished_since:
            self._finished_since = now
        waited = now - self._finished_since
        if not self._running or waited >= HAND_OVER_SECONDS or len(self._finished) >= self.most:
            with self._lock:
                finished, self._finished = self._finished, []
            self._done(finished)
            self._finished_since = 0.0


def _done(attempt: Attempt, outcome: Outcome) -> Done:
    return Done(
        claim=attempt.claim,
        delivery=attempt.delivery,
        outcome=outcome,
        seconds=time.monotonic() - attempt.began,
    )
