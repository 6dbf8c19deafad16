"""sql/schema.sql, for people, is what sql/migrations/ builds."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import pairwise, takewhile
from pathlib import Path

import psycopg2

from postgres_versions import MAJORS
from sensordrop.adapters.ledger.embedded import find_binaries
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.ledger.queries import _all as all_queries
from sensordrop.adapters.ledger.views import apply_views

ROOT = Path(__file__).parents[2]


def dump(dsn: str, server) -> str:
    """Give the schema as pg_dump tells it, without what differs from call to call."""
    newest = max(find_binaries(), key=lambda each: each.major)
    name = psycopg2.extensions.parse_dsn(dsn)["dbname"]
    host = psycopg2.extensions.parse_dsn(server.dsn)["host"]  # perhaps a descriptor of ours
    told = subprocess.run(
        [newest.folder / "pg_dump", "--schema-only", "--no-owner", name],
        env={
            **os.environ,
            "PGHOST": host,
            "PGUSER": "sensordrop",
        },
        capture_output=True,
        text=True,
        check=True,
        pass_fds=[int(host.rpartition("/")[2])] if host.startswith("/proc/") else [],
    ).stdout
    return re.sub(r"^(--.*|\\(un)?restrict .*)$", "", told, flags=re.MULTILINE)


def test_the_schema_is_equal_to_all_migrations(postgres, database):
    server = postgres(MAJORS[-1])
    migrated = PostgresLedger(lambda: database)
    migrated.migrate()
    by_migrations = dump(database, server)
    migrated.close()
    other = f"{psycopg2.extensions.parse_dsn(database)['dbname']}_schema"
    connection = psycopg2.connect(server.dsn)
    connection.autocommit = True
    connection.cursor().execute(f"CREATE DATABASE {other}")
    target = psycopg2.extensions.make_dsn(server.dsn, dbname=other)
    with psycopg2.connect(target) as made, made.cursor() as cursor:
        cursor.execute((ROOT / "sql" / "schema.sql").read_text(encoding="utf-8"))
    made.close()
    reader = PostgresLedger(lambda: target)
    apply_views(reader._connections)
    reader.close()
    by_schema = dump(target, server)
    connection.cursor().execute(f"DROP DATABASE {other}")
    connection.close()
    assert "CREATE TABLE public.file_uploads" in by_migrations
    assert "CREATE VIEW grafana.files_per_project" in by_migrations
    assert by_schema == by_migrations


def test_every_query_has_a_sentence_and_every_sentence_ends():
    assert len(all_queries()) > 50
    for name, sql in all_queries().items():
        told = [*takewhile(lambda line: line.startswith("-- "), sql.splitlines())]
        assert told, f"{name} has no sentence"
        assert told[-1].endswith("."), f"{name}: its sentence has no end"


def test_every_table_and_index_of_the_schema_has_a_sentence():
    lines = (ROOT / "sql" / "schema.sql").read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for above, line in pairwise(lines)
        if re.match(r"CREATE (UNIQUE )?(TABLE|INDEX|TYPE) ", line) and not above.startswith("-- ")
    ]
    assert bare == []
