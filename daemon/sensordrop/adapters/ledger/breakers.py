"""The breakers of programs that work, for others to see."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extras import Json

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.queries import clients_of, query
from sensordrop.adapters.ledger.work import storable
from sensordrop.ports.records import BreakerState, OpenBreaker


class BreakerBoard:
    """The part of the ledger that says what stops all uploads of a scope."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def publish_breakers(self, daemon_id: int, states: Sequence[BreakerState]) -> None:
        """Say what became of a program's breakers; see `ports.Ledger.publish_breakers`."""
        opened = [
            {
                "scope": state.scope.value,
                "target": state.target,
                "error_class": state.failure.error_class,
                "problem": storable(state.failure.message),
                "hint": storable(state.failure.hint),
                "failures": state.failures,
                "probe_in_seconds": state.probe_in_seconds,
            }
            for state in states
            if state.failure is not None
        ]
        closed = [
            {"scope": state.scope.value, "target": state.target}
            for state in states
            if state.failure is None
        ]
        with self._connections.transaction() as cursor:
            for name, rows in (("publish_breakers", opened), ("close_breakers", closed)):
                if rows:
                    cursor.execute(query(name), {"daemon_id": daemon_id, "states": Json(rows)})

    def open_breakers(
        self, station: str | None, *, clients: Sequence[str] | None = None
    ) -> list[OpenBreaker]:
        """Give what stops uploads right now; see `ports.Ledger.open_breakers`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("open_breakers"), {"station": station, "clients": clients_of(clients)}
            )
            return [
                OpenBreaker(
                    station=name, scope=scope, target=target, error_class=error_class,
                    problem=problem, hint=hint, failures=failures, opened_at=opened_at,
                    probe_at=probe_at,
                )
                for name, scope, target, error_class, problem, hint, failures, opened_at, probe_at
                in cursor.fetchall()
            ]  # fmt: skip
