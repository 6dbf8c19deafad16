"""What is stopped is probed and goes on by itself, whatever its neighbours are busy with."""

from __future__ import annotations

from test_engine import Store, ask, drop, enroll, make, services, upload, wait_until
from test_ledger import binding, register

from sensordrop.core.failure import Failure, FailureScope

__all__ = ["services", "upload"]  # fixtures

AWAY = Failure(scope=FailureScope.DESTINATION, error_class="connect", message="away", hint="wait")


def placed(ledger, tmp_path, stores, *, destination=None):
    """Give deliveries on one station; each has a destination of its own, unless one is named."""
    place = register(ledger, *[binding(name) for name in stores])
    made = {}
    for name, store in stores.items():
        (tmp_path / name).mkdir()
        made[name] = make(tmp_path / name, place.delivery_ids[name], store, name)
        keys = made[name].settings.breaker_keys
        keys[FailureScope.DESTINATION] = destination or name
        keys[FailureScope.STATION] = "this station"
    return place, made


def stored(database):
    rows = ask(
        database,
        "SELECT d.name FROM file_uploads f JOIN deliveries d ON d.id = f.delivery_id"
        " WHERE f.state = 'uploaded'",
    )
    return {name for (name,) in rows}


def test_a_neighbour_that_is_busy_for_hours_keeps_no_stopped_destination_from_its_probe(
    ledger, database, tmp_path, upload
):
    busy, sick = Store(gates=1), Store(AWAY)
    place, deliveries = placed(ledger, tmp_path, {"busy": busy, "sick": sick})
    for delivery in deliveries.values():
        drop(tmp_path / delivery.name)
        enroll(ledger, delivery)
    upload([place], *deliveries.values())
    wait_until(lambda: busy.calls == 1, "the one is at work")
    wait_until(lambda: deliveries["sick"].blocked_reason, "the other is stopped")
    sick.failure = None
    wait_until(lambda: stored(database) == {"sick"}, "it goes on beside the one at work")
    busy.gates[0].set()
    wait_until(lambda: stored(database) == {"busy", "sick"}, "all is stored")


def test_files_that_wait_for_a_person_keep_nothing_stopped(ledger, database, tmp_path, upload):
    """Files that are held until somebody confirms that they are gone, and those of a delivery that
    is paused, can't be the probe that shows that the store is back.
    """
    store = Store(AWAY)
    place, deliveries = placed(
        ledger, tmp_path, {"held": store, "paused": Store()}, destination="the store"
    )
    for delivery in deliveries.values():
        drop(tmp_path / delivery.name)
        enroll(ledger, delivery)
    deliveries["paused"].paused_reason = "somebody wants it"
    held = deliveries["held"]
    upload([place], *deliveries.values())
    wait_until(lambda: held.blocked_reason, "it is stopped")
    ask(
        database,
        "UPDATE upload_queue SET next_at = '9999-12-31' WHERE delivery_id ="
        f" {held.delivery_id} RETURNING 1",
    )
    wait_until(lambda: held.blocked_reason is None, "the bucket's check is enough")
    assert stored(database) == set()
    store.failure = None
    deliveries["paused"].paused_reason = None
    wait_until(lambda: stored(database) == {"paused"}, "what was paused is stored")
