"""The tidier: throws away, in the stores, uploads in parts of ours that nobody goes on with.

A service of its own, because a store may take a minute to answer: the janitor must not wait.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from sensordrop.core.failure import FailureError, LedgerUnavailableError
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.patience import LedgerPatience
from sensordrop.engine.roster import Roster
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.life import Clock, StopFlag

LOOK_SECONDS = 600.0
"""How often is looked for what nobody goes on with."""
KEPT_SECONDS = 7 * 24 * 3600.0
"""How long an upload in parts on which nothing landed is kept for its file to go on with."""

_log = structlog.get_logger()


class Tidier:
    """A service: `run` returns when `stop` is set."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        deliveries: Sequence[Delivery],
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._roster = Roster.of(deliveries)
        self._kept_seconds = kept_seconds
        self._bell = Bell()
        self._patience = LedgerPatience("tidier", clock)

    def run(self, stop: StopFlag) -> None:
        """Look for what is stale now and then, until `stop` is set."""
        while not stop.is_set():
            try:
                self.discard_stale(stop)
                self._patience.back()
                wait = LOOK_SECONDS
            except LedgerUnavailableError as error:
                wait = self._patience.lost(error)
            self._bell.wait(wait)
        self._ledger.close_own()

    def wake(self) -> None:
        """Make a waiting tidier look at `stop`. Safe from every thread."""
        self._bell.ring()

    def discard_stale(self, stop: StopFlag) -> None:
        """Throw away what is stale now. Raises LedgerUnavailableError."""
        deliveries = {d.delivery_id: d for d in self._roster if d.settings.enabled}
        stale = self._ledger.stale_uploads(list(deliveries), kept_seconds=self._kept_seconds)
        for each in stale:
            if stop.is_set():
                return
            delivery = deliveries[each.delivery_id]
            if delivery.blocked_reason is not None:
                continue  # the store has trouble already; the next round asks again
            upload = each.upload
            try:
                delivery.settings.destination.discard(upload, each.known)
            except FailureError as error:
                _log.warning("upload_not_discarded", delivery=delivery.name,
                             object_key=upload.object_key, problem=error.failure.message,
                             hint=error.failure.hint)  # fmt: skip
                continue
            self._ledger.forget_upload(upload.record_id)
            _log.info("upload_discarded", delivery=delivery.name, object_key=upload.object_key,
                      begun_at=upload.begun_at.isoformat(timespec="seconds"))  # fmt: skip
