"""What another configuration changes: the decision, and the roster that it ends in."""

from __future__ import annotations

import threading

import pytest

from sensordrop.config import DaemonConfig, DeliveryConfig
from sensordrop.core.reload import LIVE_KEYS, PLACE_KEYS, Reload, plan_reload, reload_words
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.reloader import Asked
from sensordrop.engine.roster import Roster

NORTH = {"s3_prefix": "C1", "max_workers": 4}
SOUTH = {"s3_prefix": "C2", "max_workers": 4}
DAEMON = {"station": "field", "bandwidth": None, "log_level": "info"}


def planned(daemon=DAEMON, **deliveries) -> Reload:
    return plan_reload(
        daemon=(DAEMON, daemon), deliveries=({"north": NORTH, "south": SOUTH}, deliveries)
    )


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (planned(north=NORTH, south=SOUTH), "nothing is different"),
        (planned(north=NORTH, south=SOUTH, west=NORTH), "added: west"),
        (planned(north=NORTH), "removed: south"),
        (planned(), "removed: north, south"),
        (
            planned(north=NORTH | {"max_workers": 9}, south=SOUTH),
            "changed: north (max_workers)",
        ),
        (
            planned(north=NORTH | {"tags": {"a": "b"}, "max_workers": 9}, east=SOUTH),
            "added: east; removed: south; changed: north (max_workers, tags)",
        ),
        (planned(DAEMON | {"bandwidth": "1M"}, north=NORTH, south=SOUTH), "daemon: bandwidth"),
        (
            planned(DAEMON | {"station": "x", "log_level": "debug"}, north=NORTH, south=SOUTH),
            "daemon: log_level; needs a restart: station",
        ),
    ],
)
def test_what_is_different_is_named(plan, words):
    assert reload_words(plan) == words
    assert plan.nothing == (words == "nothing is different")


def test_a_delivery_whose_files_go_elsewhere_is_told_from_one_that_only_changed():
    plan = planned(north=NORTH | {"s3_prefix": "C9"}, south=SOUTH | {"max_workers": 1})
    assert plan.moved == ("north",)


def test_the_keys_that_the_rules_name_are_keys():
    assert LIVE_KEYS.issubset(DaemonConfig.model_fields)
    assert PLACE_KEYS.issubset(DeliveryConfig.model_fields)


def a_delivery(name: str, generation: int = 0) -> Delivery:
    class Settings:
        pass

    settings = Settings()
    settings.name = name  # type: ignore[attr-defined]
    return Delivery(settings=settings, generation=generation)  # type: ignore[arg-type]


def test_a_roster_is_exchanged_as_a_whole_and_remembers_who_left():
    north, south = a_delivery("north"), a_delivery("south")
    roster = Roster([north, south])
    assert Roster.of(roster) is roster
    going_through = iter(roster)
    anew = a_delivery("south", generation=1)
    roster.replace([north, anew])
    assert [next(going_through), next(going_through)] == [north, south], "as it was when asked"
    assert list(roster) == [north, anew]
    assert (roster.left, south.left, north.left) == ((south,), True, False)
    assert south.key != anew.key
    roster.forget(south)
    assert roster.left == ()


def test_many_who_ask_at_once_are_answered_by_one_reload():
    asked = Asked()
    assert not asked.wait(0.0)
    askers = [threading.Thread(target=asked.ask) for _ in range(50)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert asked.wait(5.0)
    assert not asked.wait(0.0)
