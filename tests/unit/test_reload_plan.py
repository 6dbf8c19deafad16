"""What another configuration changes: the decision, and the roster that it ends in."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from sensordrop.adapters.clock import SystemClock
from sensordrop.config import Configuration, DaemonConfig, DeliveryConfig
from sensordrop.core.reload import LIVE_KEYS, PLACE_KEYS, Reload, plan_reload, reload_words
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.reloader import Asked, Reloader
from sensordrop.engine.roster import Roster
from sensordrop.engine.scout import Scout
from sensordrop.engine.uploader import Uploader
from sensordrop.reloading import Parts, Reloading

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


class Scene:
    """What an uploader or a scout is given that is not about who is in force."""

    def __init__(self) -> None:
        self.retired: list[int] = []

    def finish_retired(self, delivery_id: int) -> None:
        self.retired.append(delivery_id)

    def __getattr__(self, _name: str):
        return lambda *_arguments, **_named: ()


class Restless(Roster):
    """A roster that is exchanged just before somebody looks at who left."""

    wanted: list[Delivery] | None = None

    @property
    def left(self) -> tuple[Delivery, ...]:
        if self.wanted is not None:
            wanted, self.wanted = self.wanted, None
            self.replace(wanted)
        return super().left


def in_force(name: str, generation: int = 0) -> Delivery:
    delivery = a_delivery(name, generation)
    for key, value in {
        "delivery_id": 1, "enabled": True, "max_workers": 1, "priority": 0, "breaker_keys": {},
        "rules": SimpleNamespace(quiet_seconds=1.0),
    }.items():  # fmt: skip
        setattr(delivery.settings, key, value)
    return delivery


def test_a_delivery_that_leaves_while_it_is_taken_up_is_seen_off_once_and_wholly():
    first, second, third = (in_force("north", generation) for generation in range(3))
    roster = Restless([first])
    uploader = Uploader(
        ledger=Scene(), clock=SystemClock(), deliveries=roster, daemon_id=lambda: 1,
        make_pool=lambda _most, _stop: Scene(),
    )  # fmt: skip
    roster.replace([second])
    roster.wanted = [third]
    uploader._take_up()
    uploader._see_off()
    assert (first.drained, second.drained) == (True, False), "files of it may just be begun"
    uploader._take_up()
    uploader._see_off()
    assert (second.drained, third.drained) == (True, False)


def test_what_came_and_left_between_two_turns_is_forgotten_too():
    roster, scene, hints = Roster([in_force("north")]), Scene(), HintQueue(Bell())
    scout = Scout(
        ledger=scene, clock=SystemClock(), deliveries=roster, watcher=scene, hints=hints,
        bell=Bell(), wake_uploader=lambda: None, daemon_id=lambda: 1,
    )  # fmt: skip
    for generation in range(1, 6):
        roster.replace([in_force("north", generation)])
    for delivery in roster.left:
        delivery.drained = True
    scout._take_up()
    scout._see_off()
    assert roster.left == ()
    scout._lookout.close()


def configured(**keys: object) -> Configuration:
    delivery = DeliveryConfig(
        name="north",
        local_directory="/drop/north",
        bucket_name="recordings",
        s3_prefix="C1",
        **keys,
    )
    return Configuration(daemon=DaemonConfig(), deliveries=(delivery,), source=None)


class Writes(Scene):
    """Stands for the ledger, the service manager and the state directory."""

    def __init__(self) -> None:
        super().__init__()
        self.signs: list[str] = []

    def rebind(self, **_named: object) -> dict[str, int]:
        return {"north": 1}

    def controls(self, *_arguments: object) -> list[object]:
        return []

    def reloading(self) -> None:
        self.signs.append("reloading")

    def reloaded(self) -> None:
        self.signs.append("reloaded")


def test_a_reload_that_breaks_off_is_told_and_done_whole_by_the_next():
    before, after = configured(max_workers=2), configured(max_workers=3)
    writes, roster, outcomes = Writes(), Roster([in_force("north")]), []
    reloading = Reloading(before, lambda: (after, ()))
    failures = [ZeroDivisionError("a file that everything needs is gone")]

    def make(config: DeliveryConfig, _delivery_id: int) -> Delivery:
        if failures:
            raise failures.pop()
        made = in_force("north")
        made.settings.max_workers = config.max_workers  # type: ignore[misc]
        made.settings.client = made.settings.project = made.settings.cycle = ""  # type: ignore[misc]
        return made

    for each in roster:
        each.settings.client = each.settings.project = each.settings.cycle = ""  # type: ignore[misc]
    parts = Parts(
        ledger=writes, roster=roster, daemon_id=lambda: 1, bind=lambda _config: None,
        maker=lambda _configuration: make, configure=lambda *_arguments: None, wake=(),
    )  # fmt: skip
    asked, stop = Asked(), threading.Event()
    reloader = Reloader(
        asked=asked, reload=lambda: reloading.reload(parts), refused=lambda _outcome: None,
        note=lambda outcome, _began: (outcomes.append(outcome), stop.set()),
        manager=writes, clock=SystemClock(),
    )  # fmt: skip
    asked.ask()
    with pytest.raises(ZeroDivisionError):
        reloader.run(stop)
    assert writes.signs == ["reloading", "reloaded"], "systemctl reload would wait for ever"
    assert "a mistake in sensordropd" in outcomes[0].problems[0]
    assert [each.settings.max_workers for each in roster] == [1]
    stop.clear()
    asked.ask()
    reloader.run(stop)
    assert outcomes[1].taken
    assert outcomes[1].changes == "changed: north (max_workers)"
    assert [each.settings.max_workers for each in roster] == [3]
