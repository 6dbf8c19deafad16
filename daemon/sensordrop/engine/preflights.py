"""Preflights: each destination is checked before its first byte, beside the uploader's thread.

A check may wait for a network that does not answer, so each runs in a short thread of its own;
what came of it is taken up by the uploader, which is woken for it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from sensordrop.core.check import Check, CheckOutcome, first_failure
from sensordrop.engine.delivery import Delivery
from sensordrop.ports.life import Clock

AT_ONCE = 8
"""Preflights that run at the same time: each is some waiting and hardly any work."""
AGE_SECONDS = 24 * 3600.0
"""After this a destination is checked anew, beside the uploads: stores are upgraded, rights
change."""

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A preflight that has ended."""

    delivery: Delivery
    checks: Sequence[Check]


@dataclass(kw_only=True)
class _State:
    passed_at: float | None = None
    """When it last passed; None: it must pass before anything is sent."""
    running: bool = False
    told: set[tuple[str, str]] = field(default_factory=set)


class Preflights:
    """Belongs to the uploader's thread."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._states: dict[str, _State] = {}
        self._ended: queue.SimpleQueue[Checked] = queue.SimpleQueue()

    def passed(self, delivery: Delivery) -> bool:
        """Tell whether files may be sent; where a preflight is due, begin it."""
        state = self._states.setdefault(delivery.key, _State())
        now = self._clock.monotonic()
        if state.passed_at is None or now - state.passed_at >= AGE_SECONDS:
            self.begin(delivery)
        return state.passed_at is not None

    def begin(self, delivery: Delivery) -> None:
        """Begin a preflight, unless it is under way or too many are."""
        state = self._states.setdefault(delivery.key, _State())
        if state.running or sum(s.running for s in self._states.values()) >= AT_ONCE:
            return
        state.running = True
        threading.Thread(
            target=self._check, args=(delivery,), name=f"preflight {delivery.name}", daemon=True
        ).start()

    def forget(self, delivery: Delivery) -> None:
        """Have the destination checked anew before the next file goes to it."""
        self._states.setdefault(delivery.key, _State()).passed_at = None

    def drop(self, delivery: Delivery) -> None:
        """Forget a delivery that left."""
        self._states.pop(delivery.key, None)

    def collect(self) -> list[Checked]:
        """Give the preflights that have ended, and tell what was not told before."""
        found: list[Checked] = []
        while not self._ended.empty():
            checked = self._ended.get()
            state = self._states.get(checked.delivery.key)
            if state is None:
                continue  # its delivery left meanwhile
            state.running = False
            bad = any(c.outcome is CheckOutcome.FAILED for c in checked.checks)
            state.passed_at = None if bad else self._clock.monotonic()
            _tell(checked, state)
            found.append(checked)
        return found

    def _check(self, delivery: Delivery) -> None:
        settings = delivery.settings
        checks: Sequence[Check] = ()
        try:
            checks = settings.destination.preflight(settings.s3_prefix)
        except Exception as bug:  # noqa: BLE001 — every file is still proven by itself
            _log.error("bug", delivery=delivery.name, exc_info=bug)
        self._ended.put(Checked(delivery=delivery, checks=checks))
        self._wake()


def _tell(checked: Checked, state: _State) -> None:
    """Log every check whose words are new: an outage is not told at every try."""
    lines = {(check.name, check.words) for check in checked.checks}
    for check in checked.checks:
        if (check.name, check.words) in state.told:
            continue
        log = _log.warning if check.outcome is CheckOutcome.FAILED else _log.info
        if check.failure is not None and check.failure is first_failure(checked.checks):
            log = _log.debug  # the breaker that it opens tells it
        hint = {"hint": check.hint} if check.hint else {}
        log("preflight", delivery=checked.delivery.name, check=check.name,
            outcome=check.outcome.value, found=check.words, **hint)  # fmt: skip
    state.told = lines
