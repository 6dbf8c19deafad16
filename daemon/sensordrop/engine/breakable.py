"""Calls that can be left alone: a slow store must not hold up the end of the daemon."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from sensordrop.core.failure import InterruptedAttemptError
from sensordrop.ports.life import StopFlag

Result = TypeVar("Result")

TURN_SECONDS = 0.1
"""How often the stop flag is looked at while a call runs."""


def breakable(call: Callable[[], Result], stop: StopFlag) -> Result:
    """Make a call in a thread of its own and wait for it, but no longer than until the stop.

    Gives or raises what the call does; raises InterruptedAttemptError when `stop` ended the wait.
    A call that was left runs into its own time-out in a daemonic thread, and its result is
    dropped; so it must not write anything down.
    """
    done: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:  # noqa: BLE001 — raised again in the waiting thread
            done.put((None, error))

    threading.Thread(target=run, name="breakable", daemon=True).start()
    while not stop.is_set():
        try:
            result, error = done.get(timeout=TURN_SECONDS)
        except queue.Empty:
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # it is the call's
    raise InterruptedAttemptError
