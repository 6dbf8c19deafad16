"""Opens the ledger that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from sensordrop.adapters.ledger.embedded import EmbeddedPostgres
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.processes import EmbeddedServerError
from sensordrop.adapters.service_user import stand_in_for_root
from sensordrop.config import DaemonConfig
from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.ports.life import StopFlag

_log = structlog.get_logger()


@contextmanager
def open_ledger(
    config: DaemonConfig,
    *,
    directory: Path,
    stop: StopFlag | None = None,
    origin: str = "daemon",
    started_by: str = "sensordropd",
    as_service: bool = False,
) -> Iterator[PostgresLedger]:
    """Give the configured ledger; an embedded one is started, and ends with its last user.

    `directory` is where an embedded PostgreSQL lives. Raises EmbeddedServerError where it can't
    be started. A database elsewhere is not connected to before its first use. With `as_service`,
    root, turned away by a PostgreSQL that knows its users by name, comes as the service's user.
    """
    if config.database != "embedded":
        ledger = PostgresLedger(
            lambda: config.database,
            stand_in=stand_in_for_root if as_service else None,
            origin=origin,
            started_by=started_by,
        )
        try:
            yield ledger
        finally:
            ledger.close()
        return
    with EmbeddedPostgres(
        directory, log=lambda text: _log.info("embedded_postgres", message=text), stop=stop
    ) as server:
        ledger = PostgresLedger(
            lambda: server.dsn,
            revive=lambda: _ensure(server),
            origin=origin,
            started_by=started_by,
        )
        try:
            yield ledger
        finally:
            ledger.close()


def _ensure(server: EmbeddedPostgres) -> None:
    try:
        server.ensure_running()
    except EmbeddedServerError as error:
        raise LedgerUnavailableError(str(error)) from error
