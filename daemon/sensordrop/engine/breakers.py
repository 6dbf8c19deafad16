"""The breakers of all scopes: opened by failures, probed, and closed by the first success."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import structlog

from sensordrop.core.breaker import (
    PROVEN,
    Breaker,
    Pace,
    Suspicion,
    blamed,
    proven_once,
    slowed,
    tripped,
)
from sensordrop.core.failure import Failure, FailureScope, own_failure
from sensordrop.engine.delivery import Delivery
from sensordrop.ports.life import Clock
from sensordrop.ports.records import BreakerState

MOST_SUSPECTS = 1_000
"""Files of one scope whose odd failures are remembered: more only in an outage, which blames none."""

_log = structlog.get_logger()


@dataclass(kw_only=True)
class _Scope:
    """What is known of one scope."""

    scope: FailureScope
    breaker: Breaker = field(default_factory=Breaker)
    client: str = ""
    """Whose file met the failure that the breaker stands open with."""
    suspects: dict[int, Suspicion] = field(default_factory=dict)
    """By upload: files that met odd failures and were not stored since."""
    got_through: bool = False
    """A file was stored since this process began."""


class Breakers:
    """Belongs to the uploader's thread."""

    def __init__(self, clock: Clock, dice: Callable[[], float]) -> None:
        self._clock = clock
        self._dice = dice
        self._by_key: dict[str, _Scope] = {}
        self._paces: dict[str, Pace] = {}
        self._changed: dict[str, BreakerState] = {}

    def fail(self, delivery: Delivery, failure: Failure, upload_id: int | None = None) -> bool:
        """Take note of a failure of a scope; tell whether its breaker is open now.

        `upload_id`: the file that met it, where it was one.
        """
        key = delivery.settings.breaker_keys.get(failure.scope)
        if key is None:
            return False
        known = self._by_key.setdefault(key, _Scope(scope=failure.scope))
        now = self._clock.monotonic()
        if failure.slow:
            self._paces[key] = slowed(self._paces.get(key, Pace()), monotonic=now)
        elif failure.odd and upload_id is not None:
            _suspect(known, upload_id)
        before = known.breaker
        known.breaker = tripped(before, failure, monotonic=now, dice=self._dice())
        if known.breaker.failure is failure:
            known.client = delivery.settings.client
        self._note(key, known, before)
        return known.breaker.is_open

    def judged(self, delivery: Delivery, failure: Failure, upload_id: int) -> Failure:
        """Give the failure as it is to be acted on: a file's own, where others get through."""
        key = delivery.settings.breaker_keys.get(failure.scope)
        known = self._by_key.get(key) if key is not None else None
        if known is None or key is None or not failure.odd or failure.slow:
            return failure
        suspicion = known.suspects.get(upload_id)
        if suspicion is None or not blamed(suspicion, suspects=len(known.suspects)):
            return failure
        self._close(key, known)
        return own_failure(failure)

    def succeed(self, delivery: Delivery, upload_id: int) -> bool:
        """Close the delivery's breakers: a file got through. Tell whether one was open."""
        closed = False
        for scope, key in delivery.settings.breaker_keys.items():
            known = self._by_key.get(key)
            if known is None:
                known = self._by_key[key] = _Scope(scope=scope)
            elif known.breaker is PROVEN and known.got_through and not known.suspects:
                continue  # as after nearly every file: there is nothing to take note of
            known.suspects.pop(upload_id, None)
            known.got_through = True
            _prove(known)
            closed |= self._close(key, known)
        return closed

    def answered(self, delivery: Delivery) -> None:
        """Take note that the delivery's bucket passed its check.

        That speaks for the project where files were stored before: a key that is forbidden alone.
        It says nothing of a store that answers questions and takes no bytes, nor of a policy that
        lets nobody write: only a file that gets through clears those.
        """
        key = delivery.settings.breaker_keys.get(FailureScope.PROJECT)
        known = self._by_key.get(key) if key is not None else None
        if known is not None and known.got_through:
            _prove(known)

    def calm(self, delivery: Delivery) -> None:
        """Close the delivery's breakers though no file got through: none is left that could.

        Its bucket passed its check, and nothing waits in the scopes that it shares. The first odd
        failure opens them again.
        """
        for key in delivery.settings.breaker_keys.values():
            known = self._by_key.get(key)
            if known is not None and known.breaker.is_open:
                known.suspects.clear()
                before, known.breaker = known.breaker, Breaker()
                self._note(key, known, before)

    def forget(self, delivery: Delivery, upload_id: int) -> None:
        """Forget a file that is finished, whatever came of it."""
        for key in delivery.settings.breaker_keys.values():
            if key in self._by_key:
                self._by_key[key].suspects.pop(upload_id, None)

    def keep(self, deliveries: Iterable[Delivery], *, anew: Iterable[Delivery] = ()) -> None:
        """Forget the breakers of scopes that none of these deliveries is in.

        `anew`: those that are new or configured anew. What stopped them may be mended: their
        breakers, if they are open, may be probed at once.
        """
        wanted = {key for d in deliveries for key in d.settings.breaker_keys.values()}
        for key in [key for key in self._by_key if key not in wanted]:
            self._close(key, self._by_key.pop(key))
            self._paces.pop(key, None)
        now = self._clock.monotonic()
        for key in {key for d in anew for key in d.settings.breaker_keys.values()}:
            known = self._by_key.get(key)
            if known is not None and known.breaker.is_open:
                before, known.breaker = known.breaker, replace(known.breaker, probe_at=now)
                self._note(key, known, before)

    def verdict(self, delivery: Delivery) -> tuple[bool, bool, str | None]:
        """Tell whether files of this delivery may be claimed: (any, one as a probe, reason)."""
        opened = [(key, s) for key, s in self._of(delivery) if s.breaker.is_open]
        if not opened:
            return True, False, None
        now = self._clock.monotonic()
        reason = _reason(delivery, *opened[0])
        return False, all(s.breaker.allows_probe(now) for _, s in opened), reason

    def workers(self, delivery: Delivery) -> int:
        """Say how many files of a delivery may be in work: fewer where its store asked for less."""
        most = delivery.settings.max_workers
        key = delivery.settings.breaker_keys.get(FailureScope.DESTINATION)
        pace = self._paces.get(key) if key is not None else None
        return most if pace is None else pace.workers(most, self._clock.monotonic())

    def open_scopes(self, delivery: Delivery) -> frozenset[FailureScope]:
        """Tell in which scopes the delivery's breakers are open. Safe from every thread."""
        found = set()
        for scope, key in delivery.settings.breaker_keys.items():
            known = self._by_key.get(key)
            if known is not None and known.breaker.is_open:
                found.add(scope)
        return frozenset(found)

    def changed(self) -> list[BreakerState]:
        """Give the breakers that changed since they were last written down."""
        return list(self._changed.values())

    def written(self, states: Iterable[BreakerState]) -> None:
        """Take note that these are written down."""
        for state in states:
            if self._changed.get(state.target) is state:
                del self._changed[state.target]

    def _of(self, delivery: Delivery) -> Iterable[tuple[str, _Scope]]:
        for scope in FailureScope:
            key = delivery.settings.breaker_keys.get(scope)
            if key is not None and key in self._by_key:
                yield key, self._by_key[key]

    def _close(self, key: str, known: _Scope) -> bool:
        before, known.breaker = known.breaker, PROVEN
        self._note(key, known, before)
        return before.is_open

    def _note(self, key: str, known: _Scope, before: Breaker) -> None:
        """Tell once that a breaker opened, has another reason, or closed; have it written down."""
        after = known.breaker
        if after is before or not (before.is_open or after.is_open):
            return
        wait = max(0.0, after.probe_at - self._clock.monotonic())
        self._changed[key] = BreakerState(
            scope=known.scope, target=key, failure=after.failure,
            failures=after.failures, probe_in_seconds=wait,
        )  # fmt: skip
        if after.failure is None:
            _log.info("breaker_closed", target=key)
            return
        if before.failure is None or before.failure.error_class != after.failure.error_class:
            failure = after.failure
            _log.warning(
                "breaker_opened" if before.failure is None else "breaker_reason_changed",
                scope=known.scope.value,
                target=key,
                error_class=failure.error_class,
                problem=failure.message,
                hint=failure.hint or "it is probed and closes by itself when the trouble is over",
            )


def _reason(delivery: Delivery, key: str, known: _Scope) -> str:
    """Say what stops a delivery. What another client's file met names that file and its bucket,
    which are not for everybody who may see this delivery.
    """
    failure = known.breaker.failure
    assert failure is not None
    words = failure.message
    if known.client != delivery.settings.client:
        words = f"{key}: {failure.error_class}, which a file of another client met"
    return f"{words} — {failure.hint}" if failure.hint else words


def _suspect(known: _Scope, upload_id: int) -> None:
    before = known.suspects.pop(upload_id, Suspicion())
    known.suspects[upload_id] = replace(before, unproven=True)
    while len(known.suspects) > MOST_SUSPECTS:
        del known.suspects[next(iter(known.suspects))]


def _prove(known: _Scope) -> None:
    for upload_id, each in known.suspects.items():
        known.suspects[upload_id] = proven_once(each)
