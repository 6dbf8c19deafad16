"""The reloader: takes another configuration up while the daemon runs, when somebody asks for it.

Nothing is half done: a configuration with a mistake changes nothing, and one that the ledger could
not be told of waits until it can.
"""

from __future__ import annotations

import queue
from collections.abc import Callable

import structlog

from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.ports.life import Clock, ReloadOutcome, ServiceManager, StopFlag

TURN_SECONDS = 0.5
"""How often the stop flag is looked at."""
AGAIN_SECONDS = 5.0
"""How often a configuration is tried again that the ledger could not be told of."""

_log = structlog.get_logger()


class Asked:
    """How often a reload was asked for. `ask` may be called in a signal handler, at any instant."""

    def __init__(self) -> None:
        # Its put may interrupt itself; an Event's set, called by two signals at once, would not end.
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask(self) -> None:
        """Ask for a reload."""
        self._queue.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait until somebody asks, at most so long; tell whether anybody did.

        All that was asked for until now is answered by what is read after this.
        """
        try:
            self._queue.get(timeout=seconds)
        except queue.Empty:
            return False
        while not self._queue.empty():
            self._queue.get_nowait()  # nobody else takes any
        return True


class Reloader:
    """A service: `run` returns when `stop` is set."""

    def __init__(
        self,
        *,
        asked: Asked,
        reload: Callable[[], ReloadOutcome],
        refused: Callable[[ReloadOutcome], None],
        note: Callable[[ReloadOutcome, float], None],
        manager: ServiceManager,
        clock: Clock,
        close_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        `reload` reads the configuration and puts it in force; it raises LedgerUnavailableError.
        `refused` writes a configuration down that was not taken, `note` what came of each try,
        with the monotonic time at which it began; both may fail in their own way, but not raise
        anything beside LedgerUnavailableError.
        """
        self._asked = asked
        self._reload = reload
        self._refused = refused
        self._note = note
        self._manager = manager
        self._clock = clock
        self._close_thread = close_thread
        self._again_at: float | None = None
        self._untold: ReloadOutcome | None = None

    def run(self, stop: StopFlag) -> None:
        """Reload whenever somebody asks, until `stop` is set."""
        while not stop.is_set():
            if self._asked.wait(TURN_SECONDS) or self._is_due():
                self._try()
            self._tell_ledger()
        self._close_thread()

    def _is_due(self) -> bool:
        return self._again_at is not None and self._clock.monotonic() >= self._again_at

    def _try(self) -> None:
        began = self._clock.monotonic()
        self._again_at = self._untold = None
        self._manager.reloading()
        try:
            outcome = self._reload()
        except LedgerUnavailableError as error:
            outcome = ReloadOutcome(problems=(f"the ledger is away: {error}",), waits=True)
            self._again_at = began + AGAIN_SECONDS
        except Exception as error:
            # Whoever waits is told; the supervisor hears of it too, and starts this service anew.
            self._answer(ReloadOutcome(problems=(f"a mistake in sensordropd: {error!r}",)), began)
            raise
        self._answer(outcome, began)

    def _answer(self, outcome: ReloadOutcome, began: float) -> None:
        """Tell everybody what came of a try."""
        _tell(outcome)
        if not outcome.taken:
            self._untold = outcome
        self._note(outcome, began)
        self._manager.reloaded()

    def _tell_ledger(self) -> None:
        """Write a refusal down where others read it, as soon as the ledger is there."""
        if self._untold is None:
            return
        try:
            self._refused(self._untold)
        except LedgerUnavailableError:
            return
        self._untold = None


def _tell(outcome: ReloadOutcome) -> None:
    if outcome.taken:
        _log.info("configuration_reloaded", changes=outcome.changes)
        if outcome.needs_restart:
            _log.warning("restart_needed", keys=list(outcome.needs_restart),
                         hint="these keys are only read at the start: systemctl restart sensordropd")  # fmt: skip
        return
    for problem in outcome.problems:
        _log.error("configuration_problem", problem=problem)
    _log.error(
        "configuration_waits" if outcome.waits else "configuration_refused",
        problem=f"{len(outcome.problems)} {'problem' if len(outcome.problems) == 1 else 'problems'}",
        hint="it is tried again until the ledger is there; the one before is in force until then"
        if outcome.waits
        else "the configuration before stays in force; mend it and reload again",
    )
