"""Signals to stop may come at any instant, also while their own thread waits for them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from sensordrop.by_hand import Interrupts
from sensordrop.engine.signal_flag import SignalFlag
from sensordrop.engine.supervisor import Supervisor
from sensordrop.service import StopSignals

STEPS = 60
"""More lines than any wait or set of a flag has."""
BUSY_SECONDS = 60.0


def interrupted(do: Callable[[], object], handler: Callable[[], object], line: int) -> bool:
    """Do something in a thread whose n-th line is preceded by a handler; tell whether it was.

    Fails if the thread does not end: it waits for a lock that it holds itself.
    """
    lines = 0
    happened = False

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines, happened
        if event == "line":
            lines += 1
            if lines == line:
                happened = True
                sys.settrace(None)  # a handler itself is looked at elsewhere
                handler()
        return trace

    def work() -> None:
        sys.settrace(trace)
        try:
            do()
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(BUSY_SECONDS)
    assert not thread.is_alive(), f"the signal before line {line} was never dealt with"
    return happened


@pytest.mark.parametrize("kind", [StopSignals, Interrupts])
def test_a_signal_at_any_step_of_a_wait_ends_it(kind):
    for line in range(1, STEPS):
        stop = kind()
        happened = interrupted(lambda s=stop: s.wait(0.001), lambda s=stop: s._take(15, None), line)
        assert stop.is_set() is happened
        assert not happened or stop.wait(BUSY_SECONDS)


@pytest.mark.parametrize("kind", [StopSignals, Interrupts])
def test_a_signal_within_the_handler_of_another_is_the_second(kind):
    for line in range(1, STEPS):
        stop, hurried = kind(), []
        stop.on_second(lambda h=hurried: h.append(True))

        def take(s: Any = stop) -> None:
            s._take(15, None)

        happened = interrupted(take, take, line)
        assert stop.is_set()
        assert stop.wait(0.0)
        assert bool(hurried) is (happened and stop._second)


def test_a_third_signal_within_the_second_holds_nothing_up():
    supervisor = Supervisor([], clock=None)  # type: ignore[arg-type]
    for line in range(1, STEPS):
        interrupted(supervisor.stop_now, supervisor.stop_now, line)


@pytest.mark.parametrize("kind", [StopSignals, Interrupts])
def test_a_second_signal_before_anybody_listens_is_not_lost(kind):
    stop, hurried = kind(), []
    stop._take(15, None)
    stop._take(15, None)
    stop.on_second(lambda: hurried.append(True))
    assert hurried == [True]


def test_all_who_wait_hear_it_at_once():
    flag, ended = SignalFlag(), []

    def wait() -> None:
        ended.append(flag.wait(BUSY_SECONDS * 2))

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    flag.set()
    flag.set()
    for thread in threads:
        thread.join(BUSY_SECONDS)
    assert ended == [True] * 8
    assert time.monotonic() - began < BUSY_SECONDS
    assert flag.wait(-1.0)
    assert not SignalFlag().wait(-1.0)
