"""Looks after a run by hand: tells how far it is, and notices when it is over.

The work itself is done by the services that a daemon has; this one only reads.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, replace

import structlog

from sensordrop.core.batch import (
    PATIENCE_SECONDS,
    Ended,
    Figures,
    RunEnd,
    RunView,
    Speedometer,
    another_run,
    why_ended,
)
from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.core.letters import LetterState
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.patience import LedgerPatience
from sensordrop.ports.batch import BatchLedger, LeftToDo
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.telling import SessionLine

LOOK_SECONDS = 0.5
"""How often it is looked how far the run is: one small question to the ledger."""
HOLD_SECONDS = 5.0
"""How often it is seen to that no other run can take the folder."""

_log = structlog.get_logger()


class BatchRun:
    """A service: `run` returns when `stop` is set. `is_set` is true once the run is over."""

    def __init__(
        self,
        *,
        ledger: BatchLedger,
        clock: Clock,
        delivery: Delivery,
        session_id: int,
        folder: str,
    ) -> None:
        """`folder`: what the run has taken hold of (`BatchLedger.hold_run`)."""
        self._ledger = ledger
        self._clock = clock
        self._delivery = delivery
        self._session_id = session_id
        self._folder = folder
        self._held_at = clock.monotonic()
        self._bell = Bell()
        self._over = threading.Event()
        self._patience = LedgerPatience("run", clock)
        self._speed = Speedometer()
        self._trouble_since: float | None = None
        self._away_since: float | None = None
        self._over_since: float | None = None
        self.figures = Figures(total=0, uploaded=0, skipped=0, failed=0, bytes_uploaded=0)
        self.ended: Ended | None = None

    def is_set(self) -> bool:
        """Tell whether the run is over."""
        return self._over.is_set()

    def wake(self) -> None:
        """Make it look at `stop`. Safe from every thread."""
        self._bell.ring()

    def run(self, stop: StopFlag) -> None:
        """Look until the run is over, and then until `stop` is set."""
        while not stop.is_set():
            wait = LOOK_SECONDS
            if self.ended is None:
                try:
                    self.ended = self._look()
                    self._patience.back()
                    self._away_since = None
                except LedgerUnavailableError as error:
                    wait = self._patience.lost(error)
                    self.ended = self._without_ledger(str(error))
                if self.ended is not None:
                    self._over.set()
            self._bell.wait(wait)
        self._ledger.close_own()

    def _look(self) -> Ended | None:
        if not self._still_held():
            return another_run(self._delivery.settings.root)
        lines = self._ledger.list_sessions([], session_id=self._session_id, most=1)
        line = lines[0] if lines else None
        if line is not None:
            self._note(line)
        left = self._ledger.left_to_do(self._delivery.delivery_id)
        # A session in which nothing came to be on the books leaves no row.
        ended = line is None or line.state == "ended"
        untold = self._untold_seconds() if ended else None
        return why_ended(replace(self._view(left, session_ended=ended), untold_seconds=untold))

    def _still_held(self) -> bool:
        """Tell whether the folder is this run's: it may have been lost with a connection."""
        now = self._clock.monotonic()
        if self._away_since is None and now - self._held_at < HOLD_SECONDS:
            return True
        self._held_at = now
        return self._ledger.hold_run(self._folder)

    def _untold_seconds(self) -> float | None:
        letters = self._ledger.letters_of(self._session_id)
        if all(letter.state is not LetterState.WAITING for letter in letters):
            return None
        if self._over_since is None:
            self._over_since = self._clock.monotonic()
        return self._clock.monotonic() - self._over_since

    def _note(self, line: SessionLine) -> None:
        figures = figures_of(line)
        speed = self._speed.note(self._clock.monotonic(), figures.finished)
        self.figures = replace(figures, files_per_second=speed)
        _log.info("run_progress", session=self._session_id, **asdict(self.figures))

    def _view(self, left: LeftToDo, *, session_ended: bool) -> RunView:
        delivery = self._delivery
        now = self._clock.monotonic()
        if delivery.offline_reason is None and delivery.blocked_reason is None:
            self._trouble_since = None
        elif self._trouble_since is None:
            self._trouble_since = now
        partial = delivery.tally.last_sweep_complete is False
        return RunView(
            session_ended=session_ended,
            swept=delivery.swept,
            sweeping=delivery.sweeping,
            sweep_problem=(delivery.reason or "the sweep was partial") if partial else None,
            settling=delivery.settling,
            unfinished=left.any,
            all_held=left.any and not left.to_be_had,
            paused=delivery.paused_reason,
            offline=delivery.offline_reason,
            blocked=delivery.blocked_reason,
            state=delivery.reason,
            trouble_seconds=0.0 if self._trouble_since is None else now - self._trouble_since,
        )

    def _without_ledger(self, problem: str) -> Ended | None:
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
        if now - self._away_since < PATIENCE_SECONDS:
            return None
        return Ended(how=RunEnd.NO_LEDGER, words=problem)


def figures_of(line: SessionLine) -> Figures:
    """Give what the ledger says of a session as figures."""
    counts = line.counts
    return Figures(
        total=sum(counts.values()) - counts.get("superseded", 0) - counts.get("vanished", 0),
        uploaded=counts.get("uploaded", 0),
        skipped=counts.get("skipped", 0),
        failed=counts.get("failed", 0),
        bytes_uploaded=line.bytes_uploaded,
    )
