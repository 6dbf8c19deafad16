"""Takes up what people set over the configuration while the daemon runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sensordrop.core.controls import Control
from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.patience import LedgerPatience
from sensordrop.engine.roster import Roster
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.life import Clock, StopFlag

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
        deliveries: Sequence[Delivery],
        takers: Sequence[Callable[[Sequence[Control]], None]],
        retried: Callable[[Collection[int]], None] = lambda _delivery_ids: None,
    ) -> None:
        """Prepare. `retried` is told of deliveries in which files are retried by hand."""
        self._ledger = ledger
        self._clock = clock
        self._daemon_id = daemon_id
        self._roster = Roster.of(deliveries)
        self._takers = takers
        self._retried = retried
        self._retries: dict[int, int] = {}
        self._bell = Bell()
        self._patience = LedgerPatience("controls", clock)
        self._known: list[Control] = []
        self._known_of: tuple[Delivery, ...] | None = None
        """The deliveries that they were asked for."""
        self._ask_at = 0.0

    def run(self, stop: StopFlag) -> None:
        """Ask and hand on until `stop` is set."""
        while not stop.is_set():
            self._ask()
            self._hand_on()
            self._bell.wait(LOOK_SECONDS)
        self._ledger.close_own()

    def _hand_on(self) -> None:
        """Call the takers, unless other deliveries are in force than those that were asked for:
        whoever put these in force took their controls up.
        """
        if self._known_of is not self._roster.now:
            return
        now = self._clock.now()
        holding = [c for c in self._known if c.until is None or c.until > now]
        for take in self._takers:
            take(holding)

    def wake(self) -> None:
        """Make it look at `stop`. Safe from every thread."""
        self._bell.ring()

    def _look_for_retries(self, delivery_ids: Sequence[int]) -> None:
        newest = self._ledger.newest_retries(delivery_ids)
        changed = {d for d, number in newest.items() if self._retries.get(d, 0) != number}
        if changed:  # at the start all that there ever were: one may have come in since it began
            self._retried(changed)
        self._retries = newest

    def _ask(self) -> None:
        if self._clock.monotonic() < self._ask_at:
            return
        try:
            deliveries = self._roster.now
            delivery_ids = [delivery.delivery_id for delivery in deliveries]
            self._known = self._ledger.controls(self._daemon_id(), delivery_ids)
            self._known_of = deliveries
            self._look_for_retries(delivery_ids)
            self._patience.back()
        except LedgerUnavailableError as error:
            self._ask_at = self._clock.monotonic() + self._patience.lost(error)
