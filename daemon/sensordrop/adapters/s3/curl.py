"""Many HTTP requests at once in one thread, through libcurl's multi interface.

Per request this costs a tenth of what boto3's path costs, and connections are kept and shared.
The lane knows nothing of S3: it takes requests that are ready to go and gives answers.
"""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import pycurl

from sensordrop.adapters.s3.answers import overdue
from sensordrop.adapters.s3.sockets import make_sockets
from sensordrop.ports.transfer import CountRequest, HttpAnswer, HttpRequest, Throttle

ANSWER_LIMIT_BYTES = 64 * 1024
"""Bytes of an answer's body that are kept: S3's errors have some hundreds."""
ANSWER_END_BYTES = 1024 * 1024
"""An answer whose body is longer than this is broken off: no request made here has such a one."""
STALL_SECONDS = 60
"""A transfer on which no byte moves for so long is ended."""
CONNECT_SECONDS = 10
"""Longest wait for a connection, TLS included."""
AT_ONCE_BYTES = 1024 * 1024
"""Bodies in memory up to this size are given to libcurl whole, which spares a copy and calls back
into Python; a limit that comes meanwhile does not hold such a body back any more."""
LOOK_SECONDS = 0.5
"""How often running requests are looked at: for stalls, and for limits that were set meanwhile."""

_NOT_ADDED = ["Expect:", "Accept:", "Transfer-Encoding:", "Content-Type:"]
"""An empty header takes away what libcurl would add by itself; one that is ours stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneSettings:
    """How connections are made. Times are in seconds."""

    most_connections: int
    connect_seconds: float = CONNECT_SECONDS
    stall_seconds: float = STALL_SECONDS


class _Meter:
    """Hands a body out to libcurl as fast as its limits let through, and pauses it between."""

    def __init__(self, request: HttpRequest, throttle: Throttle, pause: Callable[[], None]) -> None:
        assert request.body is not None
        self._body = request.body
        self._size_bytes = request.size_bytes
        self._pause = pause
        self.turn = throttle.turn()

    def read(self, amount: int) -> bytes | int:
        """Give the next bytes, or the number that means "not now"."""
        left = self._size_bytes - self._body.tell()
        if left <= 0:
            return b""
        allowed = self.turn.take(min(amount, left))
        if not allowed:
            self._pause()
            return int(pycurl.READFUNC_PAUSE)
        return self._body.read(allowed)


_FINAL_STATUS = re.compile(rb"HTTP/\S+ [2-9]")


class _Sink:
    """Where a handle's answers go. Kept with the handle: setting it anew would cost time."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.body = bytearray()
        self.body_bytes = 0

    def clear(self) -> None:
        self.lines.clear()
        self.body.clear()
        self.body_bytes = 0

    def take_body(self, data: bytes) -> int:
        """Keep the beginning of a body. To take less than all breaks the transfer off."""
        self.body_bytes += len(data)
        room = ANSWER_LIMIT_BYTES - len(self.body)
        self.body += data[: max(0, room)]
        return len(data) if self.body_bytes <= ANSWER_END_BYTES else 0

    @property
    def begun(self) -> bool:
        """Whether the answer itself has begun: interim ones (100 Continue) are none."""
        return any(_FINAL_STATUS.match(line) for line in self.lines)

    @property
    def headed(self) -> bool:
        """Whether the last answer's head came to its end: libcurl takes one that broke off."""
        for line in reversed(self.lines):
            if line.startswith(b"HTTP/"):
                return False
            if not line.strip():
                return True
        return False

    def headers(self) -> dict[str, str]:
        """Read the last answer's headers: interim ones (100 Continue) may have come before."""
        text = "\r\n" + b"".join(self.lines).decode("latin-1")
        last = text.rpartition("\r\nHTTP/")[2].split("\r\n")[1:]
        parts = [line.partition(":") for line in last]
        return {name.lower(): value.strip() for name, colon, value in parts if colon}


@dataclass(kw_only=True, slots=True)
class _Running:
    ticket: int
    request: HttpRequest
    sink: _Sink
    stall_seconds: float
    moved_at: float
    """When a byte was last seen to have moved, in monotonic seconds."""
    began: float
    moved_bytes: int = 0
    meter: _Meter | None = None
    answered_at: float | None = None
    """When the answer was first seen to have begun, in monotonic seconds."""
    at_once: bool = False
    """libcurl has the whole body already."""

    def why_ended(self, uploaded_bytes: int, now: float) -> str:
        """Say why the transfer must be ended, or nothing if it may go on."""
        if self.stalled(uploaded_bytes, now):
            return f"stalled: no byte moved for {self.stall_seconds:g} seconds"
        return "the answer did not come to an end" if self.drags_on(now) else ""

    def stalled(self, uploaded_bytes: int, now: float) -> bool:
        """Tell whether nothing moved for too long, from what has moved by now."""
        moved = uploaded_bytes + len(self.sink.lines) + self.sink.body_bytes
        if moved != self.moved_bytes:
            self.moved_bytes, self.moved_at = moved, now
        return now - self.moved_at >= self.stall_seconds

    def drags_on(self, now: float) -> bool:
        """Tell whether the answer should have come to its end by now."""
        if self.answered_at is None:
            if self.sink.begun:
                self.answered_at = now
            return False
        return overdue(now - self.answered_at, self.sink.body_bytes, self.stall_seconds)


class CurlLane:
    """Drives requests. Belongs to one thread, except for `wake`."""

    def __init__(self, settings: LaneSettings, count: CountRequest | None = None) -> None:
        """`count` is told of every request that ended by itself, or stalled."""
        self._settings = settings
        self._count = count
        self._sockets = make_sockets()
        # Sockets, not a pipe: not every system can wait for a pipe.
        self._woken_by, self._wakes = socket.socketpair()
        for end in (self._woken_by, self._wakes):
            end.setblocking(False)
        self._sockets.watch(pycurl.POLL_IN, self._woken_by.fileno())
        self._woken = False
        self._timer_at: float | None = None
        self._wake_lock = threading.Lock()
        self._closed = False
        self._idle: list[Any] = []
        self._sinks: dict[Any, _Sink] = {}
        self._manners: dict[Any, tuple[str, str, str, bool]] = {}
        self._running: dict[Any, _Running] = {}
        self._paused: set[Any] = set()
        self._resume_at = 0.0
        self._look_at = 0.0
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._sockets.watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._multi.setopt(pycurl.M_MAXCONNECTS, settings.most_connections)

    def __len__(self) -> int:
        return len(self._running)

    def wake(self) -> None:
        """Make a waiting `step` return. Safe from every thread."""
        with self._wake_lock:
            # Woken: it has not looked yet. Closed: the number may be another file's by now.
            if not self._woken and not self._closed:
                self._woken = True
                self._wakes.send(b"!")

    def start(self, ticket: int, request: HttpRequest) -> None:
        """Begin a request; `step` gives its answer under the ticket."""
        handle = self._idle.pop() if self._idle else self._new_handle()
        sink = self._sinks[handle]
        sink.clear()
        stall = request.stall_seconds
        running = _Running(
            ticket=ticket,
            request=request,
            sink=sink,
            stall_seconds=self._settings.stall_seconds if stall is None else stall,
            moved_at=time.monotonic(),
            began=time.monotonic(),
        )
        self._running[handle] = running
        block = _at_once(request)
        self._set_manner(handle, request, at_once=block is not None)
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(
            pycurl.HTTPHEADER,
            [f"{name}: {value}" for name, value in request.headers.items()] + _NOT_ADDED,
        )
        if block is not None:
            running.at_once = True
            handle.setopt(pycurl.POSTFIELDS, block)
        elif request.body is not None:
            handle.setopt(pycurl.READFUNCTION, request.body.read)
            self._meter_if_limited(handle, running)
            handle.setopt(pycurl.SEEKFUNCTION, _seeker(request.body))
            handle.setopt(pycurl.INFILESIZE_LARGE, request.size_bytes)
        self._multi.add_handle(handle)

    def step(self, seconds: float) -> list[tuple[int, HttpAnswer]]:
        """Let things move for at most so long, and give the answers that are whole."""
        for descriptor, bits in self._sockets.ready(self._wait_seconds(seconds)):
            if descriptor == self._woken_by.fileno():
                self._woken_by.recv(1)
                self._woken = False
            else:
                self._multi.socket_action(descriptor, bits)
        if self._paused and time.monotonic() >= self._resume_at:
            self._resume()
        if self._timer_at is not None and time.monotonic() >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        found = self._finished()
        if self._running and time.monotonic() >= self._look_at:
            found += self._look()
        return found

    def drop(self, ticket: int) -> None:
        """Break off one request; no answer will come."""
        for handle, running in list(self._running.items()):
            if running.ticket == ticket:
                self._release(handle)
                self._close_handle(handle)

    def abandon(self) -> list[int]:
        """Break off all that is running; give the tickets."""
        tickets = [running.ticket for running in self._running.values()]
        for handle in list(self._running):
            self._release(handle)
            self._close_handle(handle)
        return tickets

    def close(self) -> None:
        """Let go of everything. May be repeated."""
        self.abandon()
        for handle in self._idle:
            self._close_handle(handle)
        self._idle.clear()
        with self._wake_lock:
            if self._closed:
                return
            self._closed = True
            self._multi.close()
            self._sockets.close()
            self._woken_by.close()
            self._wakes.close()

    # --- limits and stalls ----------------------------------------------------------------

    def _wait_seconds(self, most: float) -> float:
        ends = [self._look_at] if self._running else []
        ends += [self._resume_at] if self._paused else []
        ends += [] if self._timer_at is None else [self._timer_at]
        return max(0.0, min(most, min(ends) - time.monotonic())) if ends else most

    def _meter_if_limited(self, handle: Any, running: _Running) -> None:
        """Have a body metered from here on. Without a limit, nothing of ours is in its way."""
        throttle = running.request.throttle
        if throttle is None or not throttle.limited or running.meter is not None or running.at_once:
            return

        def pause() -> None:
            self._paused.add(handle)
            again = time.monotonic() + meter.turn.wait_seconds()
            self._resume_at = min(self._resume_at, again) if len(self._paused) > 1 else again

        meter = running.meter = _Meter(running.request, throttle, pause)
        handle.setopt(pycurl.READFUNCTION, meter.read)

    def _resume(self) -> None:
        """Let those go on whose turn it is, and note when to look again."""
        for handle in list(self._paused):
            meter = self._running[handle].meter
            assert meter is not None
            if meter.turn.ready():
                self._paused.discard(handle)
                handle.pause(pycurl.PAUSE_CONT)  # it may read, and be paused again, in here
        # Those under the same limits wait for the same bytes, so one of them can speak for all.
        turns = {
            id(running.request.throttle): running.meter.turn
            for running in map(self._running.__getitem__, self._paused)
            if running.meter is not None
        }
        waits = [turn.wait_seconds() for turn in turns.values()]
        self._resume_at = time.monotonic() + min(waits, default=0.0)

    def _look(self) -> list[tuple[int, HttpAnswer]]:
        """Put limits in force that were set meanwhile, and end what stalled.

        libcurl's own LOW_SPEED_TIME is not used: whether it counts the time that a transfer is
        paused has changed with its versions.
        """
        now = time.monotonic()
        self._look_at = now + LOOK_SECONDS
        ended: list[tuple[int, HttpAnswer]] = []
        for handle, running in list(self._running.items()):
            if running.request.body is not None:
                self._meter_if_limited(handle, running)
            waits = handle in self._paused or not handle.getinfo(pycurl.PRETRANSFER_TIME)
            if waits:  # for its turn, or for a connection, which has a limit of its own
                running.moved_at = now
                continue
            why = running.why_ended(handle.getinfo(pycurl.SIZE_UPLOAD_T), now)
            if why:
                ended.append((running.ticket, _timed_out(why)))
                self._tell(running, 0)
                self._release(handle)
                self._close_handle(handle)
        return ended

    # --- inside ---------------------------------------------------------------------------

    def _set_manner(self, handle: Any, request: HttpRequest, *, at_once: bool) -> None:
        """Set what seldom differs from one request of a handle to its next."""
        manner = (request.method, request.ca_file, request.proxy, at_once)
        if self._manners.get(handle) == manner:
            return
        self._manners[handle] = manner
        handle.setopt(pycurl.CAINFO, request.ca_file)
        # An empty proxy also keeps libcurl from asking the environment.
        handle.setopt(pycurl.PROXY, request.proxy)
        handle.setopt(pycurl.NOBODY, request.method == "HEAD")
        handle.setopt(pycurl.UPLOAD, request.method == "PUT" and not at_once)
        if at_once:  # to libcurl a body that it is given whole is a POST's, whatever its name
            handle.setopt(pycurl.CUSTOMREQUEST, request.method)
        else:
            handle.unsetopt(pycurl.CUSTOMREQUEST)

    def _close_handle(self, handle: Any) -> None:
        self._manners.pop(handle, None)
        del self._sinks[handle]
        handle.close()

    def _new_handle(self) -> Any:
        settings = self._settings
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.PATH_AS_IS, 1)  # what was signed is what is sent
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.TCP_NODELAY, 1)
        handle.setopt(pycurl.TCP_KEEPALIVE, 1)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(settings.connect_seconds * 1000))
        handle.setopt(pycurl.UPLOAD_BUFFERSIZE, 256 * 1024)
        sink = self._sinks[handle] = _Sink()
        handle.setopt(pycurl.HEADERFUNCTION, sink.lines.append)  # libcurl bounds their number
        handle.setopt(pycurl.WRITEFUNCTION, sink.take_body)
        return handle

    def _set_timer(self, milliseconds: int) -> None:
        self._timer_at = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _finished(self) -> list[tuple[int, HttpAnswer]]:
        found: list[tuple[int, HttpAnswer]] = []
        while True:
            left, good, bad = self._multi.info_read()
            found += [self._take(handle, None) for handle in good]
            found += [self._take(handle, (number, words)) for handle, number, words in bad]
            if not left:
                return found

    def _take(self, handle: Any, trouble: tuple[int, str] | None) -> tuple[int, HttpAnswer]:
        running = self._running[handle]
        if trouble is None and not running.sink.headed:
            trouble = (pycurl.E_PARTIAL_FILE, "the answer broke off in its head")
        answer = HttpAnswer(
            status=handle.getinfo(pycurl.RESPONSE_CODE),
            headers=running.sink.headers(),
            body=bytes(running.sink.body),
            trouble=trouble,
        )
        self._tell(running, 0 if trouble else answer.status)
        self._release(handle)
        if running.at_once:
            handle.setopt(pycurl.POSTFIELDS, b"")  # or the body would live as long as the handle
        self._idle.append(handle)
        return running.ticket, answer

    def _tell(self, running: _Running, status: int) -> None:
        if self._count is None:
            return
        request = running.request
        seconds = time.monotonic() - running.began
        self._count(request.operation, status, seconds, request.size_bytes if status else 0)

    def _release(self, handle: Any) -> None:
        self._multi.remove_handle(handle)
        self._paused.discard(handle)
        running = self._running.pop(handle)
        if running.meter is not None:
            running.meter.turn.leave()


def _timed_out(why: str) -> HttpAnswer:
    return HttpAnswer(status=0, headers={}, body=b"", trouble=(pycurl.E_OPERATION_TIMEDOUT, why))


def _at_once(request: HttpRequest) -> bytes | None:
    """Give a body that libcurl may have whole: one in memory, small, and under no limit now."""
    body = request.body
    if not isinstance(body, io.BytesIO) or request.size_bytes > AT_ONCE_BYTES:
        return None
    if request.method != "PUT" or (request.throttle is not None and request.throttle.limited):
        return None
    block = body.getvalue()
    return block if body.tell() == 0 and len(block) == request.size_bytes else None


def _seeker(body: BinaryIO) -> Any:
    def seek(offset: int, origin: int) -> int:
        body.seek(offset, origin)
        return int(pycurl.SEEKFUNC_OK)

    return seek
