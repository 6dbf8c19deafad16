"""Runs the services: none of them ends in silence."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from sensordrop.engine.signal_flag import SignalFlag
from sensordrop.ports.life import Clock, StopFlag

RESTARTS = 5
"""Restarts of one service within `RESTART_WINDOW_SECONDS` after which the process gives up."""
RESTART_WINDOW_SECONDS = 300.0
FIRST_RESTART_SECONDS = 1.0
TURN_SECONDS = 0.2
JOIN_SECONDS = 25.0
"""How long services may take to end after the stop."""
SILENCE_SECONDS = 600.0
"""How long a service may go without looking at its stop flag. The longest wait that is in order is
that for a database which replays its log after a power cut: half of this."""

_log = structlog.get_logger()


class ServiceGaveUpError(Exception):
    """A service failed again and again. The process must end and be started anew."""


@dataclass(kw_only=True)
class Service:
    """One long-lived part: `run` works until the flag is set; `wake` makes it look at the flag."""

    name: str
    run: Callable[[StopFlag], None]
    wake: Callable[[], None]
    silence_seconds: float = SILENCE_SECONDS
    """Longer than its longest rest."""
    thread: threading.Thread | None = None
    looked_at: float = 0.0
    """When its own thread last looked at its stop flag: then it was turning."""
    silent: bool = False
    problem: BaseException | None = None
    restarts: deque[float] = field(default_factory=deque)
    restarted: int = 0
    """How often it was started anew after it had failed."""
    start_at: float = 0.0


class _LookedAt:
    """A service's stop flag: a look from its own thread is its sign of life.

    Looks of threads that it started count for nothing: they may turn while it hangs.
    """

    def __init__(self, flag: threading.Event, service: Service, clock: Clock) -> None:
        self._flag = flag
        self._service = service
        self._clock = clock
        self._own = threading.get_ident()

    def is_set(self) -> bool:
        if threading.get_ident() == self._own:
            self._service.looked_at = self._clock.monotonic()
        return self._flag.is_set()


class Supervisor:
    """Starts services, restarts what fails with a growing wait, and ends all in order."""

    def __init__(
        self,
        services: list[Service],
        clock: Clock,
        *,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """`alive` is called several times a second as long as every service turns."""
        self._services = services
        self._clock = clock
        self._alive = alive
        self._stop = threading.Event()
        self._now = SignalFlag()

    def run(self, wanted: StopFlag) -> None:
        """Run the services until `wanted` is set, then end them.

        Raises ServiceGaveUpError when one failed too often; the others are ended first.
        """
        try:
            while not wanted.is_set():
                for service in self._services:
                    self._keep_running(service)
                if not self._any_silent():
                    self._alive()
                self._stop.wait(TURN_SECONDS)
        finally:
            self._end()

    def restarts(self) -> dict[str, int]:
        """Tell how often each service was started anew. Safe from every thread."""
        return {service.name: service.restarted for service in self._services}

    def stop_now(self) -> None:
        """Don't wait for services any longer. Safe in a signal handler."""
        self._now.set()

    def _keep_running(self, service: Service) -> None:
        now = self._clock.monotonic()
        if service.thread is not None and service.thread.is_alive():
            return
        if service.thread is not None:
            self._note_death(service, now)
        if now >= service.start_at:
            service.problem = None
            service.looked_at = now
            service.thread = threading.Thread(
                target=self._run, args=(service,), name=service.name, daemon=True
            )
            service.thread.start()

    def _any_silent(self) -> bool:
        """Tell whether a service hangs. A thread can't be ended from outside: the process can."""
        for service in self._services:
            silent = service.thread is not None and (
                self._clock.monotonic() - service.looked_at > service.silence_seconds
            )
            if silent and not service.silent:
                _log.error(
                    "service_silent",
                    service=service.name,
                    problem=f"it has not turned for {service.silence_seconds:.0f} seconds",
                    hint="under systemd the watchdog restarts the daemon; else restart it: "
                    "what was in hand is taken up again",
                )
            service.silent = silent
        return any(service.silent for service in self._services)

    def _note_death(self, service: Service, now: float) -> None:
        service.thread = None
        restarts = service.restarts
        service.restarted += 1
        restarts.append(now)
        while restarts and now - restarts[0] > RESTART_WINDOW_SECONDS:
            restarts.popleft()
        if len(restarts) > RESTARTS:
            raise ServiceGaveUpError(
                f"{service.name} failed {len(restarts)} times in "
                f"{RESTART_WINDOW_SECONDS:.0f} seconds; the last time: {service.problem!r}"
            ) from service.problem
        service.start_at = now + FIRST_RESTART_SECONDS * 2 ** (len(restarts) - 1)

    def _run(self, service: Service) -> None:
        try:
            service.run(_LookedAt(self._stop, service, self._clock))
            if not self._stop.is_set():
                raise RuntimeError("the service ended by itself")
        except BaseException as problem:  # noqa: BLE001 — whatever ends a service is told and answered
            service.problem = problem
            _log.exception("service_failed", service=service.name)

    def _end(self) -> None:
        self._stop.set()
        began = self._clock.monotonic()
        for service in self._services:
            service.wake()
        for service in self._services:
            thread = service.thread
            while thread is not None and thread.is_alive() and not self._now.is_set():
                if self._clock.monotonic() - began > JOIN_SECONDS:
                    _log.error("service_stuck", service=service.name)
                    break
                service.wake()
                thread.join(TURN_SECONDS)
