"""The way to a PostgreSQL, which can be slow, end in the middle of an answer, or swallow everything.

It reads what passes (PostgreSQL's frontend/backend protocol, version 3) only so far that it knows a
COMMIT and its answer. It listens on loopback and goes on to a server's unix socket, so it must be
asked without TLS: `url` says so.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Self

PIECE_BYTES = 64 * 1024
ANSWER_BYTES = 18
"""The answer to a COMMIT: its CommandComplete and ReadyForQuery. One byte less is no answer yet."""


class Fate(Enum):
    """What becomes of a COMMIT."""

    PASSES = "passes"
    NEVER_ASKED = "never asked"
    """The way breaks before the server hears of it."""
    ANSWER_LOST = "answer lost"
    """It happened, and who asked for it does not learn that."""
    ANSWER_CUT = "answer cut"
    """The same, in the middle of the answer."""


class PostgresProxy:
    """Passes on what is said between clients and one server."""

    def __init__(self, server_socket: str) -> None:
        self._server_socket = server_socket
        self.fate: Callable[[], Fate] = lambda: Fate.PASSES
        """Asked for each COMMIT, by one thread at a time."""
        self.cut_after_bytes: Callable[[], int] = lambda: ANSWER_BYTES // 2
        """How much of an answer passes that is cut."""
        self.fates: Counter[Fate] = Counter()
        self.delay_seconds = 0.0
        """How long each piece of an answer is on its way."""
        self.answer_bytes = PIECE_BYTES
        """How large the pieces are in which answers come."""
        self._way_is_free = threading.Event()
        self._way_is_free.set()
        self._lock = threading.Lock()
        self._open: set[_Passage] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str, user: str = "sensordrop") -> str:
        """Give what stands in a configuration."""
        return (
            f"postgresql://{user}@127.0.0.1:{self.port}/{database}"
            "?sslmode=disable&gssencmode=disable"
        )

    def swallow(self) -> None:
        """Let nothing through any more, in silence. Connections are still taken."""
        self._way_is_free.clear()

    def let_through(self) -> None:
        """Let everything through again, also what was held back."""
        self._way_is_free.set()

    def lose_answers(self) -> None:
        """Drop whatever the server says on the connections that are open now; they stay open."""
        with self._lock:
            for each in self._open:
                each.mute = True

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            broken = list(self._open)
        for each in broken:
            each.cut()

    def decide(self) -> Fate:
        with self._lock:
            chosen = self.fate()
            self.fates[chosen] += 1
            return chosen

    def wait_for_way(self) -> None:
        self._way_is_free.wait()

    def forget(self, passage: _Passage) -> None:
        with self._lock:
            self._open.discard(passage)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self._server_socket)
            except OSError:
                near.close()
                far.close()
                continue
            passage = _Passage(self, near, far)
            with self._lock:
                self._open.add(passage)
            passage.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not end its accept()
        self._listener.close()
        self.let_through()
        self.cut()


class _Passage:
    """One connection through the proxy."""

    def __init__(self, proxy: PostgresProxy, near: socket.socket, far: socket.socket) -> None:
        self._proxy = proxy
        self._near, self._far = near, far
        self._left: int | None = None
        """So much of what the server says next still passes; None: all of it."""
        self.mute = False

    def start(self) -> None:
        for work in (self._ask, self._answer):
            threading.Thread(target=self._until_it_ends, args=(work,), daemon=True).start()

    def cut(self) -> None:
        for each in (self._near, self._far):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _until_it_ends(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError:
            pass  # one side is gone: the other one is told below
        finally:
            self.cut()
            self._proxy.forget(self)

    def _ask(self) -> None:
        (length,) = struct.unpack("!i", self._take(4))
        self._pass_on(struct.pack("!i", length) + self._take(length - 4))
        while True:
            head = self._take(5)
            (length,) = struct.unpack("!i", head[1:])
            body = self._take(length - 4)
            if head[:1] == b"Q" and body.upper().startswith(b"COMMIT"):
                fate = self._proxy.decide()
                if fate is Fate.NEVER_ASKED:
                    return
                if fate is not Fate.PASSES:
                    cut = fate is Fate.ANSWER_CUT
                    self._left = self._proxy.cut_after_bytes() if cut else 0
            self._pass_on(head + body)

    def _pass_on(self, said: bytes) -> None:
        self._proxy.wait_for_way()
        self._far.sendall(said)

    def _take(self, amount: int) -> bytes:
        taken = bytearray()
        while len(taken) < amount:
            piece = self._near.recv(amount - len(taken))
            if not piece:
                raise ConnectionError("whoever asked is gone")
            taken += piece
        return bytes(taken)

    def _answer(self) -> None:
        while said := self._far.recv(self._proxy.answer_bytes):
            self._proxy.wait_for_way()
            if self.mute:
                continue
            if self._proxy.delay_seconds:
                time.sleep(self._proxy.delay_seconds)
            if self._left is not None:
                # The server has answered, so it has happened.
                self._near.sendall(said[: self._left])
                return
            self._near.sendall(said)
