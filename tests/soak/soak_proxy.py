"""The way to the store in a soak: an HTTP proxy that breaks, delays, cuts and lies, by the seed.

Which request is hit depends on the seed, the request and how often it was made, not on the order
in which threads come by. Signatures stay right, because nothing that is passed on is changed but
the bodies that are damaged on purpose.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit

UPSTREAM_SECONDS = 60.0
BLACK_HOLE_SECONDS = 8.0
"""How long a request is held without an answer: longer than the daemons' stall_seconds here."""
RETRY_AFTER_SECONDS = 2
SLOWEST_SECONDS = 1.5

REFUSALS: Mapping[str, tuple[int, str]] = {
    "error-500": (500, "InternalError"),
    "error-503": (503, "ServiceUnavailable"),
    "slow-down": (503, "SlowDown"),
    "too-many": (429, "TooManyRequests"),
    "denied": (403, "AccessDenied"),
    "bad-signature": (403, "SignatureDoesNotMatch"),
    "unknown-key": (403, "InvalidAccessKeyId"),
    "expired": (403, "ExpiredToken"),
    "clock-skew": (403, "RequestTimeTooSkewed"),
    "timeout-400": (400, "RequestTimeout"),
}
BREAKS = ("reset-before", "reset-after", "cut-answer", "black-hole", "slow")
LIES = ("wrong-etag", "damaged-body", "error-in-200", "portal-page")
KINDS = (*REFUSALS, *BREAKS, *LIES)


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How many of the requests are hit, and by what."""

    share: float = 0.0
    kinds: tuple[str, ...] = KINDS


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    """What the header says, if it is not the truth."""


class FaultProxy:
    """Listens on loopback in front of a real S3 server. `weather` may be set at any time."""

    def __init__(self, endpoint_url: str, seed: str) -> None:
        self._target = urlsplit(endpoint_url).netloc
        self._seed = seed
        self._lock = threading.Lock()
        self._times: Counter[tuple[str, str]] = Counter()
        self._open: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._calm = threading.Event()
        self.weather = Weather()
        self.faults: Counter[str] = Counter()
        self.damaged: set[str] = set()
        """Paths (bucket and key, as text) under which damaged bytes were passed on."""
        self.port = 0
        self.mend()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- the whole way --------------------------------------------------------------------

    def mend(self) -> None:
        """Listen (again, at the same port)."""
        if self._server is not None:
            return
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self.break_connections()

    def break_connections(self) -> None:
        with self._lock:
            broken, self._open = self._open, set()
        for connection in broken:
            _reset(connection)

    def clear(self) -> None:
        """End all trouble for good."""
        self.weather = Weather()
        self._calm.set()
        self.mend()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._calm.set()
        self.cut()

    # --- one request ----------------------------------------------------------------------

    def choose(self, method: str, path: str) -> str | None:
        """Say what befalls this request, or None."""
        with self._lock:
            self._times[method, path] += 1
            times = self._times[method, path]
        weather = self.weather
        dice = random.Random(f"{self._seed}/{method}/{path}/{times}")
        if dice.random() >= weather.share:
            return None
        return dice.choice(weather.kinds)

    def count(self, kind: str) -> None:
        with self._lock:
            self.faults[kind] += 1

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def note_damage(self, path: str) -> None:
        with self._lock:
            self.damaged.add(path)

    def hold(self) -> None:
        """Wait as a black hole does, but not beyond the end of all trouble."""
        self._calm.wait(BLACK_HOLE_SECONDS)

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        """Pass a request on to the real server."""
        connection = http.client.HTTPConnection(self._target, timeout=UPSTREAM_SECONDS)
        try:
            passed = {name: value for name, value in headers.items() if name.lower() != "expect"}
            connection.request(method, path, body or None, passed)
            answer = connection.getresponse()
            told = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("transfer-encoding", "connection")
            }
            return _Answer(status=answer.status, headers=told, body=answer.read())
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Keep the output clean: connections that were broken on purpose end in errors."""


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            proxy.opened(self.connection)

        def finish(self) -> None:
            proxy.closed(self.connection)
            with contextlib.suppress(OSError):
                super().finish()

        def handle_any(self) -> None:
            try:
                self.pass_on()
            except OSError:
                self.close_connection = True  # one of the two sides is gone

        def pass_on(self) -> None:
            kind = proxy.choose(self.command, self.path)
            if kind == "reset-before":
                proxy.count(kind)
                return self.break_off()
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                raise OSError("whoever asked is gone in mid-sentence")
            if kind in REFUSALS:
                proxy.count(kind)
                return self.tell(_refusal(kind))
            if kind == "black-hole":
                proxy.count(kind)
                proxy.hold()
                return self.break_off()
            if kind == "slow":
                proxy.count(kind)
                time.sleep(random.Random(self.path).uniform(0.1, SLOWEST_SECONDS))
            if kind == "damaged-body" and self.command == "PUT" and body:
                proxy.count(kind)
                proxy.note_damage(unquote(urlsplit(self.path).path))
                body = _damaged(body)
            if kind == "portal-page":
                proxy.count(kind)
                return self.tell(
                    _Answer(
                        status=200,
                        headers={"Content-Type": "text/html"},
                        body=b"<html><body>Please sign in</body></html>",
                    )
                )
            answer = proxy.ask(self.command, self.path, dict(self.headers.items()), body)
            return self.tell_oddly(kind, answer)

        def tell_oddly(self, kind: str | None, answer: _Answer) -> None:
            """Tell what the server answered, or something else."""
            if kind == "reset-after":
                proxy.count(kind)
                return self.break_off()
            if kind == "cut-answer":
                proxy.count(kind)
                length = max(len(answer.body), 8)
                half = answer.body[: length // 2]
                self.tell(
                    _Answer(status=answer.status, headers=answer.headers, body=half, length=length)
                )
                return self.break_off()
            if kind == "wrong-etag" and self.command in ("PUT", "POST"):
                proxy.count(kind)
                headers = {n: v for n, v in answer.headers.items() if n.lower() != "etag"}
                headers["ETag"] = '"00000000000000000000000000000bad"'
                return self.tell(_Answer(status=answer.status, headers=headers, body=answer.body))
            if kind == "error-in-200" and self.command == "POST":
                proxy.count(kind)
                return self.tell(_Answer(status=200, body=_error_xml("InternalError")))
            return self.tell(answer)

        def tell(self, answer: _Answer) -> None:
            self.send_response_only(answer.status)
            sized = dict(answer.headers)
            if self.command != "HEAD" or "content-length" not in {n.lower() for n in sized}:
                sized = {n: v for n, v in sized.items() if n.lower() != "content-length"}
                sized["Content-Length"] = str(
                    len(answer.body) if answer.length is None else answer.length
                )
            for name, value in sized.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def break_off(self) -> None:
            self.close_connection = True
            _reset(self.connection)

        def log_message(self, *_: object) -> None:
            """Keep the output clean."""

    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)
    return Handler


def _refusal(kind: str) -> _Answer:
    status, code = REFUSALS[kind]
    headers = {"Content-Type": "application/xml"}
    if kind in ("too-many", "error-503"):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return _Answer(status=status, headers=headers, body=_error_xml(code))


def _error_xml(code: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
        "<Message>as the soak wants it</Message></Error>"
    ).encode()


def _damaged(body: bytes) -> bytes:
    """Turn one bit around in the middle."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def _reset(connection: socket.socket) -> None:
    """Break a connection hard: the other side sees a reset, no end."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
