"""The observer: keeps at hand how the daemon is, so that whoever asks costs nobody anything.

What only the ledger knows it reads now and then on a connection of its own, and less often where
that takes long; everything else are plain values that the other services set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sensordrop.core.failure import FailureScope, LedgerUnavailableError
from sensordrop.core.progress import seconds_left
from sensordrop.core.tally import StationTally
from sensordrop.core.vitals import (
    ANSWER_SECONDS,
    ConfigurationInForce,
    DeliveryReading,
    DeliveryVitals,
    DiskSpace,
    LedgerReading,
    StationVitals,
)
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.limits import STATION, Limits
from sensordrop.engine.patience import LedgerPatience
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.watched import VitalsLedger

ASK_SECONDS = 5.0
"""How often the ledger is asked whether it is there, and is read if that is cheap: fresh enough for
a scrape every fifteen seconds."""
READ_SHARE = 0.02
"""The reading takes no more than this share of the time: with a thousand deliveries and their
sensors it adds up a hundred thousand counts."""


class Uploads(Protocol):
    """What is asked of the uploader. Safe from every thread; never blocks."""

    def running(self, delivery_id: int) -> int:
        """Tell how many files of a delivery are being uploaded."""
        ...

    def open_breakers(self, delivery: Delivery) -> frozenset[FailureScope]:
        """Tell in which scopes a delivery's breakers are open."""
        ...


class Observer:
    """A service, and `ports.Telemetry`. `run` returns when `stop` is set."""

    def __init__(
        self,
        *,
        ledger: VitalsLedger,
        clock: Clock,
        deliveries: Sequence[Delivery],
        daemon_id: Callable[[], int],
        tally: StationTally,
        uploads: Uploads,
        hints: HintQueue,
        limits: Limits,
        restarts: Callable[[], Mapping[str, int]],
        disk: Callable[[], DiskSpace | None],
        version: str,
        configuration: ConfigurationInForce,
        audit_share_per_day: float,
    ) -> None:
        """`disk` tells how much room the state directory has; it may block for a moment."""
        self._ledger = ledger
        self._clock = clock
        self._deliveries = deliveries
        self._daemon_id = daemon_id
        self._tally = tally
        self._uploads = uploads
        self._hints = hints
        self._limits = limits
        self._restarts = restarts
        self._disk = disk
        self._version = version
        self._audit_share_per_day = audit_share_per_day
        self.configuration = configuration
        """Replaced by whoever loads another configuration."""
        self._bell = Bell()
        self._patience = LedgerPatience("observer", clock)
        self._problem: str | None = None
        self._answered_at: float | None = None
        """When the ledger answered last, on the monotonic clock."""
        self._answer_seconds: float | None = None
        self._reading = LedgerReading(deliveries={})
        self._read_at: float | None = None
        self._read_due = 0.0
        self._remaining: dict[int, float | None] = {}
        self._space: DiskSpace | None = None

    def run(self, stop: StopFlag) -> None:
        """Read the ledger now and then until `stop` is set."""
        wait = 0.0
        while not stop.is_set():
            self._bell.wait(wait)
            if stop.is_set():
                break
            self._space = self._disk()
            try:
                self._ask()
                self._patience.back()
                wait = ASK_SECONDS
            except LedgerUnavailableError as error:
                self._problem = str(error)
                wait = self._patience.lost(error)
        self._ledger.close_own()

    def wake(self) -> None:
        """Make it look at `stop`. Safe from every thread."""
        self._bell.ring()

    def _ask(self) -> None:
        self._answer_seconds = self._ledger.ping()
        began = self._answered_at = self._clock.monotonic()
        self._problem = None
        if began < self._read_due:
            return
        self._reading = self._ledger.read_vitals(
            self._daemon_id(), [delivery.delivery_id for delivery in self._deliveries]
        )
        self._read_at = self._clock.now().timestamp()
        ended = self._answered_at = self._clock.monotonic()
        self._read_due = ended + (ended - began) / READ_SHARE
        self._remaining = {
            delivery.delivery_id: self._estimate(delivery) for delivery in self._deliveries
        }

    # --- asked from any thread --------------------------------------------------------------

    def vitals(self) -> StationVitals:
        """Give how the daemon is right now; see `ports.Telemetry`."""
        up, problem = self._database()
        reading = self._reading
        return StationVitals(
            at=self._clock.now().timestamp(),
            version=self._version,
            configuration=self.configuration,
            tally=self._tally,
            deliveries=[
                self._delivery(delivery, reading.deliveries.get(delivery.delivery_id))
                for delivery in self._deliveries
            ],
            hints_waiting=len(self._hints),
            hints_dropped=self._hints.dropped,
            limit_bytes_per_second=self._limits.rate(STATION),
            restarts=self._restarts(),
            database_up=up,
            database_problem=problem,
            database_seconds=self._answer_seconds,
            read_at=self._read_at,
            audit_behind_seconds=reading.audit_behind_seconds,
            audit_share_per_day=self._audit_share_per_day,
            state_disk=self._space,
        )

    def _database(self) -> tuple[bool, str | None]:
        """Tell whether the ledger answers, and else what is wrong."""
        problem, answered_at = self._problem, self._answered_at
        if problem is not None or answered_at is None:
            return False, problem
        silent = self._clock.monotonic() - answered_at
        if silent > ANSWER_SECONDS:
            return False, f"it has not answered for {silent:.0f} seconds"
        return True, None

    def _delivery(self, delivery: Delivery, reading: DeliveryReading | None) -> DeliveryVitals:
        settings = delivery.settings
        return DeliveryVitals(
            name=delivery.name,
            client=settings.client,
            project=settings.project,
            cycle=settings.cycle,
            enabled=settings.enabled,
            state=delivery.state,
            reason=delivery.reason,
            watched=delivery.watched,
            settling=delivery.settling,
            running=self._uploads.running(delivery.delivery_id),
            open_breakers=frozenset(s.value for s in self._uploads.open_breakers(delivery)),
            limit_bytes_per_second=self._limits.rate(delivery.delivery_id),
            sweep_interval_seconds=settings.sweep_interval_seconds,
            deadline_seconds=settings.session_deadline_seconds,
            remaining_seconds=self._remaining.get(delivery.delivery_id),
            files_per_second=_speed(reading),
            tally=delivery.tally,
            reading=reading,
        )

    def _estimate(self, delivery: Delivery) -> float | None:
        """Estimate how long the delivery's session still takes. In the observer's thread: limits
        with timetables make it slow.
        """
        reading = self._reading.deliveries.get(delivery.delivery_id)
        if reading is None or reading.session is None:
            return None
        return seconds_left(
            reading.session.progress,
            at=self._clock.now(),
            limits=self._limits.in_force(delivery.delivery_id),
        )


def _speed(reading: DeliveryReading | None) -> float:
    if reading is None or reading.session is None:
        return 0.0
    return reading.session.progress.files_per_second
