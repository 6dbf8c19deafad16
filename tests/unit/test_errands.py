"""Errands: what is held up holds up nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sensordrop.engine.errands import Errands

PATIENCE_SECONDS = 30.0


class Gate:
    """Work that does not end before it is let go, like a call on a dead share."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.let_go.wait(PATIENCE_SECONDS)
        return "late"


@pytest.fixture
def ended() -> threading.Event:
    return threading.Event()


@pytest.fixture
def errands(ended) -> Iterator[Errands[str]]:
    made: Errands[str] = Errands(name="test", most=2, wake=ended.set)
    yield made
    made.close(PATIENCE_SECONDS)


def next_of(errands, ended):
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (found := errands.collect()) is None:
        assert time.monotonic() < give_up
        ended.wait(0.05)
        ended.clear()
    return found


def test_results_and_errors_come_back_to_whoever_asked(errands, ended):
    assert errands.start("a", lambda: "done")
    assert next_of(errands, ended).outcome() == "done"

    def broken() -> str:
        raise ValueError("odd")

    assert errands.start("a", broken)
    found = next_of(errands, ended)
    assert found.key == "a"
    with pytest.raises(ValueError, match="odd"):
        found.outcome()
    assert errands.collect() is None


def test_each_key_has_one_errand_at_a_time(errands, ended):
    gate = Gate()
    assert errands.start("a", gate)
    assert not errands.start("a", lambda: "second")
    assert errands.under_way("a")
    gate.let_go.set()
    assert next_of(errands, ended).outcome() == "late"
    assert not errands.under_way("a")
    assert errands.start("a", lambda: "second")
    assert next_of(errands, ended).outcome() == "second"


def test_errands_that_are_written_off_hold_up_nobody(errands, ended):
    gates = [Gate() for _ in range(5)]
    for number, gate in enumerate(gates):
        assert errands.start(f"dead share {number}", gate)
        assert gate.begun.wait(PATIENCE_SECONDS)
        errands.write_off(f"dead share {number}")
        errands.write_off(f"dead share {number}")
    assert errands.held_up_seconds("dead share 0") > 0
    for number in range(10):
        assert errands.start(f"{number}", lambda: "done")
    assert [next_of(errands, ended).outcome() for _ in range(10)] == ["done"] * 10
    # When they answer again, what they found still counts, and their threads end.
    for gate in gates:
        gate.let_go.set()
    assert {next_of(errands, ended).outcome() for _ in gates} == {"late"}
    assert errands.start("dead share 0", lambda: "well again")
    assert next_of(errands, ended).outcome() == "well again"


def test_no_more_threads_than_allowed_are_at_work(errands, ended):
    gates = [Gate() for _ in range(4)]
    for number, gate in enumerate(gates):
        errands.start(f"{number}", gate)
    assert gates[0].begun.wait(PATIENCE_SECONDS)
    assert gates[1].begun.wait(PATIENCE_SECONDS)
    assert not gates[2].begun.wait(0.2)
    errands.write_off("2")  # it has not begun: there is nothing to write off
    assert not gates[2].begun.is_set()
    for gate in gates:
        gate.let_go.set()
    assert [next_of(errands, ended).outcome() for _ in gates] == ["late"] * 4


def test_closing_waits_for_nobody_who_is_held_up_and_names_what_was_not_begun():
    errands: Errands[str] = Errands(name="test", most=1, wake=lambda: None)
    gate = Gate()
    errands.start("dead share", gate)
    assert gate.begun.wait(PATIENCE_SECONDS)
    errands.start("waiting", lambda: "never")
    began = time.monotonic()
    assert errands.close(0.1) == ["waiting"]
    assert time.monotonic() - began < PATIENCE_SECONDS / 2
    # It can be used again, though the old thread is held up still.
    errands.write_off("dead share")
    assert errands.start("waiting", lambda: "done")
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (found := errands.collect()) is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert found.outcome() == "done"
    gate.let_go.set()
    errands.close(PATIENCE_SECONDS)
