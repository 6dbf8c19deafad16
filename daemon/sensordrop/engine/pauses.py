"""Pauses of deliveries by hand: uploads stop at once, sweeping and watching go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from sensordrop.core.controls import Control, ControlKind
from sensordrop.engine.delivery import Delivery

_log = structlog.get_logger()


class Pauses:
    """Takes pauses up as the control desk hands them on."""

    def __init__(self, deliveries: Sequence[Delivery], wake: Sequence[Callable[[], None]]) -> None:
        """All of `wake` are called when a delivery was paused, or no longer is."""
        self._deliveries = deliveries
        self._wake = wake

    def take_up(self, controls: Sequence[Control]) -> None:
        """Pause what is to be paused, and nothing else."""
        pauses = [each for each in controls if each.kind is ControlKind.PAUSE]
        changed = False
        for delivery in self._deliveries:
            reason = _reason(pauses, delivery.delivery_id)
            if reason != delivery.paused_reason:
                changed = True
                event = "resumed" if reason is None else "paused"
                _log.info(event, delivery=delivery.name, reason=reason or delivery.paused_reason)
                delivery.paused_reason = reason
        if changed:
            for wake in self._wake:
                wake()


def _reason(pauses: Sequence[Control], delivery_id: int) -> str | None:
    """Say who paused a delivery, or the whole station, in words; None if nobody did."""
    for pause in sorted(pauses, key=lambda each: each.delivery_id is None):
        if pause.delivery_id in (None, delivery_id):
            words = "paused" if pause.delivery_id is not None else "this station is paused"
            words += f" by {pause.set_by} since {pause.set_at:%Y-%m-%d %H:%M %Z}"
            if pause.until is not None:
                words += f" until {pause.until:%Y-%m-%d %H:%M %Z}"
            return f"{words}: {pause.reason}" if pause.reason else words
    return None
