"""The teller: keeps the service manager informed of how the daemon is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from sensordrop.core.status_line import status_line
from sensordrop.core.vitals import StationVitals
from sensordrop.engine.delivery import Bell
from sensordrop.ports.life import ServiceManager, StopFlag

TELL_SECONDS = 2.0
"""How old the line of `systemctl status` may be."""
START_SECONDS = 0.1
"""How often it is looked whether the first sweeps have begun."""


class Teller:
    """A service: `run` returns when `stop` is set."""

    def __init__(
        self, *, manager: ServiceManager, vitals: Callable[[], StationVitals], zone: tzinfo
    ) -> None:
        self._manager = manager
        self._vitals = vitals
        self._zone = zone
        self._bell = Bell()
        self._ready = False

    def run(self, stop: StopFlag) -> None:
        """Tell until `stop` is set."""
        while not stop.is_set():
            vitals = self._vitals()
            self._manager.status(status_line(vitals, self._zone))
            if not self._ready and _begun(vitals):
                self._ready = True
                self._manager.ready()
            self._bell.wait(TELL_SECONDS if self._ready else START_SECONDS)
        self._manager.stopping()

    def wake(self) -> None:
        """Make it look at `stop`. Safe from every thread."""
        self._bell.ring()


def _begun(vitals: StationVitals) -> bool:
    """Tell whether every folder was looked at: its first sweep runs, or a reason against it is known."""
    return all(d.state is not None for d in vitals.deliveries if d.enabled)
