"""When the scout has it told that a delivery is held up: once, and only when that has lasted."""

from __future__ import annotations

from types import SimpleNamespace

from sensordrop.engine.delivery import DeliveryState
from sensordrop.engine.scout import TROUBLE_TOLD_SECONDS, Scout


class Stage:
    """A delivery in some state at some time, and what the ledger was asked to tell of it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.told: list[tuple[int, str]] = []
        self.rung = 0
        self.delivery = SimpleNamespace(delivery_id=7, state=DeliveryState.WATCHING, reason=None)
        self.folder = SimpleNamespace(
            delivery=self.delivery, trouble_since=None, trouble_told=False
        )
        self.scout = SimpleNamespace(
            _clock=SimpleNamespace(monotonic=lambda: self.now),
            _ledger=SimpleNamespace(tell_trouble=lambda *told: self.told.append(told)),
            _session_news=self._ring,
        )

    def _ring(self) -> None:
        self.rung += 1

    def turn(self, state: DeliveryState, *, after: float = 0.0, reason: str | None = None) -> None:
        self.now += after
        self.delivery.state, self.delivery.reason = state, reason
        Scout._tell_trouble(self.scout, self.folder)


def test_a_trouble_that_lasts_is_told_once_whatever_it_is_called_meanwhile():
    stage = Stage()
    stage.turn(DeliveryState.BLOCKED, reason="no credentials")
    stage.turn(DeliveryState.BLOCKED, after=TROUBLE_TOLD_SECONDS - 1, reason="no credentials")
    assert stage.told == []
    stage.turn(DeliveryState.OFFLINE, after=1, reason="the folder does not answer")
    stage.turn(DeliveryState.OFFLINE, after=TROUBLE_TOLD_SECONDS, reason="the folder is missing")
    assert stage.told == [(7, "the folder does not answer")]
    assert stage.rung == 1, "the sender is woken"


def test_a_trouble_that_passes_is_told_to_nobody_and_the_next_one_is_another():
    stage = Stage()
    for _ in range(3):
        stage.turn(DeliveryState.OFFLINE, after=TROUBLE_TOLD_SECONDS - 1)
        stage.turn(DeliveryState.WATCHING, after=TROUBLE_TOLD_SECONDS)
    assert stage.told == []
    for _ in range(2):
        stage.turn(DeliveryState.OFFLINE)
        stage.turn(DeliveryState.OFFLINE, after=TROUBLE_TOLD_SECONDS)
        stage.turn(DeliveryState.WATCHING)
    assert stage.told == [(7, "offline"), (7, "offline")]
