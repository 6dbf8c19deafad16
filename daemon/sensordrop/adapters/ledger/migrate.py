"""Brings the ledger's schema up to what this program needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.core.failure import LedgerRefusedError

_FILE_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")

OLDEST_SERVER = 140_000
"""PostgreSQL 14, in the server's own numbering."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One step of the schema's history."""

    version: int
    name: str
    sql: str


def migrations(folder: Traversable | None = None) -> tuple[Migration, ...]:
    """Read all migrations in order; `folder` is the packaged sql/migrations/ unless given.

    Raises ValueError where numbers are missing or doubled: that is a mistake in the program.
    """
    folder = folder or files("sensordrop").joinpath("sql", "migrations")
    found = []
    for entry in folder.iterdir():
        if match := _FILE_NAME.match(entry.name):
            sql = entry.read_text(encoding="utf-8")
            found.append(Migration(version=int(match.group(1)), name=match.group(2), sql=sql))
    found.sort(key=lambda m: m.version)
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are not numbered 1, 2, 3, …: {[m.version for m in found]}")
    return tuple(found)


def migrate(
    connections: Connections, known: Sequence[Migration] | None = None
) -> tuple[Migration, ...]:
    """Apply what is missing, each migration in its own transaction, and give what was applied.

    Programs that start together wait for each other (advisory lock). Blocks until done. Safe to
    repeat. Raises LedgerRefusedError where the ledger is newer than this program, where the
    server is too old, or where this role may not create tables; LedgerUnavailableError where it
    can't be reached.
    """
    known = migrations() if known is None else known
    applied: list[Migration] = []
    for migration in (None, *known):  # None: the table of migrations itself, and the checks
        with connections.transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('sensordrop.migrate'))")
            try:
                present = _present(cursor)
                _refuse_newer(present, known)
                if migration is not None and migration.version not in present:
                    cursor.execute(migration.sql)
                    cursor.execute(
                        "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)",
                        (migration.version, migration.name),
                    )
                    applied.append(migration)
            except psycopg2.errors.InsufficientPrivilege as error:
                raise LedgerRefusedError(
                    f"the ledger's tables can't be made: {str(error).strip().splitlines()[0]}. "
                    "Let the role own its database "
                    "(CREATE DATABASE sensordrop OWNER sensordrop)."
                ) from error
    return tuple(applied)


def check(connections: Connections) -> None:
    """See that the ledger is as this program needs it, and change nothing.

    Raises LedgerRefusedError where it is newer, older, or has no tables at all;
    LedgerUnavailableError where it can't be reached.
    """
    known = migrations()
    with connections.transaction() as cursor:
        cursor.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
        row = cursor.fetchone()
        present = _present(cursor) if row is not None and row[0] else set()
    _refuse_newer(present, known)
    if len(present) < len(known):
        state = (
            f"the ledger is at version {max(present)}, this program needs {known[-1].version}"
            if present
            else "the ledger has no tables yet"
        )
        raise LedgerRefusedError(f"{state}: start sensordropd on it, or run sensordrop init-db")


def _present(cursor: Cursor) -> set[int]:
    cursor.execute("SHOW server_version_num")
    row = cursor.fetchone()
    assert row is not None
    if int(row[0]) < OLDEST_SERVER:
        raise LedgerRefusedError(
            f"the ledger's server is PostgreSQL {int(row[0]) // 10000}; 14 or newer is needed"
        )
    cursor.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
    row = cursor.fetchone()
    assert row is not None
    if not row[0]:
        cursor.execute(
            "CREATE TABLE schema_migrations ("
            " version integer PRIMARY KEY, name text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
    cursor.execute("SELECT version FROM schema_migrations")
    return {row[0] for row in cursor.fetchall()}


def _refuse_newer(present: set[int], known: Sequence[Migration]) -> None:
    newest = known[-1].version if known else 0
    if present and max(present) > newest:
        raise LedgerRefusedError(
            f"the ledger is newer than this program: it has migration {max(present)}, "
            f"this program knows {newest}. Upgrade sensordrop on this host, or restore a backup "
            "of the ledger from before the upgrade."
        )
