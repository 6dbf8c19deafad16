"""The line of `systemctl status`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sensordrop.core.model import DeliveryState
from sensordrop.core.status_line import status_line
from sensordrop.core.tally import DeliveryTally, StationTally
from sensordrop.core.vitals import (
    ConfigurationInForce,
    DeliveryReading,
    DeliveryVitals,
    StationVitals,
)

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()


def delivery(name: str = "card", **changes: object) -> DeliveryVitals:
    chosen: dict[str, object] = {
        "name": name, "client": "c", "project": "p", "cycle": "C1", "enabled": True,
        "state": DeliveryState.WATCHING, "reason": None, "watched": True,
        "settling": 0, "running": 0, "open_breakers": frozenset(),
        "limit_bytes_per_second": None, "sweep_interval_seconds": 900.0, "deadline_seconds": None,
        "remaining_seconds": None,
        "files_per_second": 0.0, "tally": DeliveryTally(), "reading": None,
    }  # fmt: skip
    return DeliveryVitals(**(chosen | changes))  # type: ignore[arg-type]


def station(*deliveries: DeliveryVitals, database_up: bool = True) -> StationVitals:
    return StationVitals(
        at=NOON, version="1", configuration=ConfigurationInForce(digest="", loaded_at=NOON),
        tally=StationTally(), deliveries=deliveries, hints_waiting=0, hints_dropped=0,
        limit_bytes_per_second=None, restarts={}, database_up=database_up,
        database_problem=None, database_seconds=None, read_at=None,
        audit_behind_seconds=None, audit_share_per_day=0.0, state_disk=None,
    )  # fmt: skip


def counts(**files: int) -> DeliveryReading:
    return DeliveryReading(counts={state: (number, number) for state, number in files.items()})


def test_it_says_what_the_issue_of_the_day_is():
    busy = delivery(
        "a", running=15, files_per_second=37.6, remaining_seconds=8 * 3600.0 + 57 * 60,
        reading=counts(uploaded=243_000, skipped=400, pending=58_127, failed=12, superseded=9),
    )  # fmt: skip
    idle = delivery("b", reading=counts(uploaded=36, vanished=4))
    assert status_line(station(busy, idle), UTC) == (
        "2 deliveries · 243,436/301,575 files · 12 failed · 38 files/s · ETA 20:57"
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (station(delivery()), "1 delivery · 0/0 files"),
        (
            station(delivery(reading=counts(uploaded=2), files_per_second=40.0)),
            "1 delivery · 2/2 files",
        ),
        (
            station(delivery(enabled=False, state=DeliveryState.DISABLED)),
            "0 deliveries · 0/0 files",
        ),
        (
            station(delivery(), database_up=False),
            "the ledger does not answer · 1 delivery · 0/0 files",
        ),
        (
            station(
                delivery(state=DeliveryState.OFFLINE, reason="the folder is missing: /c\n"),
                delivery(state=DeliveryState.PAUSED, reason="by ann"),
            ),
            "2 deliveries · 0/0 files · 1 paused · 1 offline · the folder is missing: /c\\n",
        ),
        (
            station(delivery(running=1, files_per_second=0.04, remaining_seconds=30 * 3600.0)),
            "1 delivery · 0/0 files · 0.0 files/s · ETA Sun 22 Nov 18:00",
        ),
    ],
    ids=["nothing yet", "idle", "disabled", "no ledger", "trouble", "tomorrow"],
)
def test_each_state_of_affairs_has_its_words(given, line):
    assert status_line(given, UTC) == line
