"""What a service does while the ledger is away: say so once, wait, try again."""

from __future__ import annotations

import structlog

from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.ports.life import Clock

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0
REASONS_TOLD = 3
"""Reasons of one outage that are told: some have a number in them that is another one each time."""

_log = structlog.get_logger()


class LedgerPatience:
    """Counts how often in a row the ledger was away, for one service.

    It is told once, and again where another reason shows: a connection is cut first, and the next
    try tells that the database became read-only.
    """

    def __init__(self, service: str, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._failures = 0
        self._since = 0.0
        self._told: set[str] = set()

    def lost(self, error: LedgerUnavailableError) -> float:
        """Note a failure and give the seconds to wait before the next try."""
        if self._failures == 0:
            self._since = self._clock.monotonic()
            self._told.clear()
        if str(error) not in self._told and len(self._told) < REASONS_TOLD:
            self._told.add(str(error))
            _log.warning(
                "ledger_unavailable",
                service=self._service,
                problem=str(error),
                hint="nothing is lost; work goes on by itself when the database is back",
            )
        self._failures += 1
        return float(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (self._failures - 1)))

    def back(self) -> None:
        """Note that the ledger answered."""
        if self._failures:
            away = self._clock.monotonic() - self._since
            _log.info("ledger_back", service=self._service, away_seconds=round(away, 1))
        self._failures = 0
