"""Moving bytes: content, throttles, requests, lanes and flights."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from sensordrop.core.lifecycle import Stored
from sensordrop.ports.life import StopFlag
from sensordrop.ports.reading import Pieces


class Content(Protocol):
    """One opened file's bytes, for one attempt. Used by one thread at a time."""

    @property
    def size_bytes(self) -> int:
        """Size when it was opened."""
        ...

    @property
    def sha256(self) -> bytes:
        """SHA-256 of all bytes as they were read before the attempt to store them."""
        ...

    @property
    def md5(self) -> bytes:
        """MD5 of the same bytes: for stores that check nothing else, and for their ETags.

        Where it was not planned for, asking for it reads the file again.
        """
        ...

    @property
    def pieces(self) -> Pieces | None:
        """Digests of the pieces that the content goes out in, where they were planned for."""
        ...

    @property
    def memory(self) -> bytes | None:
        """All of the bytes that were hashed, where they were few enough to be kept."""
        ...

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Read the same opened file again from its first byte. Blocks on the disk."""
        ...


class Turn(Protocol):
    """One transfer's place in the queue for what limits let through. Used by one thread.

    `leave` it in any case, or its place keeps what it was given.
    """

    def take(self, wanted: int) -> int:
        """Give how many bytes may go out now, at most `wanted`; 0: not yet, and in the queue.

        Never blocks. What was taken counts as sent.
        """
        ...

    def ready(self) -> bool:
        """Tell whether `take` would give something now. Never blocks."""
        ...

    def wait_seconds(self) -> float:
        """Say in how many seconds it is worth asking again: an estimate, never above one."""
        ...

    def leave(self) -> None:
        """Go out of the queue and give back what was not taken. May be repeated."""
        ...


class Throttle(Protocol):
    """The limits that a destination's bytes fall under. Safe from every thread; never blocks."""

    @property
    def limited(self) -> bool:
        """Tell whether any limit holds right now. May change at any time."""
        ...

    def turn(self) -> Turn:
        """Give a transfer its place. Whoever waits is served in the order of asking."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRequest:
    """One request, ready to go: its URL is encoded, its headers are signed."""

    method: str
    url: str
    headers: Mapping[str, str]
    ca_file: str
    """The certificates that the other side's is checked against."""
    proxy: str = ""
    """URL of a proxy; empty: none, whatever the environment says."""
    body: BinaryIO | None = None
    size_bytes: int = 0
    throttle: Throttle | None = None
    """The limits that the body falls under; None: under none, ever."""
    stall_seconds: float | None = None
    """A request on which no byte moves for so long is ended; None: the lane's own."""
    operation: str = ""
    """What the request is, in the words of whom it goes to: it is counted under this name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAnswer:
    """What came back. `trouble` is the transport's (number, words) where no whole answer came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    trouble: tuple[int, str] | None = None


class CountRequest(Protocol):
    """Counts requests. Never blocks for longer than another thread counts; safe from every thread."""

    def __call__(self, operation: str, status: int, seconds: float, sent_bytes: int) -> None:
        """Count a request that has ended; status 0 means that no whole answer came."""
        ...


QuickSteps = Generator[HttpRequest, HttpAnswer, Stored | None]
"""The requests of one attempt, one after the other, each answered before the next. The result is
None where the destination needs longer: then `Destination.store` does it."""


class Lane(Protocol):
    """Drives many requests at once. Belongs to one thread, except for `wake`."""

    def __len__(self) -> int:
        """Count the requests that are running."""
        ...

    def start(self, ticket: int, request: HttpRequest) -> None:
        """Begin a request; `step` gives its answer under the ticket. Never blocks."""
        ...

    def step(self, seconds: float) -> list[tuple[int, HttpAnswer]]:
        """Let things move for at most so long, and give the answers that are whole."""
        ...

    def wake(self) -> None:
        """Make a waiting `step` return. Safe from every thread."""
        ...

    def drop(self, ticket: int) -> None:
        """Break off one request; no answer will come. One that is not running is no mistake."""
        ...

    def abandon(self) -> list[int]:
        """Break off all that is running; give the tickets."""
        ...

    def close(self) -> None:
        """Let go of everything. May be repeated."""
        ...


class Flight(Protocol):
    """The requests that belong to one attempt, sent by somebody else's thread.

    Belongs to one thread. Leaving it breaks off what still runs, and waits until nothing of it
    reads a body any more: only then may the file be closed.
    """

    def start(self, number: int, make: Callable[[], HttpRequest]) -> None:
        """Have a request sent when there is room; `wait` gives its answer under the number.

        `make` is called on the sender's thread just before the request goes out, so that a
        signature is fresh. Never blocks.
        """
        ...

    def wait(self, seconds: float) -> list[tuple[int, HttpAnswer]]:
        """Wait for answers, at most so long; give all that are there.

        Raises what `make` raised, and InterruptedAttemptError when the sender is ending.
        """
        ...


class Sender(Protocol):
    """Sends requests for threads that wait for them. Safe from every thread."""

    def flight(self, stop: StopFlag) -> AbstractContextManager[Flight]:
        """Give a thread a place to send its requests from. `stop` ends its waits."""
        ...
