"""An HTTP proxy in front of a real S3 server that does harm: one fault at a time, at one place.

Without a fault every request is passed on as it is, so signatures stay right. A fault is a
function of one `Exchange`: it may answer by itself, pass the request on and falsify the answer, or
break the connection at any byte.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from s3_servers import error_xml

HEAD_LIMIT_BYTES = 64 * 1024
"""No request of ours has a longer head."""
UPSTREAM_SECONDS = 60.0


# --- what goes by -------------------------------------------------------------------------


def kind_of(method: str, path: str, query: str) -> str:
    """Name what a request is for.

    `put`, `begin`, `part`, `complete`, `abort`, `look`, `read`, `list`, or `other`: who we are,
    and what is asked under `_sensordrop/`.
    """
    asked = parse_qs(query, keep_blank_values=True)
    _, _, key = path.lstrip("/").partition("/")
    if path == "/" or key.startswith("_sensordrop/"):
        return "other"
    if not key:
        return "list"
    if "uploadId" in asked:
        return {"PUT": "part", "POST": "complete", "DELETE": "abort"}.get(method, "list")
    if method == "POST" and "uploads" in asked:
        return "begin"
    return {"PUT": "put", "HEAD": "look", "GET": "read"}.get(method, "other")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the real server said."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def raw(self, method: str, changed: Mapping[str, str] | None = None) -> bytes:
        """Give it as bytes on the wire, some headers replaced."""
        new = {name.lower(): value for name, value in (changed or {}).items()}
        kept = [(n, v) for n, v in self.headers if n.lower() not in new]
        return raw_answer(self.status, [*kept, *new.items()], self.body, method=method)


def raw_answer(
    status: int, headers: list[tuple[str, str]], body: bytes, *, method: str = "PUT"
) -> bytes:
    """Write an answer as bytes, with the length of its body unless one is named."""
    named = {name.lower() for name, _ in headers}
    if "content-length" not in named:
        headers = [*headers, ("Content-Length", str(len(body)))]
    lines = [f"HTTP/1.1 {status} As-Told", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if method == "HEAD" else head + body


class GoneError(Exception):
    """One side of the connection is no longer there."""


@dataclass
class Exchange:
    """One request, and the connection that it came in on. Faults work on this."""

    proxy: FaultProxy
    near: socket.socket
    method: str
    target: str
    headers: list[tuple[str, str]]
    left: bytes
    """What of the body came with the head."""
    kind: str
    dice: random.Random

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path, errors="surrogateescape")

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    @property
    def size_bytes(self) -> int:
        return int(self.header("content-length") or 0)

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def read(self, most: int | None = None) -> bytes:
        """Read the body, or its first bytes."""
        wanted = self.size_bytes if most is None else min(most, self.size_bytes)
        if (self.header("expect") or "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        pieces = [self.left[:wanted]]
        missing = wanted - len(pieces[0])
        while missing:
            piece = self.near.recv(min(missing, 256 * 1024))
            if not piece:
                raise GoneError
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def ask(self, body: bytes | None = None) -> Answer:
        """Pass the request on, with its own body or another, and give what the server says."""
        sent = self.read() if body is None else body
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=UPSTREAM_SECONDS)
        try:
            headers = {n: v for n, v in self.headers if n.lower() not in ("expect", "connection")}
            connection.request(self.method, self.target, sent or None, headers)
            got = connection.getresponse()
            told = tuple(
                (name, value)
                for name, value in got.getheaders()
                if name.lower() not in ("transfer-encoding", "connection")
            )
            answer = Answer(status=got.status, headers=told, body=got.read())
        finally:
            connection.close()
        self.proxy.note(self, answer.status)
        return answer

    def send(self, data: bytes) -> None:
        try:
            self.near.sendall(data)
        except OSError as error:
            raise GoneError from error

    def refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer with an error of S3, without having passed the request on."""
        self.read()
        body = b"" if self.method == "HEAD" or not code else error_xml(code)
        told = [*(headers or {}).items(), ("Content-Type", "application/xml")]
        self.send(raw_answer(status, told, body, method=self.method))

    def reset(self) -> None:
        """Break the connection as a crash does (RST)."""
        # Lingering for no time at all throws away what is buffered and sends RST.
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise GoneError

    def hang(self) -> None:
        """Say nothing any more, until the other side has gone or the fault is over."""
        self.near.settimeout(0.2)
        while not self.proxy.closing.is_set():
            try:
                if not self.near.recv(64 * 1024):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        raise GoneError


Fault = Callable[[Exchange], None]


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A request that the real server answered."""

    kind: str
    method: str
    path: str
    status: int


# --- the proxy ----------------------------------------------------------------------------


@dataclass
class Harm:
    """A fault that is done to requests of some kinds, as often as `hits` says (None: always)."""

    fault: Fault
    on: frozenset[str]
    hits: int | None = None
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, kind: str) -> bool:
        with self.lock:
            if kind not in self.on or (self.hits is not None and self.done >= self.hits):
                return False
            self.done += 1
            return True


class FaultProxy:
    """Passes requests on to a real server, and harms those that it was told to."""

    def __init__(self, endpoint_url: str, seed: int = 0) -> None:
        self.upstream = urlsplit(endpoint_url).netloc
        self.passed: list[Passed] = []
        self.closing = threading.Event()
        self.harm: Harm | None = None
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.listen()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Take connections (again, at the same port)."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def be_away(self) -> None:
        """Refuse connections, and break those that there are."""
        if self._listener is not None:
            # Closing alone does not end an accept() that is under way.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.break_all()

    def break_all(self) -> None:
        """Break all connections that there are."""
        with self._lock:
            broken, self._open = self._open, set()
        for each in broken:
            with contextlib.suppress(OSError):  # it was shut already
                each.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """Do no more harm. Connections that hang are broken, as a network that came back does."""
        self.harm = None
        self.break_all()
        if self._listener is None:
            self.listen()

    def note(self, exchange: Exchange, status: int) -> None:
        with self._lock:
            self.passed.append(
                Passed(
                    kind=exchange.kind, method=exchange.method, path=exchange.path, status=status
                )
            )

    def stored(self, kind: str = "put") -> list[str]:
        """Give the paths of what the server took, in order."""
        return [p.path for p in list(self.passed) if p.kind == kind and p.status == 200]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(near)
                dice = random.Random(self._dice.random())
            threading.Thread(target=self._serve, args=(near, dice), daemon=True).start()

    def _serve(self, near: socket.socket, dice: random.Random) -> None:
        try:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            rest = b""
            while (exchange := self._next(near, rest, dice)) is not None:
                harm = self.harm
                if harm is not None and harm.takes(exchange.kind):
                    harm.fault(exchange)
                else:
                    answer = exchange.ask()
                    exchange.send(answer.raw(exchange.method))
                rest = exchange.left[exchange.size_bytes :]
        except (GoneError, OSError, http.client.HTTPException):
            pass  # one side has gone: that is what is being tried
        finally:
            with self._lock:
                self._open.discard(near)
            near.close()

    def _next(self, near: socket.socket, rest: bytes, dice: random.Random) -> Exchange | None:
        data = rest
        while b"\r\n\r\n" not in data:
            piece = near.recv(64 * 1024)
            if not piece:
                return None
            data += piece
            assert len(data) < HEAD_LIMIT_BYTES + 64 * 1024, "no request has such a head"
        head, _, left = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        where = urlsplit(target)
        return Exchange(
            proxy=self,
            near=near,
            method=method,
            target=target,
            headers=headers,
            left=left,
            kind=kind_of(method, unquote(where.path, errors="replace"), where.query),
            dice=dice,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.be_away()


@contextlib.contextmanager
def proxies(endpoint_url: str, names: list[str], seed: int) -> Iterator[dict[str, FaultProxy]]:
    """Give a proxy for each name."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(FaultProxy(endpoint_url, seed + number))
            for number, name in enumerate(names)
        }


# --- faults -------------------------------------------------------------------------------


def refused(status: int, code: str, **headers: str) -> Fault:
    """Answer with an error of S3; `retry_after` and the like become headers."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.refuse(status, code, told)


def page(status: int, text: bytes) -> Fault:
    """Answer as a portal, a proxy or another server does."""

    def fault(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(
            raw_answer(status, [("Content-Type", "text/html")], text, method=exchange.method)
        )

    return fault


def cut_request(how: Callable[[Exchange], None]) -> Fault:
    """Break off at a random byte of the request's body; the server never sees it."""

    def fault(exchange: Exchange) -> None:
        exchange.read(exchange.dice.randrange(exchange.size_bytes + 1))
        how(exchange)

    return fault


def cut_answer(how: Callable[[Exchange], None]) -> Fault:
    """Let the server do it, and break off at a random byte of its answer."""

    def fault(exchange: Exchange) -> None:
        raw = exchange.ask().raw(exchange.method)
        exchange.send(raw[: exchange.dice.randrange(len(raw))])
        how(exchange)

    return fault


def reset(exchange: Exchange) -> None:
    """Break the connection with RST."""
    exchange.reset()


def hang(exchange: Exchange) -> None:
    """Keep the connection and say nothing."""
    exchange.hang()


def end(_: Exchange) -> None:
    """Close the connection in order, in the middle of a word."""
    raise GoneError


def answered_with(**headers: str) -> Fault:
    """Let the server do it, and falsify headers of its answer."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}

    def fault(exchange: Exchange) -> None:
        exchange.send(exchange.ask().raw(exchange.method, told))

    return fault


def claimed(**headers: str) -> Fault:
    """Say that it was done, and do nothing."""
    told = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def fault(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(raw_answer(200, told, b"", method=exchange.method))

    return fault


def done_but_answered(status: int, body: bytes) -> Fault:
    """Let the server do it, and answer something else."""

    def fault(exchange: Exchange) -> None:
        exchange.ask()
        exchange.send(
            raw_answer(status, [("Content-Type", "application/xml")], body, method=exchange.method)
        )

    return fault


def one_bit_wrong(exchange: Exchange) -> None:
    """Pass the body on with one bit turned."""
    body = bytearray(exchange.read())
    body[exchange.dice.randrange(len(body))] ^= 1
    exchange.send(exchange.ask(bytes(body)).raw(exchange.method))


def dripped(seconds: float) -> Fault:
    """Answer rightly, byte by byte."""

    def fault(exchange: Exchange) -> None:
        for byte in exchange.ask().raw(exchange.method):
            exchange.send(bytes([byte]))
            time.sleep(seconds)

    return fault


def endless(piece: bytes, seconds: float) -> Fault:
    """Answer 200, and never come to an end."""

    def fault(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n\r\n")
        while not exchange.proxy.closing.is_set():
            exchange.send(piece)
            time.sleep(seconds)

    return fault


def huge_header(size_bytes: int, line_bytes: int) -> Fault:
    """Answer with headers of many megabytes."""

    def fault(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(b"HTTP/1.1 200 OK\r\n")
        line = b"x-filler: " + b"f" * line_bytes + b"\r\n"
        for _ in range(size_bytes // len(line)):
            exchange.send(line)
        exchange.send(b"Content-Length: 0\r\n\r\n")

    return fault


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE bomb [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 32) for n in range(8))
    + b"]><CompleteMultipartUploadResult><ETag>&i;</ETag></CompleteMultipartUploadResult>"
)
"""An XML document that would be gigabytes if its entities were put in."""
