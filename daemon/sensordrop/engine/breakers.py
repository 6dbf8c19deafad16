"""The breakers of all scopes: opened by failures, probed, and closed by the first success."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from sensordrop.core.breaker import Breaker, tripped
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.engine.delivery import Delivery
from sensordrop.ports import Clock

_log = structlog.get_logger()


class Breakers:
    """Belongs to the uploader's thread."""

    def __init__(self, clock: Clock, dice: Callable[[], float]) -> None:
        self._clock = clock
        self._dice = dice
        self._by_key: dict[str, Breaker] = {}

    def fail(self, delivery: Delivery, failure: Failure) -> None:
        """Open the breaker of the failure's scope, or lengthen its wait."""
        key = delivery.settings.breaker_keys.get(failure.scope)
        if key is None:
            return
        before = self._by_key.get(key, Breaker())
        after = tripped(before, failure, monotonic=self._clock.monotonic(), dice=self._dice())
        self._by_key[key] = after
        if not before.is_open:
            _log.warning(
                "breaker_opened",
                scope=failure.scope.value,
                target=key,
                error_class=failure.error_class,
                problem=failure.message,
                hint=failure.hint or "it is probed and closes by itself when the trouble is over",
            )

    def succeed(self, delivery: Delivery) -> bool:
        """Close the delivery's breakers: something got through. Tell whether one was open."""
        closed = False
        for key in delivery.settings.breaker_keys.values():
            if self._by_key.pop(key, None) is not None:
                closed = True
                _log.info("breaker_closed", target=key)
        return closed

    def verdict(self, delivery: Delivery) -> tuple[bool, bool, str | None]:
        """Tell whether files of this delivery may be claimed: (any, one as a probe, reason)."""
        opened = [b for b in self._of(delivery) if b.is_open]
        if not opened:
            return True, False, None
        now = self._clock.monotonic()
        failure = opened[0].failure
        assert failure is not None
        reason = f"{failure.message} — {failure.hint}" if failure.hint else failure.message
        return False, all(b.allows_probe(now) for b in opened), reason

    def open_scopes(self, delivery: Delivery) -> frozenset[FailureScope]:
        """Tell in which scopes the delivery's breakers are open. Safe from every thread."""
        found = set()
        for scope, key in delivery.settings.breaker_keys.items():
            breaker = self._by_key.get(key)
            if breaker is not None and breaker.is_open:
                found.add(scope)
        return frozenset(found)

    def _of(self, delivery: Delivery) -> Iterable[Breaker]:
        for scope in FailureScope:
            key = delivery.settings.breaker_keys.get(scope)
            if key is not None and key in self._by_key:
                yield self._by_key[key]
