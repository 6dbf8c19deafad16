"""What people tell deliveries to do: pauses (uploads stop at once, sweeping goes on), retries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import structlog

from sensordrop.core.controls import Control, pause_words
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.roster import Roster

HALT_LOOKS = 3
"""After so many looks without the pause of a halted delivery it is taken for resumed: the first look
may have begun before the pause was written."""

_log = structlog.get_logger()


class Pauses:
    """Takes pauses up as the control desk hands them on."""

    def __init__(self, deliveries: Sequence[Delivery], wake: Sequence[Callable[[], None]]) -> None:
        """All of `wake` are called when a delivery was paused, or no longer is."""
        self._roster = Roster.of(deliveries)
        self._wake = wake
        self._missing: dict[Delivery, int] = {}
        """How often the pause of a halted delivery was looked for in vain."""

    def take_up(self, controls: Sequence[Control]) -> None:
        """Pause what is to be paused, and nothing else."""
        changed = False
        for delivery in (*self._roster.now, *self._roster.left):
            reason = pause_words(controls, delivery.delivery_id)
            if delivery.halted and self._ends_halt(delivery, reason):
                delivery.halted = False
                changed = True
            if reason != delivery.paused_reason:
                changed = True
                event = "resumed" if reason is None else "paused"
                _log.info(event, delivery=delivery.name, reason=reason or delivery.paused_reason)
                delivery.paused_reason = reason
        if changed:
            for wake in self._wake:
                wake()

    def _ends_halt(self, delivery: Delivery, reason: str | None) -> bool:
        """Tell whether the pause keeps a halted delivery from now on, or was ended by somebody
        before it was ever seen here.
        """
        if reason is None and delivery.halt_written:
            self._missing[delivery] = self._missing.get(delivery, 0) + 1
            if self._missing[delivery] < HALT_LOOKS:
                return False
        elif reason is None:
            return False
        self._missing.pop(delivery, None)
        return True


class HandRetries:
    """Takes note of files that were retried by hand."""

    def __init__(self, deliveries: Sequence[Delivery], wake: Callable[[], None]) -> None:
        """`wake` makes the uploader look at the ledger."""
        self._deliveries = deliveries
        self._wake = wake

    def take_up(self, delivery_ids: Collection[int]) -> None:
        """Have them begun at once, and their session ended afterwards. May be repeated."""
        for delivery in self._deliveries:
            if delivery.delivery_id in delivery_ids:
                delivery.retried = True
        self._wake()
