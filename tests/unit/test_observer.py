"""The observer tells whether the ledger answers, and counts what came of attempts."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from sensordrop.config.bandwidth import limit_of
from sensordrop.core.failure import Failure, FailureScope, LedgerUnavailableError
from sensordrop.core.lifecycle import (
    AlreadyStored,
    Failed,
    Gone,
    RetryPolicy,
    Stored,
    Unsettled,
    plan,
)
from sensordrop.core.model import Claim, Fingerprint, Receipt
from sensordrop.core.progress import SessionProgress
from sensordrop.core.tally import DeliveryTally, StationTally
from sensordrop.core.vitals import (
    ANSWER_SECONDS,
    ConfigurationInForce,
    DeliveryReading,
    LedgerReading,
    SessionReading,
)
from sensordrop.engine.counting import count
from sensordrop.engine.delivery import Bell
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.observer import READ_SHARE, Observer

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class HandClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.seconds


class Ledger:
    """Answers as it is told, and sets the stop flag so that the observer asks only once."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.stop = threading.Event()
        self.problem: str | None = None
        self.readings = 0
        self.reading_seconds = 0.0
        self.reading = LedgerReading(deliveries={})

    def ping(self) -> float:
        self.stop.set()
        if self.problem is not None:
            raise LedgerUnavailableError(self.problem)
        return 0.25

    def read_vitals(self, _daemon_id, _delivery_ids) -> LedgerReading:
        self.readings += 1
        self.clock.seconds += self.reading_seconds
        return self.reading

    def close_own(self) -> None:
        pass


class Uploads:
    def running(self, _delivery_id: int) -> int:
        return 1

    def open_breakers(self, _delivery) -> frozenset[FailureScope]:
        return frozenset({FailureScope.PROJECT})


class Limits:
    def __init__(self) -> None:
        self.limits: list = []

    def rate(self, _place) -> None:
        return None

    def in_force(self, _delivery_id: int) -> list:
        return self.limits


class Watched:
    """An observer with everything around it."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.ledger = Ledger(self.clock)
        self.limits = Limits()
        self.observer = Observer(
            ledger=self.ledger, clock=self.clock, deliveries=[a_delivery()], daemon_id=lambda: 1,
            tally=StationTally(), uploads=Uploads(), hints=HintQueue(Bell()), limits=self.limits,
            restarts=dict, disk=lambda: None, version="0",
            configuration=ConfigurationInForce(digest="", loaded_at=0.0), audit_share_per_day=0.0,
        )  # fmt: skip

    def ask(self):
        """Let the observer ask the ledger once; give what it tells then."""
        self.ledger.stop.clear()
        self.observer.run(self.ledger.stop)
        return self.observer.vitals()


def a_delivery() -> SimpleNamespace:
    return SimpleNamespace(
        name="card", delivery_id=7, state=None, reason=None, watched=True, settling=0,
        tally=DeliveryTally(),
        settings=SimpleNamespace(
            client="c", project="p", cycle="C1", enabled=True, sweep_interval_seconds=900.0,
            session_deadline_seconds=None,
        ),
    )  # fmt: skip


def test_a_ledger_that_was_not_asked_yet_is_not_up():
    vitals = Watched().observer.vitals()
    assert not vitals.database_up
    assert vitals.read_at is None


def test_a_ledger_that_answers_is_up_until_it_fails():
    watched = Watched()
    vitals = watched.ask()
    assert vitals.database_up
    assert vitals.database_seconds == 0.25
    watched.ledger.problem = "refused"
    vitals = watched.ask()
    assert (vitals.database_up, vitals.database_problem) == (False, "refused")
    watched.ledger.problem = None
    assert watched.ask().database_up


def test_a_ledger_that_is_silent_for_too_long_is_not_up_though_nothing_failed():
    watched = Watched()
    assert watched.ask().database_up
    watched.clock.seconds += ANSWER_SECONDS + 1
    vitals = watched.observer.vitals()
    assert not vitals.database_up
    assert "31 seconds" in (vitals.database_problem or "")


def test_a_reading_that_takes_long_is_made_rarely():
    watched = Watched()
    watched.ledger.reading_seconds = 1.0
    watched.ask()
    for _ in range(int(1 / READ_SHARE / 5) - 1):
        watched.clock.seconds += 5
        assert watched.ask().database_up
    assert watched.ledger.readings == 1
    watched.clock.seconds += 10
    watched.ask()
    assert watched.ledger.readings == 2


def test_the_rest_of_a_session_is_estimated_with_its_limits():
    watched = Watched()
    progress = SessionProgress(
        total=100, uploaded=50, skipped=0, failed=0, bytes=100_000, files_left=50,
        bytes_left=50_000, files_per_second=5.0, bytes_per_second=5000.0,
    )  # fmt: skip
    session = SessionReading(started_at=0.0, progress=progress)
    watched.ledger.reading = LedgerReading(deliveries={7: DeliveryReading(session=session)})
    (delivery,) = watched.ask().deliveries
    assert delivery.remaining_seconds == pytest.approx(10)
    assert delivery.files_per_second == 5
    assert delivery.open_breakers == {"project"}
    watched.limits.limits = [limit_of("1 KiB/s", UTC)]
    assert watched.ask().deliveries[0].remaining_seconds == pytest.approx(50_000 / 1024)
    watched.ledger.reading = LedgerReading(deliveries={7: DeliveryReading()})
    (delivery,) = watched.ask().deliveries
    assert (delivery.remaining_seconds, delivery.files_per_second) == (None, 0)


# --- counting -----------------------------------------------------------------------------

CLAIM = Claim(
    upload_id=1, delivery_id=7, path=b"a.wav", path_text="a.wav", claim_number=1, attempts=0,
    crashes=0, fingerprint=Fingerprint(size_bytes=4096, mtime_ns=1, ctime_ns=1),
)  # fmt: skip
RECEIPT = Receipt(object_key="k", sha256=b"s")


def failed(scope: FailureScope, *, permanent: bool = False) -> Failed:
    failure = Failure(scope=scope, error_class="odd", message="", permanent=permanent)
    return Failed(failure=failure)


@pytest.mark.parametrize(
    ("outcome", "counted", "attempt"),
    [
        (Stored(receipt=RECEIPT), {"uploaded": 1, "uploaded_bytes": 4096}, ("stored", "")),
        (AlreadyStored(receipt=RECEIPT, evidence="etag"), {"skipped": 1}, ("already-stored", "")),
        (failed(FailureScope.FILE), {"retried": 1}, ("odd", "file")),
        (failed(FailureScope.FILE, permanent=True), {"failed": 1}, ("odd", "file")),
        (failed(FailureScope.DESTINATION), {}, ("odd", "destination")),
        (Gone(), {}, ("gone", "")),
        (Unsettled(fingerprint=CLAIM.fingerprint, why=""), {}, ("unsettled", "")),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "__slots__") else str(value),
)
def test_each_outcome_counts_where_it_belongs(outcome, counted, attempt):
    delivery, station = a_delivery(), StationTally()
    action = plan(CLAIM, outcome, now=NOW, policy=RetryPolicy(), dice=0.5)
    done = SimpleNamespace(claim=CLAIM, delivery=delivery, outcome=outcome, seconds=0.3)
    count(done, action, station)
    found = {
        name: getattr(delivery.tally, name)
        for name in ("uploaded", "uploaded_bytes", "skipped", "failed", "retried")
    }
    assert {name: value for name, value in found.items() if value} == counted
    assert delivery.tally.attempts == {attempt: 1}
    assert sum(station.upload_seconds.counts) == int(isinstance(outcome, Stored))
