"""Destinations are checked before their first byte; trouble found there burns no file."""

from __future__ import annotations

import threading

from test_engine import Store, ask, drop, enroll, make, services, states, upload, wait_until
from test_ledger import register

from sensordrop.adapters.clock import SystemClock
from sensordrop.core.check import failed_by, notice, ok
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.engine import preflights
from sensordrop.engine.preflights import Preflights

__all__ = ["services", "upload"]  # fixtures

CLOSED = Failure(
    scope=FailureScope.PROJECT,
    error_class="access-denied",
    message="listing bucket b: may not",
    hint="allow it",
)
AWAY = Failure(scope=FailureScope.DESTINATION, error_class="connect", message="away", hint="wait")


class Checked(Store):
    """A destination whose preflight fails for as long as there is a trouble."""

    def __init__(self, trouble: Failure | None = None, failure: Failure | None = None) -> None:
        super().__init__(failure)
        self.trouble = trouble
        self.preflights: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def preflight(self, prefix):
        assert self.gate.wait(30)
        self.preflights.append(prefix)
        if self.trouble is not None:
            return [failed_by("listing", self.trouble)]
        return [ok("bucket", "it is there"), notice("identity", "unknown")]


def test_nothing_is_sent_before_the_preflight_has_passed(ledger, tmp_path, upload):
    place = register(ledger)
    store = Checked()
    store.gate.clear()
    delivery = make(tmp_path, place.delivery_ids["north"], store)
    drop(tmp_path)
    enroll(ledger, delivery)
    upload([place], delivery)
    wait_until(
        lambda: any(t.name == "preflight north" for t in threading.enumerate()), "it is checked"
    )
    assert store.calls == 0
    store.gate.set()
    wait_until(lambda: store.calls == 1, "the file is sent")
    assert store.preflights == ["C1"]


def test_a_failed_preflight_blocks_burns_no_file_and_is_tried_again(
    ledger, database, tmp_path, upload
):
    place = register(ledger)
    store = Checked(CLOSED)
    delivery = make(tmp_path, place.delivery_ids["north"], store)
    delivery.settings.breaker_keys[FailureScope.PROJECT] = "north's"
    drop(tmp_path)
    enroll(ledger, delivery)
    upload([place], delivery)
    wait_until(lambda: delivery.blocked_reason, "it is blocked")
    assert delivery.blocked_reason == "listing bucket b: may not — allow it"
    wait_until(lambda: len(store.preflights) > 1, "it is checked again")
    assert store.calls == 0
    assert ask(database, "SELECT attempts, state FROM file_uploads") == [(0, "pending")]
    store.trouble = None
    wait_until(lambda: states(database) == {"S1/a.wav": "uploaded"}, "it is stored by itself")
    wait_until(lambda: delivery.blocked_reason is None, "nothing blocks any more")


def test_a_check_that_hangs_is_told_and_goes_on_when_it_ends(
    ledger, database, tmp_path, upload, monkeypatch
):
    """What gives out the credentials may hang for ever: nobody must wait for it in silence."""
    monkeypatch.setattr(preflights, "OVERDUE_SECONDS", 0.5)
    place = register(ledger)
    store = Checked()
    store.gate.clear()
    delivery = make(tmp_path, place.delivery_ids["north"], store)
    delivery.settings.breaker_keys[FailureScope.PROJECT] = "north's"
    drop(tmp_path)
    enroll(ledger, delivery)
    upload([place], delivery)
    wait_until(lambda: delivery.blocked_reason, "it is told")
    assert "has not ended" in delivery.blocked_reason
    assert "credential_process" in delivery.blocked_reason
    assert sum(t.name == "preflight north" for t in threading.enumerate()) == 1
    store.gate.set()
    wait_until(lambda: states(database) == {"S1/a.wav": "uploaded"}, "it goes on by itself")
    wait_until(lambda: delivery.blocked_reason is None, "nothing blocks any more")
    assert ask(database, "SELECT attempts FROM file_uploads") == [(0,)]


def test_a_destination_that_was_away_is_checked_anew(ledger, database, tmp_path, upload):
    place = register(ledger)
    store = Checked(failure=AWAY)
    delivery = make(tmp_path, place.delivery_ids["north"], store)
    drop(tmp_path)
    enroll(ledger, delivery)
    upload([place], delivery)
    wait_until(lambda: store.calls == 1, "a file met the outage")
    store.failure = None
    wait_until(lambda: states(database) == {"S1/a.wav": "uploaded"}, "it is back")
    assert len(store.preflights) == 2


def test_a_mistake_of_ours_in_a_preflight_keeps_no_file_back(ledger, database, tmp_path, upload):
    class Broken(Store):
        def preflight(self, prefix):
            raise ValueError("ours")

    place = register(ledger)
    delivery = make(tmp_path, place.delivery_ids["north"], Broken())
    drop(tmp_path)
    enroll(ledger, delivery)
    upload([place], delivery)
    wait_until(lambda: states(database) == {"S1/a.wav": "uploaded"}, "it is stored")


def test_a_destination_is_checked_again_at_a_set_age_beside_the_uploads(tmp_path):
    class Watch(SystemClock):
        ahead = 0.0

        def monotonic(self):
            return super().monotonic() + self.ahead

    store, clock, rung = Checked(), Watch(), threading.Event()
    delivery = make(tmp_path, 1, store)
    checks = Preflights(clock, rung.set)
    assert not checks.passed(delivery)
    assert rung.wait(30)
    assert len(checks.collect()) == 1
    assert checks.passed(delivery)
    rung.clear()
    clock.ahead = preflights.AGE_SECONDS
    assert checks.passed(delivery), "what is known holds until it is known better"
    assert rung.wait(30)
    checks.collect()
    assert checks.passed(delivery)
    assert store.preflights == ["C1", "C1"]


def test_an_outage_is_told_once_and_not_at_every_try(tmp_path, capsys):
    store, rung = Checked(CLOSED), threading.Event()
    delivery = make(tmp_path, 1, store)
    checks = Preflights(SystemClock(), rung.set)
    for _ in range(3):
        rung.clear()
        checks.passed(delivery)
        assert rung.wait(30)
        checks.collect()
    assert capsys.readouterr().out.count("listing bucket b: may not") == 1
    assert len(store.preflights) == 3
