"""Takes up what people set over the configuration while the daemon runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sensordrop.core.controls import Control
from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.engine.delivery import Bell
from sensordrop.engine.patience import LedgerPatience
from sensordrop.ports import Clock, Ledger, StopFlag

LOOK_SECONDS = 1.0
"""How often the ledger is asked, and how late a timetable's change may be."""


class ControlDesk:
    """A service: `run` returns when `stop` is set.

    Whoever takes controls up is called about once a second with all that hold, also while the
    ledger is away: then with those that held last.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        daemon_id: Callable[[], int],
        delivery_ids: Sequence[int],
        takers: Sequence[Callable[[Sequence[Control]], None]],
        retried: Callable[[Collection[int]], None] = lambda _delivery_ids: None,
    ) -> None:
        """Prepare. `retried` is told of deliveries in which files are retried by hand."""
        self._ledger = ledger
        self._clock = clock
        self._daemon_id = daemon_id
        self._delivery_ids = delivery_ids
        self._takers = takers
        self._retried = retried
        self._retries: dict[int, int] = {}
        self._bell = Bell()
        self._patience = LedgerPatience("controls", clock)
        self._known: list[Control] = []
        self._ask_at = 0.0

    def run(self, stop: StopFlag) -> None:
        """Ask and hand on until `stop` is set."""
        while not stop.is_set():
            self._ask()
            now = self._clock.now()
            holding = [c for c in self._known if c.until is None or c.until > now]
            for take in self._takers:
                take(holding)
            self._bell.wait(LOOK_SECONDS)
        self._ledger.close_own()

    def wake(self) -> None:
        """Make it look at `stop`. Safe from every thread."""
        self._bell.ring()

    def _look_for_retries(self) -> None:
        newest = self._ledger.newest_retries(self._delivery_ids)
        changed = {d for d, number in newest.items() if self._retries.get(d, 0) != number}
        if changed:  # at the start all that there ever were: one may have come in since it began
            self._retried(changed)
        self._retries = newest

    def _ask(self) -> None:
        if self._clock.monotonic() < self._ask_at:
            return
        try:
            self._known = self._ledger.controls(self._daemon_id(), self._delivery_ids)
            self._look_for_retries()
            self._patience.back()
        except LedgerUnavailableError as error:
            self._ask_at = self._clock.monotonic() + self._patience.lost(error)
