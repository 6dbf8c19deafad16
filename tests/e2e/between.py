"""What stands between the daemon and a real server in a test: a slow wire, a gate, a grumbler."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from s3_servers import Reply

PIECE_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it went by, and what it was answered. The path is without escapes."""

    method: str
    path: str
    status: int
    query: str = ""

    @property
    def part(self) -> int | None:
        """Which part of an upload it sent."""
        found = parse_qs(self.query).get("partNumber")
        return int(found[0]) if found and self.method == "PUT" else None


class Wire:
    """A TCP connection to a server that can be slowed down, cut, and mended again.

    Nothing of what passes is changed, so signatures stay right.
    """

    def __init__(self, endpoint_url: str) -> None:
        parts = urlsplit(endpoint_url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.bytes_per_second: float | None = None
        """Speed towards the server; None: as fast as it goes."""
        self.sent_bytes = 0
        """What passed towards the server."""
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self.mend()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        """Listen (again, at the same port)."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        if self._listener is not None:
            # Closing alone does not end an accept() that is under way.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            broken, self._open = self._open, set()
        for each in broken:
            _shut(each)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self._open |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        try:
            while piece := source.recv(PIECE_BYTES):
                sink.sendall(piece)
                if outward:
                    self.sent_bytes += len(piece)
                    if self.bytes_per_second is not None:
                        time.sleep(len(piece) / self.bytes_per_second)
        except OSError:
            pass  # cut, or one side is done: the other is told below
        finally:
            _shut(source)
            _shut(sink)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was shut already


class GoBetween:
    """Passes S3 requests on to a real server and counts them.

    `refuse` may answer a request itself; while `gate` is cleared, uploads wait before they are
    passed on, and while `listings` is cleared, pages of objects do. What the daemon asks to see who it is and what the store does (at the root, and
    under `_sensordrop/`) neither waits nor counts.
    """

    def __init__(
        self,
        endpoint_url: str,
        refuse: Callable[[str, str], Reply | None] = lambda _method, _path: None,
    ) -> None:
        self.requests: list[Request] = []
        self.waiting = 0
        """Uploads that wait at the gate."""
        self._lock = threading.Lock()
        self.busy = 0
        """Requests that are being passed on, or held."""
        self.gate = threading.Event()
        self.gate.set()
        self.listings = threading.Event()
        self.listings.set()
        self.refuse = refuse
        target = urlsplit(endpoint_url).netloc
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                outer.count(busy=1)
                try:
                    self.pass_on()
                except OSError:
                    self.close_connection = True  # whoever asked is gone: the kill that was meant
                finally:
                    outer.count(busy=-1)

            def pass_on(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if len(body) < length:
                    raise OSError("whoever asked is gone in mid-sentence")
                path = unquote(urlsplit(self.path).path, errors="surrogateescape")
                ours = path == "/" or "/_sensordrop/" in path
                if self.command in ("PUT", "POST") and not ours:
                    outer.count(waiting=1)
                    outer.gate.wait()
                    outer.count(waiting=-1)
                if "max-keys=1000" in self.path:  # whoever only looks asks for one
                    outer.listings.wait()
                reply = outer.refuse(self.command, path) or self._ask(body)
                if not ours:
                    outer.requests.append(
                        Request(
                            method=self.command,
                            path=path,
                            status=reply.status,
                            query=urlsplit(self.path).query,
                        )
                    )
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "content-length" not in {name.lower() for name in reply.headers}:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            def _ask(self, body: bytes) -> Reply:
                connection = http.client.HTTPConnection(target, timeout=60)
                try:
                    headers = {n: v for n, v in self.headers.items() if n.lower() != "expect"}
                    connection.request(self.command, self.path, body or None, headers)
                    answer = connection.getresponse()
                    told = {
                        name: value
                        for name, value in answer.getheaders()
                        if name.lower() not in ("transfer-encoding", "connection")
                    }
                    return Reply(status=answer.status, headers=told, body=answer.read())
                finally:
                    connection.close()

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"

    def count(self, *, busy: int = 0, waiting: int = 0) -> None:
        """Count requests in and out: many threads do."""
        with self._lock:
            self.busy += busy
            self.waiting += waiting

    def puts(self, ending: str = "") -> list[str]:
        """Give the paths of all uploads that the server took, in their order."""
        return [
            each.path
            for each in self.requests
            if each.method == "PUT" and each.status == 200 and each.path.endswith(ending)
        ]

    def parts(self) -> list[int]:
        """Give the numbers of all parts that the server took, sorted."""
        taken = [each.part for each in self.requests if each.status == 200]
        return sorted(part for part in taken if part is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.listings.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
