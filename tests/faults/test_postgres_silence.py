"""A database that takes what it is told and says nothing more: no wait for it lasts for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg2
import psycopg2.extensions
import pytest
from postgres_proxy import PostgresProxy

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.silence import SilenceWatch
from sensordrop.core.failure import LedgerUnavailableError

SILENT_SECONDS = ASK_SECONDS = 0.5
END_SECONDS = 120.0
"""How long a test waits for what must end: much longer than it takes on a busy machine."""


@pytest.fixture
def proxy(postgres, postgres_major) -> Iterator[PostgresProxy]:
    folder = postgres(postgres_major).socket_directory
    with PostgresProxy(str(folder / ".s.PGSQL.5432")) as made:
        yield made


@pytest.fixture
def behind(database, proxy) -> Iterator[Connections]:
    """Give connections through the proxy that are soon looked after."""
    name = psycopg2.extensions.parse_dsn(database)["dbname"]
    url = proxy.url(name, psycopg2.extensions.parse_dsn(database).get("user", "sensordrop"))
    watch = SilenceWatch(lambda: url, silent_seconds=SILENT_SECONDS, ask_seconds=ASK_SECONDS)
    made = Connections(lambda: url, silence=watch)
    yield made
    proxy.let_through()
    made.close()


class Asking:
    """Somebody who asks the database something in a thread of its own."""

    def __init__(self, connections: Connections, sql: str) -> None:
        self._connections = connections
        self._sql = sql
        self.answer: list[tuple[object, ...]] = []
        self.problem: LedgerUnavailableError | None = None
        self.connected = threading.Event()
        self.go = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        assert self.connected.wait(END_SECONDS)

    def end(self) -> None:
        self._thread.join(END_SECONDS)
        assert not self._thread.is_alive(), "it waits for ever"

    def _ask(self) -> None:
        try:
            with self._connections.transaction() as cursor:
                cursor.execute("SELECT 1")
                self.connected.set()
                self.go.wait(END_SECONDS)
                cursor.execute(self._sql)
                self.answer = cursor.fetchall()
        except LedgerUnavailableError as error:
            self.problem = error


def asks_again(connections: Connections) -> list[tuple[object, ...]]:
    with connections.transaction() as cursor:
        cursor.execute("SELECT 2")
        return list(cursor.fetchall())


def test_a_silent_way_ends_the_wait_and_is_used_again_when_it_speaks(behind, proxy):
    asking = Asking(behind, "SELECT 1")
    proxy.swallow()
    asking.go.set()
    asking.end()
    assert "does not answer any more" in str(asking.problem)
    proxy.let_through()
    assert asks_again(behind) == [(2,)]


def test_an_answer_that_never_comes_is_told_from_one_that_takes_long(behind, proxy):
    lost = Asking(behind, "SELECT 1")
    proxy.lose_answers()
    long = Asking(behind, "SELECT 3 FROM pg_sleep(6)")  # twelve looks are enough to go wrong
    long.go.set()
    lost.go.set()
    lost.end()
    assert "an answer of the database never came" in str(lost.problem)
    long.end()
    assert long.problem is None
    assert long.answer == [(3,)]


def test_a_database_that_lets_nobody_in_is_not_taken_for_silent(behind, database):
    """Who is at work there is left alone though no question is answered."""
    parsed = psycopg2.extensions.parse_dsn(database)
    asking = Asking(behind, "SELECT 4 FROM pg_sleep(5)")
    with psycopg2.connect(psycopg2.extensions.make_dsn(database, dbname="postgres")) as outside:
        outside.set_session(autocommit=True)
        outside.cursor().execute(f"ALTER DATABASE {parsed['dbname']} ALLOW_CONNECTIONS false")
        asking.go.set()
        asking.end()
        outside.cursor().execute(f"ALTER DATABASE {parsed['dbname']} ALLOW_CONNECTIONS true")
    outside.close()
    assert asking.problem is None
    assert asking.answer == [(4,)]
