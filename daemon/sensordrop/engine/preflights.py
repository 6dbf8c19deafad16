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

from sensordrop.core.check import Check, CheckOutcome, failed_by, first_failure
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.engine.delivery import Delivery
from sensordrop.ports.life import Clock

AT_ONCE = 8
"""Preflights that run at the same time: each is some waiting and hardly any work."""
AGE_SECONDS = 24 * 3600.0
"""After this a destination is checked anew, beside the uploads: stores are upgraded, rights
change."""

OVERDUE_SECONDS = 180.0
"""A check that has not ended by then is told, and stops its project where none has passed before: all
of its requests together may take half as long, but what gives out credentials may hang for ever."""

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
    begun_at: float | None = None
    """Since when one has been under way; None: none is."""
    overdue: bool = False
    """The one that is under way has been told to take too long."""
    told: set[tuple[str, str]] = field(default_factory=set)


class Preflights:
    """Belongs to the uploader's thread."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._states: dict[str, _State] = {}
        self._delivering: dict[str, Delivery] = {}
        """Whose preflights are under way."""
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
        under_way = [s for s in self._states.values() if s.begun_at is not None and not s.overdue]
        if state.begun_at is not None or len(under_way) >= AT_ONCE:
            return
        state.begun_at = self._clock.monotonic()
        self._delivering[delivery.key] = delivery
        threading.Thread(
            target=self._check, args=(delivery,), name=f"preflight {delivery.name}", daemon=True
        ).start()

    def forget(self, delivery: Delivery) -> None:
        """Have the destination checked anew before the next file goes to it."""
        self._states.setdefault(delivery.key, _State()).passed_at = None

    def drop(self, delivery: Delivery) -> None:
        """Forget a delivery that left."""
        self._states.pop(delivery.key, None)
        self._delivering.pop(delivery.key, None)

    def collect(self) -> list[Checked]:
        """Give the preflights that have ended, and tell what was not told before.

        One that takes too long is given as failed, once; it is under way until it ends by itself.
        """
        found = self._overdue()
        while not self._ended.empty():
            checked = self._ended.get()
            state = self._states.get(checked.delivery.key)
            if state is None:
                continue  # its delivery left meanwhile
            state.begun_at, state.overdue = None, False
            self._delivering.pop(checked.delivery.key, None)
            bad = any(c.outcome is CheckOutcome.FAILED for c in checked.checks)
            state.passed_at = None if bad else self._clock.monotonic()
            _tell(checked, state)
            found.append(checked)
        return found

    def _overdue(self) -> list[Checked]:
        found = []
        for key, delivery in self._delivering.items():
            state = self._states.get(key)
            if state is None or state.overdue or state.begun_at is None:
                continue
            if self._clock.monotonic() - state.begun_at >= OVERDUE_SECONDS:
                state.overdue = True
                hangs = _hangs(delivery)
                _log.warning("preflight", delivery=delivery.name, check="check",
                             outcome=CheckOutcome.FAILED.value, found=hangs.message,
                             hint=hangs.hint)  # fmt: skip
                if state.passed_at is None:  # else uploads go on, as far as they get
                    checks = (failed_by("check", hangs),)
                    found.append(Checked(delivery=delivery, checks=checks))
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


def _hangs(delivery: Delivery) -> Failure:
    return Failure(
        scope=FailureScope.PROJECT,
        error_class="timeout",
        message=f"checking the bucket of {delivery.name}: it has not ended for "
        f"{OVERDUE_SECONDS:.0f} seconds",
        hint="look at what gives out the credentials (credential_process of the profile, a "
        "sign-in that waits for somebody) and at the way to the store; it goes on by itself",
    )


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
