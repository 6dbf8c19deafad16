"""The auditor: looks at a share of all stored objects each day, whether they are still as they were.

It walks over them in the order in which they came on the books, round after round, so that those
that were not verified for longest come first. It makes one request at a time, with a rest after
each, so that it never stands in the way of uploads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from sensordrop.core.audit import seconds_of, wait_seconds
from sensordrop.core.failure import (
    FailureError,
    FailureScope,
    InterruptedAttemptError,
    LedgerUnavailableError,
)
from sensordrop.core.verification import CheckMethod, CheckResult, KnownObject, compare_look
from sensordrop.engine.breakable import breakable
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.patience import LedgerPatience
from sensordrop.engine.roster import Roster
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.verifying import AuditStep, Checked, VerifyLedger

STEP_OBJECTS = 20
"""Objects that are looked at before the ledger is told: few are lost to a stop."""
REST_SECONDS = 0.2
"""Rest after each request: five a second at most, half a percent of what uploads make."""
TROUBLE_SECONDS = 300.0
"""How long a store that does not answer is left alone: its breaker is the uploader's affair."""

_log = structlog.get_logger()


class Auditor:
    """A service: `run` returns when `stop` is set."""

    def __init__(
        self,
        *,
        ledger: VerifyLedger,
        clock: Clock,
        deliveries: Sequence[Delivery],
        daemon_id: Callable[[], int],
        share_per_day: float,
        rest_seconds: float = REST_SECONDS,
        close_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """`share_per_day` is above 0; `close_thread` ends the thread's use of the ledger."""
        self._ledger = ledger
        self._clock = clock
        self._roster = Roster.of(deliveries)
        self._deliveries: dict[int, Delivery] = {}
        """Those in force, and enabled, as the step under way began."""
        self._daemon_id = daemon_id
        self._share_per_day = share_per_day
        self._rest_seconds = rest_seconds
        self._close_thread = close_thread
        self._bell = Bell()
        self._patience = LedgerPatience("auditor", clock)
        self._left_alone: dict[int, float] = {}
        """Deliveries whose store had trouble, and until when nobody asks it."""

    def run(self, stop: StopFlag) -> None:
        """Look at what is due until `stop` is set."""
        wait = 0.0
        while not stop.is_set():
            self._bell.wait(wait)
            if stop.is_set():
                break
            try:
                wait = self._step(stop)
                self._patience.back()
            except LedgerUnavailableError as error:
                wait = self._patience.lost(error)
        self._close_thread()

    def wake(self) -> None:
        """Make a waiting auditor look at `stop`. Safe from every thread."""
        self._bell.ring()

    def _step(self, stop: StopFlag) -> float:
        """Look at the next objects, and say how long to wait then."""
        self._deliveries = {d.delivery_id: d for d in self._roster if d.settings.enabled}
        step = self._ledger.audit_step(
            self._daemon_id(),
            [key for key, delivery in self._deliveries.items() if self._may_ask(delivery)],
            share_per_day=self._share_per_day,
            most=STEP_OBJECTS,
        )
        if step.allowance < 1.0:
            return wait_seconds(
                step.allowance, stored=step.stored, share_per_day=self._share_per_day
            )
        checked, asked, whole = self._look(step.objects, stop)
        position = step.position if whole else checked[-1].known.upload_id if checked else None
        newly_bad = self._ledger.note_audit(
            self._daemon_id(),
            checked,
            position=position,
            round_over=whole and step.round_over,
            used_seconds=seconds_of(asked, stored=step.stored, share_per_day=self._share_per_day),
        )
        self._tell(checked, newly_bad, step)
        return 1.0

    def _may_ask(self, delivery: Delivery) -> bool:
        """Tell whether a delivery's store may be asked. Whose turn passes meanwhile comes again in
        the next round.
        """
        alone_until = self._left_alone.get(delivery.delivery_id, 0.0)
        return delivery.blocked_reason is None and self._clock.monotonic() >= alone_until

    def _look(
        self, objects: Sequence[KnownObject], stop: StopFlag
    ) -> tuple[list[Checked], int, bool]:
        """Look at objects, one after the other.

        Gives what was found, how often the store was asked, and whether that were all of them.
        """
        checked: list[Checked] = []
        asked = 0
        for known in objects:
            delivery = self._deliveries[known.delivery_id]
            if not self._may_ask(delivery):
                continue
            asked += 1
            try:
                checked.append(self._look_at(known, delivery, stop))
            except InterruptedAttemptError:
                return checked, asked, False
            except FailureError as error:
                self._trouble(known, delivery, error)
            self._bell.wait(self._rest_seconds)
            if stop.is_set():
                return checked, asked, known is objects[-1]
        return checked, asked, True

    def _look_at(self, known: KnownObject, delivery: Delivery, stop: StopFlag) -> Checked:
        destination = delivery.settings.destination
        found = breakable(lambda: destination.look(known.object_key), stop)
        finding = compare_look(known, found)
        return Checked(known=known, method=CheckMethod.HEAD, finding=finding)

    def _trouble(self, known: KnownObject, delivery: Delivery, error: FailureError) -> None:
        failure = error.failure
        if failure.scope is not FailureScope.FILE:
            until = self._clock.monotonic() + TROUBLE_SECONDS
            self._left_alone[delivery.delivery_id] = until
        _log.warning("audit_failed", delivery=delivery.name, path=known.path_text,
                     error_class=failure.error_class, problem=failure.message,
                     hint=failure.hint)  # fmt: skip

    def _tell(self, checked: Sequence[Checked], newly_bad: set[int], step: AuditStep) -> None:
        for each in checked:
            known = each.known
            if known.upload_id not in newly_bad:
                continue
            event = (
                "object_missing"
                if each.finding.result is CheckResult.MISSING
                else "object_different"
            )
            delivery = self._deliveries[known.delivery_id].name
            _log.error(event, delivery=delivery, path=known.path_text,
                       object_key=known.object_key, problem=each.finding.reason,
                       hint="keep the file's card; docs/VERIFY.md says what to do")  # fmt: skip
        if checked:
            _log.debug("audited", objects=len(checked), position=step.position)
