"""Many HTTP requests at once in one thread, through libcurl's multi interface.

Per request this costs a tenth of what boto3's path costs, and connections are kept and shared.
The lane knows nothing of S3: it takes requests that are ready to go and gives answers.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pycurl

from sensordrop.ports import HttpAnswer, HttpRequest

ANSWER_LIMIT_BYTES = 64 * 1024
"""Bytes of an answer's body that are kept: S3's errors have some hundreds."""
HEADER_LIMIT_BYTES = 64 * 1024
"""Bytes of an answer's headers, after which the answer is broken off as hostile."""
STALL_SECONDS = 60
"""A transfer on which no byte moves for so long is ended."""
CONNECT_SECONDS = 10
"""Longest wait for a connection, TLS included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneSettings:
    """How connections are made. Times are in seconds."""

    most_connections: int
    connect_seconds: float = CONNECT_SECONDS
    stall_seconds: float = STALL_SECONDS


@dataclass(kw_only=True, slots=True)
class _Running:
    ticket: int
    headers: dict[str, str] = field(default_factory=dict)
    header_bytes: int = 0
    body: bytearray = field(default_factory=bytearray)

    def take_header(self, line: bytes) -> int | None:
        self.header_bytes += len(line)
        if self.header_bytes > HEADER_LIMIT_BYTES:
            return -1  # anything but the line's length ends the transfer
        text = line.decode("iso-8859-1").strip()
        if text.startswith("HTTP/"):
            self.headers.clear()  # an interim answer (100 Continue) came before
        name, colon, value = text.partition(":")
        if colon:
            self.headers[name.strip().lower()] = value.strip()
        return None

    def take_body(self, data: bytes) -> None:
        room = ANSWER_LIMIT_BYTES - len(self.body)
        self.body += data[: max(0, room)]


class CurlLane:
    """Drives requests. Belongs to one thread, except for `wake`."""

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._timer_at: float | None = None
        self._wake_lock = threading.Lock()
        self._closed = False
        self._idle: list[Any] = []
        self._running: dict[Any, _Running] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._multi.setopt(pycurl.M_MAXCONNECTS, settings.most_connections)

    def __len__(self) -> int:
        return len(self._running)

    def wake(self) -> None:
        """Make a waiting `step` return. Safe from every thread."""
        with self._wake_lock, suppress(BlockingIOError):  # a full pipe will wake it anyway
            if not self._closed:  # the number may be another file's by then
                os.write(self._wake_write, b"!")

    def start(self, ticket: int, request: HttpRequest) -> None:
        """Begin a request; `step` gives its answer under the ticket."""
        handle = self._idle.pop() if self._idle else self._new_handle()
        running = _Running(ticket=ticket)
        self._running[handle] = running
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.CAINFO, request.ca_file)
        # An empty proxy also keeps libcurl from asking the environment.
        handle.setopt(pycurl.PROXY, request.proxy)
        handle.setopt(
            pycurl.HTTPHEADER,
            # An empty header takes away what libcurl would add by itself.
            [f"{name}: {value}" for name, value in request.headers.items()]
            + ["Expect:", "Accept:", "Transfer-Encoding:"],
        )
        handle.setopt(pycurl.HEADERFUNCTION, running.take_header)
        handle.setopt(pycurl.WRITEFUNCTION, running.take_body)
        handle.setopt(pycurl.NOBODY, request.method == "HEAD")
        handle.setopt(pycurl.UPLOAD, request.method == "PUT")
        if request.body is not None:
            handle.setopt(pycurl.READFUNCTION, request.body.read)
            handle.setopt(pycurl.SEEKFUNCTION, _seeker(request.body))
            handle.setopt(pycurl.INFILESIZE_LARGE, request.size_bytes)
        self._multi.add_handle(handle)

    def step(self, seconds: float) -> list[tuple[int, HttpAnswer]]:
        """Let things move for at most so long, and give the answers that are whole."""
        wait = seconds
        if self._timer_at is not None:
            wait = min(wait, self._timer_at - time.monotonic())
        for key, mask in self._selector.select(max(0.0, wait)):
            if key.fd == self._wake_read:
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                continue
            bits = pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0
            bits |= pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
            self._multi.socket_action(key.fd, bits)
        if self._timer_at is not None and time.monotonic() >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return self._finished()

    def drop(self, ticket: int) -> None:
        """Break off one request; no answer will come."""
        for handle, running in list(self._running.items()):
            if running.ticket == ticket:
                self._release(handle)
                handle.close()

    def abandon(self) -> list[int]:
        """Break off all that is running; give the tickets."""
        tickets = [running.ticket for running in self._running.values()]
        for handle in list(self._running):
            self._release(handle)
            handle.close()
        return tickets

    def close(self) -> None:
        """Let go of everything. May be repeated."""
        self.abandon()
        for handle in self._idle:
            handle.close()
        self._idle.clear()
        with self._wake_lock:
            if self._closed:
                return
            self._closed = True
            self._multi.close()
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    # --- inside ---------------------------------------------------------------------------

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
        handle.setopt(pycurl.LOW_SPEED_LIMIT, 1)
        handle.setopt(pycurl.LOW_SPEED_TIME, max(1, int(settings.stall_seconds)))
        handle.setopt(pycurl.UPLOAD_BUFFERSIZE, 256 * 1024)
        return handle

    def _watch_socket(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            with suppress(KeyError):
                self._selector.unregister(fd)
            return
        mask = selectors.EVENT_READ if what & pycurl.POLL_IN else 0
        mask |= selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        try:
            self._selector.modify(fd, mask)
        except KeyError:
            self._selector.register(fd, mask)

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
        answer = HttpAnswer(
            status=handle.getinfo(pycurl.RESPONSE_CODE),
            headers=running.headers,
            body=bytes(running.body),
            trouble=trouble,
        )
        self._release(handle)
        self._idle.append(handle)
        return running.ticket, answer

    def _release(self, handle: Any) -> None:
        self._multi.remove_handle(handle)
        del self._running[handle]


def _seeker(body: BinaryIO) -> Any:
    def seek(offset: int, origin: int) -> int:
        body.seek(offset, origin)
        return int(pycurl.SEEKFUNC_OK)

    return seek
