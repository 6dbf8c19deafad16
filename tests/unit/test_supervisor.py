"""A service that ends, fails or hangs is never silent."""

from __future__ import annotations

import threading
import time

import pytest

from sensordrop.engine.supervisor import RESTARTS, Service, ServiceGaveUpError, Supervisor
from sensordrop.ports.life import StopFlag


class FastClock:
    """A clock whose seconds pass a thousand times faster, so that waits of minutes are short."""

    def monotonic(self) -> float:
        return time.monotonic() * 1000.0


class Turning:
    """A service that turns until it is told to stop, or hangs while `hung` is set."""

    def __init__(self) -> None:
        self.hung = threading.Event()
        self.free = threading.Event()
        self.helper_turns = 0

    def run(self, stop: StopFlag) -> None:
        def help_along() -> None:
            while not stop.is_set():
                self.helper_turns += 1
                time.sleep(0.005)

        threading.Thread(target=help_along, daemon=True).start()
        while not stop.is_set():
            if self.hung.is_set():
                self.free.wait(30)
            time.sleep(0.005)

    def service(self, name: str) -> Service:
        return Service(name=name, run=self.run, wake=lambda: None)


def eventually(true) -> None:
    give_up = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_the_watchdog_is_fed_only_while_every_service_turns(capsys):
    """A hung service counts as hung although threads that it started go on."""
    signs: list[float] = []
    good, bad = Turning(), Turning()
    stop = threading.Event()
    supervisor = Supervisor(
        [good.service("good"), bad.service("bad")],
        FastClock(),  # type: ignore[arg-type]
        alive=lambda: signs.append(time.monotonic()),
    )
    thread = threading.Thread(target=supervisor.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: len(signs) > 2)
        capsys.readouterr()  # on a busy machine either may have been silent before
        bad.hung.set()
        told: list[str] = []

        def bad_is_told_silent() -> bool:
            told.extend(capsys.readouterr().out.splitlines())
            return any("service_silent" in line and "bad" in line for line in told)

        eventually(bad_is_told_silent)
        count, turns = len(signs), bad.helper_turns
        eventually(lambda: bad.helper_turns > turns + 20)
        assert len(signs) <= count + 1, "a daemon with a hung service said that it lives"
        bad.hung.clear()
        bad.free.set()
        eventually(lambda: len(signs) > count + 3)
    finally:
        bad.free.set()
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_a_service_that_fails_again_and_again_takes_the_process_down():
    began: list[float] = []

    def fail(_stop: StopFlag) -> None:
        began.append(time.monotonic())
        raise ValueError("a bug")

    broken = Service(name="broken", run=fail, wake=lambda: None)
    supervisor = Supervisor([broken], _Leaping())  # type: ignore[arg-type]
    with pytest.raises(ServiceGaveUpError, match="broken failed 6 times"):
        supervisor.run(threading.Event())
    assert len(began) == RESTARTS + 1


class _Leaping:
    """A clock that leaps a little at every look, so that the waits between restarts pass."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 7.0
        return self._now
