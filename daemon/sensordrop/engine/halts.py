"""Deliveries in which one file after the other fails: they are paused for a human."""

from __future__ import annotations

import structlog

from sensordrop.core.failure import Failure
from sensordrop.core.lifecycle import wants_a_human
from sensordrop.engine.delivery import Delivery
from sensordrop.ports.ledger import Ledger

SET_BY = "sensordropd"
"""Who is told to have paused such a delivery."""

_log = structlog.get_logger()


class Halts:
    """Belongs to the uploader's thread. The pause itself is a control in the ledger, like any other:
    it survives restarts, and `sensordrop resume` ends it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._failed: dict[int, set[int]] = {}
        self._unwritten: dict[Delivery, str] = {}

    def stored(self, delivery: Delivery) -> None:
        """Take note that a file was stored: what failed before was not everything."""
        self._failed.pop(delivery.delivery_id, None)

    def forget(self, delivery: Delivery) -> None:
        """Forget what failed: the delivery left, or is configured anew."""
        self._failed.pop(delivery.delivery_id, None)

    def failed(self, delivery: Delivery, upload_id: int, failure: Failure) -> None:
        """Take note that a file failed; where too many did, nothing more of it is begun."""
        files = self._failed.setdefault(delivery.delivery_id, set())
        files.add(upload_id)
        if delivery.halted or not wants_a_human(len(files), delivery.settings.policy):
            return
        self._failed.pop(delivery.delivery_id)
        reason = (
            f"{len(files)} files failed and none was stored between them; the last one: "
            f"{failure.error_class}: {failure.message}"
        )
        delivery.halted, delivery.halt_written = True, False
        self._unwritten[delivery] = reason
        _log.error(
            "delivery_halted",
            delivery=delivery.name,
            problem=reason,
            hint=f"look at them (sensordrop files --state failed), mend the cause "
            f"({failure.hint or 'see docs/failures.md'}), then: sensordrop resume {delivery.name}",
        )

    def write_down(self) -> None:
        """Write the pauses down that are not yet. Raises LedgerUnavailableError."""
        for delivery, reason in list(self._unwritten.items()):
            self._ledger.pause_delivery(delivery.delivery_id, set_by=SET_BY, reason=reason)
            delivery.halt_written = True
            del self._unwritten[delivery]
