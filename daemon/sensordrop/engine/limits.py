"""Which bandwidth limit holds: what was set by hand, else what is configured, at this time of day."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import structlog

from sensordrop.core.bandwidth import Limit
from sensordrop.core.controls import Control, ControlKind
from sensordrop.core.timetable import Rate, TimetableError, rate_text
from sensordrop.engine.throttle import Throttles
from sensordrop.ports.life import Clock

_log = structlog.get_logger()

STATION = None
"""The key of the station's own limit, where the others are those of delivery ids."""


class Limits:
    """Puts limits in force. Safe from every thread."""

    def __init__(
        self,
        *,
        throttles: Throttles,
        clock: Clock,
        configured: Mapping[int | None, Limit],
        names: Mapping[int, str],
        read: Callable[[str], Limit],
    ) -> None:
        """`configured` has the station's limit under `STATION`, a delivery's under its id.

        `read` reads what was set by hand; raises TimetableError.
        """
        self._throttles = throttles
        self._clock = clock
        self._lock = threading.Lock()
        self._configured = configured
        self._names = names
        self._read = read
        self._set: dict[int | None, tuple[str, Limit]] = {}
        self._refused: set[tuple[int | None, str]] = set()
        self._rates: dict[int | None, Rate] = {}
        self._in_force: dict[int | None, Limit] = dict(configured)

    def rate(self, place: int | None) -> Rate:
        """Tell which rate holds now for the station or a delivery. Safe from every thread."""
        return self._rates.get(place)

    def in_force(self, delivery_id: int) -> list[Limit]:
        """Give the limits that a delivery falls under, with their timetables. Safe from every
        thread.
        """
        limits = self._in_force
        return [limits[place] for place in (STATION, delivery_id) if place in limits]

    def take_up(self, controls: Sequence[Control]) -> None:
        """Put in force what holds now: these controls, over the configuration."""
        with self._lock:
            self._take_up(controls)

    def configure(
        self,
        configured: Mapping[int | None, Limit],
        names: Mapping[int, str],
        controls: Sequence[Control],
    ) -> None:
        """Take up what another configuration says, and put in force what holds now."""
        with self._lock:
            self._configured, self._names = configured, names
            self._take_up(controls)

    def _take_up(self, controls: Sequence[Control]) -> None:
        wanted = {c.delivery_id: c.value for c in controls if c.kind is ControlKind.BANDWIDTH}
        now = self._clock.now()
        limits = {place: self._limit(place, wanted.get(place)) for place in self._configured}
        self._in_force = limits
        rates = {place: limit.rate(now) for place, limit in limits.items()}
        if rates == self._rates:
            return
        self._throttles.set_rates(
            rates.get(STATION),
            {name: rates.get(delivery_id) for delivery_id, name in self._names.items()},
        )
        for place, rate in rates.items():
            if rate != self._rates.get(place):
                _log.info("bandwidth", of=self._name(place), rate=rate_text(rate))
        self._rates = rates

    def _limit(self, place: int | None, wanted: str | None) -> Limit:
        if wanted is None:
            return self._configured[place]
        if place in self._set and self._set[place][0] == wanted:
            return self._set[place][1]
        try:
            limit = self._read(wanted)
        except TimetableError as error:
            if (place, wanted) not in self._refused:
                self._refused.add((place, wanted))
                _log.error("bandwidth_refused", of=self._name(place), setting=wanted,
                           problem=str(error),
                           hint="the configured limit holds; set it anew: sensordrop bandwidth")  # fmt: skip
            return self._configured[place]
        self._set[place] = (wanted, limit)
        return limit

    def _name(self, place: int | None) -> str:
        return "this station" if place is None else self._names[place]
