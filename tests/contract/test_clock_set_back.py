"""A clock that was ahead and is set back, on a real ledger: what it wrote down keeps nobody waiting.

The ledger often is on the station itself, and then its clock is as wrong as the station's. Setting
a clock back is the same as what was written lying in the time to come: the tests do that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from test_engine import Store, drop, enroll, make, wait_until
from test_ledger import ANY, ask, register, row, states, sweep

from sensordrop.adapters.clock import SystemClock
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.core.lifecycle import RetryPolicy
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.uploader import Uploader

YEAR_AHEAD = "now() + interval '1 year'"
WAITS = "SELECT upload_id, next_at > now() FROM upload_queue ORDER BY upload_id"
BROKEN = Failure(scope=FailureScope.FILE, error_class="rejected", message="no")


@contextmanager
def running(uploader: Uploader) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=uploader.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        while thread.is_alive():
            uploader.wake()
            thread.join(0.1)


def test_files_that_wait_longer_than_any_wait_lasts_are_due(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, *(row(b"S/%d" % n) for n in range(5)))
    ask(database, "UPDATE upload_queue SET next_at = now() + interval '59 minutes'")
    ask(database, f"UPDATE upload_queue SET next_at = {YEAR_AHEAD} WHERE upload_id IN (2, 3)")
    ask(database, "UPDATE upload_queue SET next_at = '9999-01-01 00:00+00' WHERE upload_id = 4")
    ask(database, "UPDATE upload_queue SET next_at = 'infinity' WHERE upload_id = 5")
    assert ledger.bring_forward({delivery: 3600.0, delivery + 1: 0.0}) == 2
    assert ask(database, WAITS) == [(1, True), (2, False), (3, False), (4, True), (5, True)]
    assert ledger.bring_forward({delivery: 3600.0}) == 0
    assert [c.upload_id for c in ledger.claim(place.daemon_id, delivery, 9)] == [2, 3]


def test_a_running_uploader_takes_up_files_that_a_wrong_clock_put_off(ledger, database, tmp_path):
    place = register(ledger)
    delivery = make(tmp_path, place.delivery_ids["north"], Store())
    for n in range(3):
        drop(tmp_path, f"{n}.wav")
    enroll(ledger, delivery)
    ask(database, f"UPDATE upload_queue SET next_at = {YEAR_AHEAD}")
    uploader = Uploader(
        ledger=ledger, clock=SystemClock(), deliveries=[delivery], daemon_id=lambda: place.daemon_id
    )
    with running(uploader):
        wait_until(lambda: set(states(database).values()) == {"uploaded"}, "all are stored")


class FallingClock(SystemClock):
    """A wall clock that is set a year back between any two looks at it."""

    falls = 0

    def now(self) -> datetime:
        self.falls += 1
        return super().now() - timedelta(days=365 * self.falls)


def test_a_clock_that_is_set_between_decision_and_commit_changes_no_wait(
    ledger, database, tmp_path, monkeypatch
):
    place = register(ledger)
    made = make(tmp_path, place.delivery_ids["north"], Store(failure=BROKEN))
    quick = replace(made.settings, policy=RetryPolicy(retry_delay_seconds=0.2))
    delivery = Delivery(device=made.device, settings=quick)
    drop(tmp_path)
    enroll(ledger, delivery)
    uploader = Uploader(
        ledger=ledger, clock=FallingClock(), deliveries=[delivery],
        daemon_id=lambda: place.daemon_id, dice=lambda: 0.999,
    )  # fmt: skip
    brought: list[object] = []
    monkeypatch.setattr(ledger, "bring_forward", lambda waits: brought.append(waits) or 0)
    with running(uploader):
        wait_until(lambda: states(database) == {"S1/a.wav": "failed"}, "all tries are used up")
    # Nothing had to be brought forward: no wait was ever longer than it was meant.
    assert brought == []


def test_a_file_of_a_time_to_come_can_be_gone(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/gone"), row(b"S/there"))
    ask(database, f"UPDATE file_uploads SET enrolled_at = {YEAR_AHEAD}")
    began = ledger.begin_sweep()
    sweep(ledger, delivery, row(b"S/there"))
    gone = ledger.mark_gone(delivery, lambda _: None, sweep_began=began, rule=ANY)
    assert gone.gone == 1
    assert states(database) == {"S/gone": "vanished", "S/there": "pending"}


def test_a_heartbeat_of_a_time_to_come_is_no_life(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"))
    assert len(ledger.claim(place.daemon_id, delivery, 9)) == 1
    ask(database, "UPDATE daemons SET heartbeat_at = now() + interval '30 seconds'")
    assert ledger.take_back_dead() == 0, "clocks are never quite equal"
    ask(database, f"UPDATE daemons SET heartbeat_at = {YEAR_AHEAD}")
    assert ledger.take_back_dead() == 1
