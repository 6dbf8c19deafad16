"""The janitor: heartbeat, claims of the dead, and the folding of counters."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.engine.delivery import Bell
from sensordrop.engine.patience import LedgerPatience
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.life import Clock, StopFlag

HEARTBEAT_SECONDS = 10.0
"""How often this program says that it lives."""
FOLD_SECONDS = 1.0
"""How often counters are folded, so that readers have little to add up."""
BURY_SECONDS = 30.0
"""How often claims of programs that died elsewhere are taken back."""

_log = structlog.get_logger()


class Janitor:
    """A service: `run` returns when `stop` is set."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        daemon_id: Callable[[], int],
        register_again: Callable[[], None],
        wake_uploader: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._daemon_id = daemon_id
        self._register_again = register_again
        self._wake_uploader = wake_uploader
        self._bell = Bell()
        self._patience = LedgerPatience("janitor", clock)
        self._heartbeat_at = 0.0
        self._bury_at = 0.0

    def run(self, stop: StopFlag) -> None:
        """Keep the ledger tidy until `stop` is set."""
        wait = 0.0
        while not stop.is_set():
            self._bell.wait(wait)
            try:
                self._step()
                self._patience.back()
                wait = FOLD_SECONDS
            except LedgerUnavailableError as error:
                wait = self._patience.lost(error)
        self._ledger.close_own()

    def wake(self) -> None:
        """Make a waiting janitor look at `stop`. Safe from every thread."""
        self._bell.ring()

    def _step(self) -> None:
        now = self._clock.monotonic()
        if now >= self._heartbeat_at:
            if not self._ledger.heartbeat(self._daemon_id()):
                _log.warning("declared_dead", daemon=self._daemon_id(),
                             hint="the heartbeat was silent too long; registering anew")  # fmt: skip
                self._register_again()
            self._heartbeat_at = now + HEARTBEAT_SECONDS
        if now >= self._bury_at:
            taken_back = self._ledger.take_back_dead()
            if taken_back:
                _log.warning("claims_taken_back", files=taken_back)
                self._wake_uploader()
            self._bury_at = now + BURY_SECONDS
        self._ledger.fold_counters()
