"""Follows what a living daemon does with a delivery that a run by hand was handed over to it.

It only reads: what the daemon publishes, and what is on the books.
"""

from __future__ import annotations

from dataclasses import asdict

import structlog

from sensordrop.core.batch import Ended, RunEnd, RunView, why_ended
from sensordrop.core.controls import Control, ControlKind
from sensordrop.core.letters import LetterState
from sensordrop.core.story import DeliveryPlace
from sensordrop.engine.batch import figures_of
from sensordrop.ports.batch import BatchLedger, DeliveryReport
from sensordrop.ports.life import Clock
from sensordrop.ports.telling import LetterLine, SessionLine

_log = structlog.get_logger()


class Following:
    """One delivery that is followed. Belongs to one thread; `look` raises LedgerUnavailableError."""

    def __init__(
        self, *, ledger: BatchLedger, clock: Clock, place: DeliveryPlace, station: str
    ) -> None:
        """Prepare, before the daemon is asked for its sweep."""
        self._ledger = ledger
        self._clock = clock
        self._place = place
        self._station = station
        self._before = self._newest()
        self._asked: Control | None = None
        self._since: dict[str, float] = {}
        self.session: SessionLine | None = None
        """The session that the files went into, once there is one."""

    def look(self) -> Ended | None:
        """Tell whether the daemon is through with the folder; None: it is not."""
        if not self._ledger.looked_after(self._place.delivery_id):
            words = "sensordropd has stopped; it goes on with its next start"
            return Ended(how=RunEnd.BLOCKED, words=words)
        due = self._rescan_due()
        # In this order: what is no longer settling is on the books by the time that is published.
        report = self._ledger.delivery_report(self._place.delivery_id)
        if report.state == "disabled":
            return Ended(how=RunEnd.BLOCKED, words=report.reason or "the delivery is disabled")
        left = self._ledger.left_to_do(self._place.delivery_id)
        line = self._newest()
        if line is not None and (line.state != "ended" or line != self._before):
            self.session = line
            _log.info("run_progress", session=line.session_id, **asdict(figures_of(line)))
        problem = report.sweep_problem if self._swept_since(report) else None
        swept = not due or problem is not None
        idle = report.state != "sweeping" and not report.settling and not left.any
        over = line is None or line.state == "ended"
        ended = swept and problem is None and idle and over
        trouble = report.state in ("offline", "blocked")
        return why_ended(
            RunView(
                session_ended=ended and report.state == "watching",
                swept=swept,
                sweeping=report.state == "sweeping",
                sweep_problem=problem,
                settling=report.settling,
                unfinished=left.any,
                all_held=left.any and not left.to_be_had,
                paused=_reason(report, "paused"),
                offline=_reason(report, "offline"),
                blocked=_reason(report, "blocked"),
                state=report.reason,
                untold_seconds=self._seconds("untold", since=ended and self._waits()),
                trouble_seconds=self._seconds("trouble", since=trouble) or 0.0,
            )
        )

    def letters(self) -> list[LetterLine]:
        """Tell how all that is to be told about the session stands."""
        return [] if self.session is None else self._ledger.letters_of(self.session.session_id)

    def _waits(self) -> bool:
        return any(letter.state is LetterState.WAITING for letter in self.letters())

    def _rescan_due(self) -> bool:
        settings = self._ledger.settings_in_force(ControlKind.RESCAN, self._station)
        for each in settings:
            if each.delivery == self._place.name and each.control is not None:
                self._asked = self._asked or each.control
                return True
        return False

    def _swept_since(self, report: DeliveryReport) -> bool:
        """Tell whether a sweep has ended since one was asked for. One that was partial leaves what
        was asked for due: it would be waited for as long as the folder can't be read.
        """
        if self._asked is None or report.swept_at is None:
            return self._asked is None
        return report.swept_at > self._asked.set_at

    def _seconds(self, what: str, *, since: bool) -> float | None:
        """Tell for how long something has been so; None: it is not."""
        if not since:
            self._since.pop(what, None)
            return None
        now = self._clock.monotonic()
        return now - self._since.setdefault(what, now)

    def _newest(self) -> SessionLine | None:
        lines = self._ledger.list_sessions([self._place.delivery_id], most=1)
        return lines[0] if lines else None


def _reason(report: DeliveryReport, state: str) -> str | None:
    return (report.reason or state) if report.state == state else None
