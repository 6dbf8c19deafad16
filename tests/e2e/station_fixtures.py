"""Fixtures for tests that drive the real `sensordropd` process, wherever they stand. See daemon.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from daemon import Station, database_url, settle_accounts, short_socket_folder
from s3_servers import S3Server, running


@pytest.fixture(scope="session")
def moto(tmp_path_factory) -> Iterator[S3Server]:
    """Give moto's S3 server: it honours conditional puts. Each test makes its own bucket."""
    with running("moto", tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory) -> Iterator[S3Server]:
    """Give rclone's S3 server: it checks signatures and Content-MD5."""
    with running("rclone", tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def ledger_url(postgres, postgres_major, database) -> Iterator[str]:
    """Give the URL of an empty database of this test's own, for a configuration."""
    name = dict(word.split("=", 1) for word in database.split())["dbname"]
    with short_socket_folder(postgres(postgres_major).socket_directory) as folder:
        yield database_url(folder, name)


@pytest.fixture
def make_station(request, tmp_path) -> Iterator[Callable[..., Station]]:
    """Give a function that makes stations; all their processes end with the test.

    `make_station(moto)` has a database of its own on the shared PostgreSQL,
    `make_station(moto, database="embedded")` one that the daemon runs itself.
    """
    made: list[Station] = []
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def make(server: S3Server, *, database: str | None = None, **options) -> Station:
            if database is None:
                database = request.getfixturevalue("ledger_url")
            folder = options.pop("folder", None) or tmp_path / f"station{next(numbers)}"
            station = Station(folder, server=server, database=database, **options)
            stack.callback(station.close)
            station.bucket.make()
            made.append(station)
            return station

        yield make


@pytest.fixture
def station(make_station, moto) -> Iterator[Station]:
    """Give a station on moto with the usual delivery `card`, not started.

    After the test the daemon is stopped in order, and what must always hold is asserted.
    """
    made: Station = make_station(moto)
    made.configure()
    made.delivery()
    yield made
    settle_accounts(made)


@pytest.fixture
def rclone_station(make_station, rclone) -> Iterator[Station]:
    """Give the same on rclone."""
    made: Station = make_station(rclone)
    made.configure()
    made.delivery()
    yield made
    settle_accounts(made)
