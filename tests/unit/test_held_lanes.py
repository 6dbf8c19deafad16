"""Lanes whose thread a disk holds, or a mistake of ours ended: what was in them goes on elsewhere."""

from __future__ import annotations

import threading

import pytest

from sensordrop.core.failure import InterruptedAttemptError
from sensordrop.engine import lane_thread
from sensordrop.engine.transfers import _Lanes
from sensordrop.ports.transfer import HttpAnswer, HttpRequest

END_SECONDS = 60.0
REQUEST = HttpRequest(method="PUT", url="http://store/key", headers={}, ca_file="")
ANSWER = HttpAnswer(status=200, headers={}, body=b"")


class FakeLane:
    """Answers what it is asked at once, but holds its thread, or fails, for the first of its kind."""

    def __init__(self, gate: threading.Event | None = None, *, breaks: bool = False) -> None:
        self._gate = gate
        self._breaks = breaks
        self._begun: list[int] = []
        self.closed = threading.Event()

    def start(self, ticket, request):
        self._begun.append(ticket)

    def step(self, seconds):
        if self._begun and self._breaks:
            raise RuntimeError("a mistake")
        if self._begun and self._gate is not None:
            assert self._gate.wait(END_SECONDS)
        begun, self._begun = self._begun, []
        return [(ticket, ANSWER) for ticket in begun]

    def wake(self): ...
    def drop(self, ticket): ...
    def abandon(self):
        return []

    def close(self):
        self.closed.set()


@pytest.fixture
def lanes(monkeypatch):
    """Begin lanes of which the first two are the given ones."""
    monkeypatch.setattr(lane_thread, "HELD_SECONDS", 0.2)
    begun = []

    def begin(*first):
        left = list(first)
        begun.append(
            _Lanes(lambda _size: left.pop(0) if left else FakeLane(), 4, threading.Event())
        )
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


def ask(lanes, stop):
    with lanes.flight(stop) as flight:
        flight.start(0, lambda: REQUEST)
        return flight.wait(END_SECONDS)


def test_a_lane_that_a_disk_holds_is_given_up_and_another_one_takes_its_place(lanes):
    gate, stop = threading.Event(), threading.Event()
    held = FakeLane(gate)
    both = lanes(held, FakeLane())
    ended: list[type[BaseException]] = []

    def wait():
        try:
            ask(both, stop)
        except InterruptedAttemptError as interrupted:
            ended.append(type(interrupted))

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    while waiting.is_alive():
        both.give_up_held()
        waiting.join(0.05)
    assert ended == [InterruptedAttemptError]
    assert all(ask(both, stop) == [(0, ANSWER)] for _ in range(4)), "a lane is missing"
    assert not held.closed.is_set()
    gate.set()
    assert held.closed.wait(END_SECONDS), "it keeps what it has though it is free again"


def test_a_lane_that_is_at_rest_or_at_work_is_left_alone(lanes):
    stop = threading.Event()
    both = lanes(FakeLane(), FakeLane())
    before = list(both._lanes)
    for _ in range(20):
        ask(both, stop)
        stop.wait(0.02)
    assert all(lane.alive for lane in both._lanes)
    assert both._lanes == before


def test_a_lane_that_ended_by_a_mistake_is_begun_anew(lanes):
    stop = threading.Event()
    both = lanes(FakeLane(breaks=True), FakeLane())
    with pytest.raises(InterruptedAttemptError):
        ask(both, stop)
    assert all(ask(both, stop) == [(0, ANSWER)] for _ in range(4)), "it stays away for good"
