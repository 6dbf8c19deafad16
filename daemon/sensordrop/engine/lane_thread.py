"""The thread that drives a lane: it sends the requests of everybody else, many at once.

Whoever has a request of a large file hands it over and waits for the answer; small files are
worked on in the thread itself, because waking another thread costs more than they do.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from sensordrop.core.failure import InterruptedAttemptError
from sensordrop.ports.life import StopFlag
from sensordrop.ports.transfer import HttpAnswer, HttpRequest, Lane

TURN_SECONDS = 0.25
"""Longest time without a look at the stop flag."""
HELD_SECONDS = 5.0
"""A lane that has not turned for so long waits for a disk: nothing else that it does takes long. It
is asked for only where a delivery's disk is known not to answer."""

_log = structlog.get_logger()

Answered = Callable[[HttpAnswer], None]
Job = Callable[[], None]


@dataclass(kw_only=True)
class _Waiting:
    flight: _Flight
    number: int
    make: Callable[[], HttpRequest]


class LaneThread:
    """A lane with the thread that it belongs to. Also a `Sender`."""

    def __init__(self, lane: Lane, *, name: str, most: int, abandon: StopFlag) -> None:
        """Begin to drive a lane. `most`: requests at once; a flight always gets to run one."""
        self._lane = lane
        self._most = most
        self._abandon = abandon
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._tickets = itertools.count()
        self._answered: dict[int, Answered] = {}
        self._waiting: deque[_Waiting] = deque()
        self._closing = False
        self._given_up = False
        self._turned_at = time.monotonic()
        self._broken_off: Job = lambda: None
        self._look: Job = lambda: None
        self._turned: Job = lambda: None
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._drive, name=name, daemon=True)

    def begin(
        self,
        *,
        broken_off: Job = lambda: None,
        look: Job = lambda: None,
        turned: Job = lambda: None,
    ) -> None:
        """Start the thread, which calls: `broken_off` after all requests were abandoned, `look`
        now and then, `turned` at the end of each turn.
        """
        self._broken_off = broken_off
        self._look = look
        self._turned = turned
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still takes work."""
        return self._thread.is_alive() and not self._given_up

    @property
    def held(self) -> bool:
        """Whether a disk has been holding the thread for a while."""
        return self.alive and time.monotonic() - self._turned_at >= HELD_SECONDS

    def give_up(self) -> None:
        """Take no more work, and send nothing more: the thread is held, and others take its place.

        Flights in it are interrupted. It lets go of what it has as soon as it is free. Safe from
        every thread.
        """
        self._given_up = True

    def resize(self, most: int) -> None:
        """Send so many requests at once from now on. Safe from every thread."""
        self._most = most

    def call(self, job: Job) -> None:
        """Have something done in the lane's thread. Safe from every thread."""
        self._jobs.put(job)
        if threading.current_thread() is not self._thread:
            self._lane.wake()

    def close(self) -> None:
        """Let the thread end when its work is done. Does not wait for it."""
        self._jobs.put(None)
        self._lane.wake()

    @contextmanager
    def flight(self, stop: StopFlag) -> Iterator[_Flight]:
        """Give a thread a place to send its requests from; see `ports.Sender`."""
        flight = _Flight(self, stop)
        try:
            yield flight
        finally:
            flight.end()

    # --- in the lane's thread alone -------------------------------------------------------

    def start(self, request: HttpRequest, answered: Answered) -> int:
        """Begin a request; `answered` is called with what comes of it. Gives its ticket."""
        ticket = next(self._tickets)
        self._lane.start(ticket, request)
        self._answered[ticket] = answered
        return ticket

    def queue(self, waiting: _Waiting) -> None:
        """Begin a flight's request as soon as there is room."""
        self._waiting.append(waiting)

    def drop(self, ticket: int) -> None:
        """Break off one request; nobody is called back."""
        self._lane.drop(ticket)
        self._answered.pop(ticket, None)

    def cancel(self, flight: _Flight) -> None:
        """Break off all requests of a flight."""
        self._waiting = deque(w for w in self._waiting if w.flight is not flight)
        for ticket in flight.tickets:
            self.drop(ticket)
        flight.tickets.clear()

    def _drive(self) -> None:
        try:
            self._turn_until_closed()
        except Exception as bug:  # noqa: BLE001 — whoever uses the lane begins another one
            _log.error("bug", thread=self._thread.name, exc_info=bug)

    def _turn_until_closed(self) -> None:
        while not self._given_up and (not self._closing or self._answered or self._waiting):
            if self._abandon.is_set():
                self._break_off()
            self._do_jobs(block=not (self._answered or self._waiting))
            self._start_waiting()
            self._take_answers()
            if time.monotonic() >= self._look_at:
                self._look()
                self._look_at = time.monotonic() + TURN_SECONDS
            self._turned()
            self._turned_at = time.monotonic()
        if self._given_up:
            self._break_off()
        self._lane.close()

    def _take_answers(self) -> None:
        for ticket, answer in self._lane.step(TURN_SECONDS if self._answered else 0.0):
            answered = self._answered.pop(ticket, None)
            if answered is not None and not self._given_up:
                answered(answer)
                self._turned_at = time.monotonic()

    def _do_jobs(self, *, block: bool) -> None:
        """Do what was asked for; with nothing running, wait for something."""
        while not self._given_up:
            self._turned_at = time.monotonic()
            try:
                job = self._jobs.get(block=block, timeout=TURN_SECONDS if block else None)
            except queue.Empty:
                return
            block = False
            if job is None:
                self._closing = True
                return
            job()

    def _start_waiting(self) -> None:
        """Begin requests of flights: while there is room, and one of each in any case."""
        for _ in range(len(self._waiting)):
            waiting = self._waiting.popleft()
            if waiting.flight.tickets and len(self._answered) >= self._most:
                self._waiting.append(waiting)
            else:
                self._start_for(waiting)

    def _start_for(self, waiting: _Waiting) -> None:
        flight, number = waiting.flight, waiting.number

        def answered(answer: HttpAnswer) -> None:
            flight.tickets.discard(ticket)
            flight.take(number, answer)

        try:
            ticket = self.start(waiting.make(), answered)
        except Exception as error:  # noqa: BLE001 — it is raised in the thread that asked
            flight.take(number, error)
            return
        flight.tickets.add(ticket)

    def _break_off(self) -> None:
        self._lane.abandon()
        self._answered.clear()
        self._waiting.clear()
        self._broken_off()


@dataclass(eq=False)
class _Flight:
    """See `ports.Flight`."""

    lane: LaneThread
    stop: StopFlag
    tickets: set[int] = field(default_factory=set)
    """Of the requests that are running; the lane's thread alone touches it."""
    _answers: queue.SimpleQueue[tuple[int, HttpAnswer | Exception]] = field(
        default_factory=queue.SimpleQueue
    )

    def start(self, number: int, make: Callable[[], HttpRequest]) -> None:
        waiting = _Waiting(flight=self, number=number, make=make)
        self.lane.call(lambda: self.lane.queue(waiting))

    def wait(self, seconds: float) -> list[tuple[int, HttpAnswer]]:
        found: list[tuple[int, HttpAnswer]] = []
        give_up = time.monotonic() + seconds
        while not found:
            if self.stop.is_set() or not self.lane.alive:
                raise InterruptedAttemptError
            left = give_up - time.monotonic()
            if left <= 0:
                break
            self._collect(min(left, TURN_SECONDS), found)
        return found

    def take(self, number: int, answer: HttpAnswer | Exception) -> None:
        """Take an answer in; called in the lane's thread."""
        self._answers.put((number, answer))

    def end(self) -> None:
        """Break off what runs, and wait until the lane's thread has let go of it."""
        done = threading.Event()

        def cancel() -> None:
            self.lane.cancel(self)
            done.set()

        self.lane.call(cancel)
        while not done.wait(TURN_SECONDS):
            if not self.lane.alive:
                return

    def _collect(self, seconds: float, found: list[tuple[int, HttpAnswer]]) -> None:
        try:
            number, answer = self._answers.get(timeout=seconds)
            while True:
                if isinstance(answer, Exception):
                    raise answer
                found.append((number, answer))
                number, answer = self._answers.get_nowait()
        except queue.Empty:
            return
