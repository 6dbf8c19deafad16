"""Connections to PostgreSQL: one for each thread, thrown away at the first sign of trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import connection as Connection  # noqa: N812 — it is a class
from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class
from psycopg2.extensions import parse_dsn

from sensordrop.adapters.ledger.silence import Running, SilenceWatch, break_off
from sensordrop.adapters.service_user import thread_as
from sensordrop.core.failure import LedgerUnavailableError

CONNECT_TIMEOUT_SECONDS = 5
"""How long one try to connect may take: the engine tries again."""
LOCK_TIMEOUT_MILLISECONDS = 30_000
"""How long a statement waits for somebody else's lock before it is given up and tried anew."""
TCP_USER_TIMEOUT_MILLISECONDS = 30_000
"""How long sent bytes may stay unanswered: keepalives don't count while some are, and without it
a server whose cable was pulled is waited for some fifteen minutes."""
IDLE_TRANSACTION_TIMEOUT_MILLISECONDS = 600_000
"""After this a transaction that its program forgot is ended: it would hold back vacuum."""

_UNAVAILABLE_STATES = frozenset(
    {
        errorcodes.READ_ONLY_SQL_TRANSACTION,
        errorcodes.DISK_FULL,
        errorcodes.OUT_OF_MEMORY,
        errorcodes.TOO_MANY_CONNECTIONS,
        errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    }
)


class Connections:
    """Hands each thread a connection of its own.

    `closed` stays 0 after a backend died, so a connection that raised OperationalError or
    InterfaceError is closed and the next transaction gets a new one. When none is to be had,
    `revive` is called once and it is tried again (an embedded server is started there). Where a
    server on this machine turns us away, it is asked once more as the user that `stand_in` gives.
    """

    def __init__(
        self,
        dsn: Callable[[], str],
        *,
        revive: Callable[[], None] | None = None,
        stand_in: Callable[[], int | None] | None = None,
        application_name: str = "sensordrop",
        silence: SilenceWatch | None = None,
    ) -> None:
        self._dsn = dsn
        self._silence = silence or SilenceWatch(dsn)
        self._revive = revive
        self._stand_in = stand_in
        self._application_name = application_name
        self._local = threading.local()
        self._open: set[Connection] = set()
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """Run a block in one transaction and commit it.

        Raises LedgerUnavailableError where the database could not be reached, gave up, fell
        silent, or ended the transaction for its own reasons; whether the commit happened may then
        be unknown, so what is repeated must be safe to repeat.
        """
        connection = self._connection()
        running = Running(connection=connection)
        with self._judged(running), self._silence.over(running):
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()

    @contextmanager
    def _judged(self, running: Running) -> Iterator[None]:
        """Throw the connection away where anything goes wrong, and say what did."""
        connection = running.connection
        try:
            yield
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self._discard(connection)
            raise _unavailable(running.broken_off or error) from error
        except psycopg2.Error as error:
            self._discard(connection)
            # A connection that broke in the middle gives the plain class, without any code.
            broken = type(error) is psycopg2.DatabaseError and error.pgcode is None
            if broken or error.pgcode in _UNAVAILABLE_STATES:
                raise _unavailable(running.broken_off or error) from error
            raise
        except BaseException:
            # Whatever broke the block off (an interrupted COPY included), nothing of it stays.
            self._discard(connection)
            raise

    def close(self) -> None:
        """Close every thread's connection. May be repeated."""
        with self._lock:
            connections, self._open = self._open, set()
        self._silence.close()
        for connection in connections:
            break_off(connection)
            connection.close()

    def close_own(self) -> None:
        """Close the calling thread's connection, before the thread ends."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            self._discard(connection)

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None and not connection.closed:
            return connection
        try:
            connection = self._connect()
        except LedgerUnavailableError:
            if self._revive is None:
                raise
            self._revive()
            connection = self._connect()
        self._local.connection = connection
        with self._lock:
            self._open.add(connection)
        return connection

    def _connect(self) -> Connection:
        dsn = self._dsn()
        try:
            return self._connect_to(dsn)
        except psycopg2.OperationalError as error:
            uid = self._stand_in() if self._stand_in and _on_this_machine(dsn) else None
            if uid is None:
                raise _unavailable(error) from error
            try:
                with thread_as(uid):
                    return self._connect_to(dsn)
            except psycopg2.OperationalError:
                raise _unavailable(error) from error

    def _connect_to(self, dsn: str) -> Connection:
        made: Connection = psycopg2.connect(
            dsn,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name=self._application_name,
            client_encoding="UTF8",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=TCP_USER_TIMEOUT_MILLISECONDS,
            options=f"-c lock_timeout={LOCK_TIMEOUT_MILLISECONDS}"
            " -c idle_in_transaction_session_timeout="
            f"{IDLE_TRANSACTION_TIMEOUT_MILLISECONDS}"
            # DateStyle as psycopg2 wants it: else it would ask for it, and wait unwatched.
            " -c timezone=UTC -c jit=off -c datestyle=ISO",
        )
        return made

    def _discard(self, connection: Connection) -> None:
        self._local.connection = None
        with self._lock:
            self._open.discard(connection)
        connection.close()


def _on_this_machine(dsn: str) -> bool:
    """Tell whether the server is reached over a socket in a folder, where it sees who asks."""
    words = parse_dsn(dsn)
    hosts = str(words.get("host", "")).split(",")
    return "hostaddr" not in words and all(not host or host.startswith("/") for host in hosts)


def _unavailable(error: Any) -> LedgerUnavailableError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return LedgerUnavailableError(f"the ledger is not available: {lines[0]}")
