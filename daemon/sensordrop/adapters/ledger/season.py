"""Reading a field season as dashboards see it: from the views of schema `grafana`."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.queries import query
from sensordrop.core.season import (
    Amount,
    CycleSensors,
    CycleStore,
    Season,
    SeasonFailure,
    SeasonScope,
    Standing,
)

MOST_SENSORS = 1_000
"""Sensors whose days are read for one overview; of further cycles only the names are. At 190 days
each that is a page of 12 MB with 190,000 boxes: more than anybody looks at."""


class Seasons:
    """The part of the ledger that overviews are made from; see `ports.SeasonLedger`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def season(self, scope: SeasonScope, *, most_failures: int) -> Season:
        """Read a season, all as of one moment; see `ports.SeasonLedger.season`."""
        parameters = {
            "clients": list(scope.clients),
            "projects": list(scope.projects),
            "cycles": list(scope.cycles),
        }
        with self._connections.transaction() as cursor:
            cursor.execute(query("one_moment"))
            at, standings = _standings(cursor, parameters)
            return Season(
                at=at,
                standings=standings,
                stores=_stores(cursor, parameters),
                cycles=_cycles(cursor, parameters),
                failures=_failures(cursor, {**parameters, "most": most_failures}),
            )

    def season_names(self) -> list[tuple[str, str, str]]:
        """Give client, project and cycle of all deliveries; see `ports.SeasonLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("season_names"))
            return [(client, project, cycle) for client, project, cycle in cursor.fetchall()]


def _standings(cursor: Cursor, parameters: dict[str, Any]) -> tuple[datetime, list[Standing]]:
    cursor.execute(query("moment"))
    row = cursor.fetchone()
    assert row is not None
    at: datetime = row[0]
    return at, [Standing(**each) for each in _named(cursor, "season_standings", parameters)]


def _stores(cursor: Cursor, parameters: dict[str, Any]) -> list[CycleStore]:
    cursor.execute(query("season_stores"), parameters)
    found: dict[tuple[str, str, str], dict[str, Amount]] = {}
    for client, project, cycle, file_type, files, size_bytes in cursor.fetchall():
        store = found.setdefault((client, project, cycle), {})
        store[file_type] = Amount(files=files, bytes=size_bytes)
    return [
        CycleStore(client=client, project=project, cycle=cycle, by_type=by_type)
        for (client, project, cycle), by_type in sorted(found.items())
    ]


def _cycles(cursor: Cursor, parameters: dict[str, Any]) -> list[CycleSensors]:
    cursor.execute(query("season_cycles"), parameters)
    left = MOST_SENSORS
    read = []
    for number, (client, project, cycle, sensors) in enumerate(cursor.fetchall()):
        which = {"client": client, "project": project, "cycle": cycle}
        # The newest cycle is read whatever its size: an overview without any would say nothing.
        if sensors > left and number:
            read.append(CycleSensors(**which, sensors={}, left_out=True))
            continue
        left -= sensors
        read.append(CycleSensors(**which, sensors=_days(cursor, which)))
    return read


def _days(cursor: Cursor, which: dict[str, str]) -> dict[str, dict[date, Amount]]:
    cursor.execute(query("season_days"), which)
    found: dict[str, dict[date, Amount]] = {}
    for sensor, day, files, size_bytes, failed in cursor.fetchall():
        found.setdefault(sensor, {})[day] = Amount(files=files, bytes=size_bytes, failed=failed)
    return found


def _failures(cursor: Cursor, parameters: dict[str, Any]) -> list[SeasonFailure]:
    return [SeasonFailure(**each) for each in _named(cursor, "season_failures", parameters)]


def _named(cursor: Cursor, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Give a query's rows by their columns' names."""
    cursor.execute(query(name), parameters)
    assert cursor.description is not None
    columns = [column.name for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
