"""The views for dashboards, in the schema `grafana`, and the role that may read them.

A view is text, not data: its file in sql/views/ says how it is now, and it has no history. Where a
text changed, all are made anew in one transaction, so that whoever reads sees the old or the new.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.queries import query
from sensordrop.core.failure import LedgerRefusedError

READER = "sensordrop_grafana"
"""The role that may read the views and nothing else."""
NO_READER = (
    f"the role {READER}, which may read the dashboards' views, is missing, and this ledger's role "
    f"may not make roles. As one that may: CREATE ROLE {READER} NOLOGIN; then run sensordrop "
    "init-db again"
)


def views() -> dict[str, str]:
    """Read the packaged sql/views/: the text of each view by its name, sorted."""
    folder = files("sensordrop").joinpath("sql", "views")
    texts = {
        entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }
    return dict(sorted(texts.items()))


def apply_views(connections: Connections, known: dict[str, str] | None = None) -> bool:
    """Make the views what this program knows, and let the reader read them; tell if any changed.

    After `migrate`. Programs that start together wait for each other. Safe to repeat; changes
    nothing where all is as it should be. Raises LedgerRefusedError where something else hangs on
    a view that must be made anew, or where this role may not make a schema;
    LedgerUnavailableError where the ledger can't be reached.
    """
    known = views() if known is None else known
    wanted = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in known.items()}
    with connections.transaction() as cursor:
        cursor.execute(query("lock_migrations"))
        try:
            cursor.execute(query("applied_views"))
            there = dict(cursor.fetchall())
            if there != wanted:
                _make_anew(cursor, list(there), known, wanted)
            _let_read(cursor, anew=there != wanted)
        except psycopg2.errors.DependentObjectsStillExist as error:
            raise LedgerRefusedError(
                f"the views of schema grafana can't be made anew: {_told(error)}. Drop what was "
                "built on them, or build it on a copy, and start again"
            ) from error
        except (psycopg2.errors.DuplicateTable, psycopg2.errors.InsufficientPrivilege) as error:
            raise LedgerRefusedError(
                f"the views of schema grafana can't be made: {_told(error)}. That schema is "
                "sensordrop's own: let the ledger's role own it and its database, with nothing "
                "else of these names in it"
            ) from error
    return there != wanted


def reader_is_missing(connections: Connections) -> bool:
    """Tell whether the role that reads the views is not there: an administrator must make it."""
    with connections.transaction() as cursor:
        return not _reader(cursor)[0]


def _make_anew(
    cursor: Cursor, former: list[str], known: dict[str, str], wanted: dict[str, str]
) -> None:
    cursor.execute(query("make_view_schema"))
    for name in former:
        cursor.execute(f'DROP VIEW IF EXISTS grafana."{name}"')
    for text in known.values():
        cursor.execute(text)
    cursor.execute(query("forget_applied_views"))
    for name, digest in wanted.items():
        cursor.execute(query("note_applied_view"), {"name": name, "digest": digest})


def _let_read(cursor: Cursor, *, anew: bool) -> None:
    exists, may_make, reads = _reader(cursor)
    if not exists and may_make:
        cursor.execute("SAVEPOINT role")
        try:
            cursor.execute(f"CREATE ROLE {READER} NOLOGIN")
        except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
            # Roles are the server's, not the database's: another ledger's program was quicker.
            cursor.execute("ROLLBACK TO SAVEPOINT role")
        exists = True
    if exists and (anew or not reads):
        cursor.execute(query("let_reader_read"))


def _reader(cursor: Cursor) -> tuple[bool, bool, bool]:
    """Tell whether the reader exists, whether we may make roles, and whether it reads already."""
    cursor.execute(query("reader"), {"reader": READER})
    row = cursor.fetchone()
    assert row is not None
    exists, may_make, reads = row
    return bool(exists), bool(may_make), bool(reads)


def _told(error: psycopg2.Error) -> str:
    lines = str(error).strip().splitlines()
    return "; ".join(line.removeprefix("DETAIL:").strip() for line in lines[:2])
