"""What a service does while the ledger is away: say so once, wait, try again."""

from __future__ import annotations

import structlog

from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.ports import Clock

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0

_log = structlog.get_logger()


class LedgerPatience:
    """Counts how often in a row the ledger was away, for one service."""

    def __init__(self, service: str, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._failures = 0
        self._since = 0.0

    def lost(self, error: LedgerUnavailableError) -> float:
        """Note a failure and give the seconds to wait before the next try."""
        if self._failures == 0:
            self._since = self._clock.monotonic()
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
