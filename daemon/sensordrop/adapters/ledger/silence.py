"""Looks after transactions that wait for a database which may never answer.

A server that hangs, or a way to it that swallows everything, may still acknowledge each packet: then
no time-out of the network ever ends, and whoever waits, waits for ever. A statement that is at work
for minutes looks the same from here, and must be left alone. So the server is asked on a connection
of its own, with a bound on each step. Only where it says nothing at all, or says that it has long
answered, the wait is broken off.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg2
import structlog
from psycopg2 import extensions
from psycopg2.extensions import connection as Connection  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.queries import query

SILENT_SECONDS = 20.0
"""A transaction that takes longer is looked after; hardly any but those of sweeps and migrations do."""
ASK_SECONDS = 10.0
"""How long the server may take to answer a question that costs it nothing, and the rest between two.
It has to let somebody in for it: a machine that swaps needs seconds."""
SILENT_LOOKS = 2
"""So many looks in a row must say the same before a wait is broken off: one may be a hiccup."""
SLOW_SECONDS = 300.0
"""After this a transaction that the server is at work on is told once: it may wait for a dead disk."""

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class _Backend:
    """What the server says of the process that serves a connection."""

    active: bool
    changed_at: datetime | None
    waits_for: str


@dataclass(kw_only=True, eq=False)
class Running:
    """A transaction that is under way."""

    connection: Connection
    began: float = field(default_factory=time.monotonic)
    broken_off: str | None = None
    """Why it was broken off, if it was."""
    _looks: int = 0
    _changed_at: datetime | None = None
    _told: bool = False

    def judge(self, backends: dict[int, _Backend] | None) -> str | None:
        """Take in what a look has shown; say why to break the wait off, or None."""
        if backends is None:
            return self._count("the database does not answer any more")
        found = backends.get(self.connection.info.backend_pid)
        waiting = self.connection.info.transaction_status == extensions.TRANSACTION_STATUS_ACTIVE
        if found is None or found.active or not waiting:
            # A pooler in between knows its processes by other numbers: what isn't known is left.
            self._looks = 0
            self._tell_slow(found)
            return None
        if found.changed_at != self._changed_at:
            self._looks, self._changed_at = 0, found.changed_at
        return self._count("an answer of the database never came")

    def _count(self, reason: str) -> str | None:
        self._looks += 1
        if self._looks < SILENT_LOOKS:
            return None
        return f"{reason}; given up after {time.monotonic() - self.began:.0f} seconds"

    def _tell_slow(self, found: _Backend | None) -> None:
        seconds = time.monotonic() - self.began
        if self._told or found is None or not found.active or seconds < SLOW_SECONDS:
            return
        self._told = True
        _log.warning(
            "ledger_slow",
            problem=f"the database has been at work on one transaction for {seconds:.0f} seconds"
            + (f", and waits for {found.waits_for}" if found.waits_for else ""),
            hint="a first sweep of millions of files may take as long; else look at the "
            "database's disk and at pg_stat_activity",
        )


class SilenceWatch:
    """Belongs to a set of connections. Safe from every thread.

    Its own thread is begun with the first transaction, and anew if it ever ended: with each
    transaction somebody looks whether it lives.
    """

    def __init__(
        self,
        dsn: Callable[[], str],
        *,
        silent_seconds: float = SILENT_SECONDS,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self._dsn = dsn
        self._silent_seconds = silent_seconds
        self._ask_seconds = ask_seconds
        self._lock = threading.Lock()
        self._running: set[Running] = set()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, running: Running) -> Iterator[None]:
        """Look after a transaction while the block runs, which must not close its connection."""
        with self._lock:
            self._running.add(running)
            self._keep_alive()
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(running)

    def close(self) -> None:
        """Let its thread end; does not wait for it. The next transaction begins another one."""
        with self._lock:
            self._closed.set()
            self._thread, self._closed = None, threading.Event()

    def _keep_alive(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._look_after, args=(self._closed,), name="ledger-silence", daemon=True
            )
            self._thread.start()

    def _look_after(self, closed: threading.Event) -> None:
        while not closed.wait(min(self._silent_seconds, self._ask_seconds)):
            long_ago = time.monotonic() - self._silent_seconds
            with self._lock:
                waiting = [each for each in self._running if each.began <= long_ago]
            if waiting:
                self._judge(waiting, self._ask())

    def _judge(self, waiting: list[Running], backends: dict[int, _Backend] | None) -> None:
        with self._lock:  # nobody closes its connection meanwhile: `over` must be left first
            for running in waiting:
                if running not in self._running or running.broken_off is not None:
                    continue
                with suppress(psycopg2.Error):  # it broke by itself: its owner is told so
                    running.broken_off = running.judge(backends)
                if running.broken_off is not None:
                    break_off(running.connection)

    def _ask(self) -> dict[int, _Backend] | None:
        """Ask the server what its processes do; None: it said nothing at all in time."""
        give_up = time.monotonic() + self._ask_seconds
        connection: Any = None
        try:
            connection = psycopg2.connect(
                self._dsn(), async_=True, application_name="sensordrop looks after the ledger"
            )
            _wait(connection, give_up)
            cursor = connection.cursor()
            cursor.execute(query("what_backends_do"))
            _wait(connection, give_up)
            return {
                pid: _Backend(active=active, changed_at=changed_at, waits_for=waits_for)
                for pid, active, changed_at, waits_for in cursor.fetchall()
            }
        except TimeoutError:
            return None
        except psycopg2.Error:
            return {}  # it refuses, or breaks off: it is not silent, and others are told the same
        finally:
            if connection is not None:
                connection.close()


def break_off(connection: Connection) -> None:
    """Wake a thread that waits for the server here: closing would wait with it."""
    with (
        suppress(psycopg2.InterfaceError, OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as wire,
    ):
        wire.shutdown(socket.SHUT_RDWR)


def _wait(connection: Connection, give_up: float) -> None:
    """Drive an asynchronous connection until it is ready. Raises TimeoutError."""
    while (state := connection.poll()) != extensions.POLL_OK:
        poller = select.poll()  # select() itself knows no descriptor beyond 1023
        writes = state == extensions.POLL_WRITE
        poller.register(connection.fileno(), select.POLLOUT if writes else select.POLLIN)
        left = give_up - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise TimeoutError
