"""The pages for machines that watch the daemon: /metrics, /healthz, /readyz.

A small HTTP server with limits: only GET, few connections at once, each for a few seconds. It is
no way in: nothing can be changed here, and no page tells more than its metrics.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import structlog

from sensordrop.core.vitals import unready
from sensordrop.ports.life import StopFlag
from sensordrop.ports.watched import Telemetry

MOST_CONNECTIONS = 8
"""Answered at once. Prometheus needs one; more are turned away before a word is read."""
CONNECTION_SECONDS = 10.0
"""After this a connection is ended, whatever it does: the time of Prometheus' own time-out."""
TURN_SECONDS = 0.25
RETRY_SECONDS = 30.0
"""How often an address that could not be had is tried again."""

_log = structlog.get_logger()

Page = Callable[[], tuple[int, str, bytes]]
"""Gives a status, a content type and a body. Called in any thread."""

PLAIN = "text/plain; charset=utf-8"


def pages(metrics: Callable[[], bytes], content_type: str, telemetry: Telemetry) -> dict[str, Page]:
    """Give the pages by their paths."""

    def ready() -> tuple[int, str, bytes]:
        problems = unready(telemetry.vitals())
        text = "".join(f"{problem}\n" for problem in problems) or "ready\n"
        return (503 if problems else 200), PLAIN, text.encode("utf-8", "replace")

    return {
        "/metrics": lambda: (200, content_type, metrics()),
        "/healthz": lambda: (200, PLAIN, b"alive\n"),
        "/readyz": ready,
    }


class StatusPages:
    """A service: `run` returns when `stop` is set.

    An address that can't be had is told once and tried again: uploads don't depend on it.
    """

    def __init__(self, listen: str, pages: Mapping[str, Page]) -> None:
        """`listen` is HOST:PORT; an IPv6 host may stand in brackets."""
        host, _, port = listen.rpartition(":")
        self._listen = listen
        self._address = (host.strip("[]"), int(port))
        self._pages = pages
        self._woken = threading.Event()

    def run(self, stop: StopFlag) -> None:
        """Answer until `stop` is set."""
        told = False
        while not stop.is_set():
            try:
                server = _Server(self._address, self._pages)
            except OSError as error:
                if not told:
                    told = True
                    _log.warning("metrics_not_served", address=self._listen,
                                 problem=error.strerror or str(error),
                                 hint="uploads go on; end what listens there, or set "
                                 "metrics_listen to a free address (or to off)")  # fmt: skip
                self._woken.wait(RETRY_SECONDS)
                continue
            told = False
            _log.info("metrics_served", address=self._listen)
            with server:
                while not stop.is_set():
                    server.handle_request()
                    server.end_the_slow()
                server.end_all()

    def wake(self) -> None:
        """Make it look at `stop`. Safe from every thread."""
        self._woken.set()


class _Server(HTTPServer):
    """One thread takes connections, each is answered in a thread of its own."""

    timeout = TURN_SECONDS
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        host, port = address
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        self.pages = pages
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        super().__init__(found[0][4][:2], _Handler)  # type: ignore[arg-type]  # (host, port)

    def server_bind(self) -> None:
        """Take the address; unlike HTTPServer, without asking who that is by name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own; turn away what is too much."""
        with self._lock:
            full = len(self._open) >= MOST_CONNECTIONS
            if not full:
                self._open[request] = time.monotonic()
        if full:
            self.shutdown_request(request)
            return
        thread = threading.Thread(
            target=self._answer, args=(request, client_address), name="status-page", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads for us; HTTPServer closes it
            with self._lock:
                self._open.pop(request, None)
            raise

    def end_the_slow(self) -> None:
        """End connections that have been open for too long."""
        self._end(time.monotonic() - CONNECTION_SECONDS)

    def end_all(self) -> None:
        """End all connections."""
        self._end(float("inf"))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell a mistake of ours; who went away in the middle is nobody's trouble."""
        _log.debug("status_page_broken_off", exc_info=True)

    def _end(self, begun_before: float) -> None:
        with self._lock:
            for request, began in self._open.items():
                if began <= begun_before:
                    _shut(request)

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            _log.debug("status_page_broken_off", client=str(client_address))
        except Exception:  # noqa: BLE001 — a mistake in a page must not end the others
            _log.exception("bug", where="status pages")
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)


def _shut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it ended by itself just now


class _Handler(BaseHTTPRequestHandler):
    """Answers one GET and ends the connection."""

    server: _Server
    timeout = CONNECTION_SECONDS
    server_version = "sensordropd"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page of the path, or say which there are."""
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            names = "".join(f"{path}\n" for path in sorted(self.server.pages))
            self._send(404, PLAIN, f"there is:\n{names}".encode())
            return
        self._send(*page())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — it is named so
        """Say nothing of requests: there is one every few seconds, for ever."""

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
