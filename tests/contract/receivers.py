"""An endpoint for tests that does what it is told to: one behaviour for each request, in order."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Heard:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


Behaviour = Callable[[BaseHTTPRequestHandler], None]


class Receiver:
    """A server on loopback. `script` are the behaviours of the next requests, then `always`."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.script: list[Behaviour] = []
        self.always: Behaviour = answer(200)
        self.released = threading.Event()
        """Set when the server ends: what holds a request up looks at it."""
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with outer._lock:
                    outer.heard.append(Heard(self.path, headers, body, time.monotonic()))
                    behave = outer.script.pop(0) if outer.script else outer.always
                self.receiver = outer
                behave(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A sender that went away is part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/sessions"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.close()


def answer(status: int, text: str = "", **headers: str) -> Behaviour:
    """Answer at once."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        content = text.encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return behave


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Never answer."""
    handler.receiver.released.wait(120)  # type: ignore[attr-defined]
    handler.close_connection = True


def cut_before_answering(handler: BaseHTTPRequestHandler) -> None:
    """Take the request and close the connection."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut_in_the_answer(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than comes."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"only this")
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def never_end(handler: BaseHTTPRequestHandler) -> None:
    """Answer 200 with a body without an end."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while not handler.receiver.released.is_set():  # type: ignore[attr-defined]
            handler.wfile.write(b"x" * 65536)
    except OSError:
        handler.close_connection = True
