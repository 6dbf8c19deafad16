"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from hypothesis import settings

from postgres_versions import MAJORS
from sensordrop.adapters.ledger import embedded
from sensordrop.adapters.ledger.embedded import EmbeddedPostgres, find_binaries
from sensordrop.adapters.ledger.ledger import PostgresLedger

# A shell starts background jobs with SIGINT ignored, and programs inherit that. The tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: a busy machine is no defect. Where CI says so, the examples are the same in every
# run, so that a red run can be repeated; elsewhere each run looks at new ones.
settings.register_profile("everyday", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "everyday")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory) -> Iterator[Callable[[int], EmbeddedPostgres]]:
    """Give a running server of each version that is asked for; all end with the session."""
    running: dict[int, EmbeddedPostgres] = {}
    patch = pytest.MonkeyPatch()

    def server(major: int) -> EmbeddedPostgres:
        if major not in running:
            sets = [each for each in find_binaries() if each.major == major]
            patch.setattr(embedded, "find_binaries", lambda: sets)
            made = EmbeddedPostgres(tmp_path_factory.mktemp(f"postgres{major}"))
            made.start()
            patch.undo()
            running[major] = made
        return running[major]

    yield server
    for made in running.values():
        made.stop()


@pytest.fixture
def postgres_major() -> int:
    """Say which version `database` is on: the newest, unless a test asks for others."""
    return MAJORS[-1]


@pytest.fixture
def database(postgres, postgres_major) -> Iterator[str]:
    """Give the address of a database of its own for each test."""
    server = postgres(postgres_major)
    name = f"t{uuid.uuid4().hex}"
    connection = psycopg2.connect(server.dsn)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(f"CREATE DATABASE {name}")
    yield psycopg2.extensions.make_dsn(server.dsn, dbname=name)
    cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()


@pytest.fixture
def ledger(database: str) -> Iterator[PostgresLedger]:
    """Give a ledger with its tables made, on a database of its own."""
    made = PostgresLedger(lambda: database)
    made.migrate()
    yield made
    made.close()
