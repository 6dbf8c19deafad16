"""What people set over the configuration: limits, and what else may be set while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.queries import clients_of, query
from sensordrop.core.controls import PAUSED, Control, ControlKind
from sensordrop.ports.records import SettingInForce
from sensordrop.ports.telling import PastControl


class Controls:
    """The part of the ledger that a running program asks once a second."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def controls(self, daemon_id: int, delivery_ids: Sequence[int]) -> list[Control]:
        """Give what holds for a program and its deliveries; see `ports.Ledger.controls`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("controls"), {"daemon_id": daemon_id, "delivery_ids": list(delivery_ids)}
            )
            return [control_of(row) for row in cursor.fetchall()]

    def set_control(
        self,
        kind: ControlKind,
        value: str | None,
        *,
        station: str,
        delivery: str | None,
        set_by: str,
        for_seconds: float | None = None,
        reason: str = "",
        clients: Sequence[str] | None = None,
    ) -> bool:
        """Set something, or let the configuration hold again; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("station_place" if delivery is None else "delivery_place"),
                {"station": station, "delivery": delivery, "clients": clients_of(clients)},
            )
            row = cursor.fetchone()
            if row is None:
                return False
            what = {
                "kind": kind.value,
                "station_id": row[0],
                "delivery_id": row[1],
                "set_by": set_by,
            }
            cursor.execute(query("end_control"), what)
            if value is not None:
                how_long = {"value": value, "reason": reason, "for_seconds": for_seconds}
                cursor.execute(query("set_control"), what | how_long)
            return True

    def end_control(self, control: Control, ended_by: str) -> None:
        """End something that was done; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("end_done_control"),
                {
                    "kind": control.kind.value,
                    "delivery_id": control.delivery_id,
                    "set_at": control.set_at,
                    "ended_by": ended_by,
                },
            )

    def pause_delivery(self, delivery_id: int, *, set_by: str, reason: str) -> None:
        """Pause a delivery until somebody resumes it; see `ports.Ledger.pause_delivery`."""
        what = {
            "kind": ControlKind.PAUSE.value,
            "station_id": None,
            "delivery_id": delivery_id,
            "set_by": set_by,
        }
        with self._connections.transaction() as cursor:
            cursor.execute(query("end_control"), what)
            how_long = {"value": PAUSED, "reason": reason, "for_seconds": None}
            cursor.execute(query("set_control"), what | how_long)

    def control_history(
        self,
        kind: ControlKind,
        station: str,
        *,
        most: int,
        clients: Sequence[str] | None = None,
    ) -> list[PastControl]:
        """Tell who set what; see `ports.StoryLedger.control_history`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("control_history"),
                {
                    "kind": kind.value,
                    "station": station,
                    "most": most,
                    "clients": clients_of(clients),
                },
            )
            return [
                PastControl(
                    delivery=delivery, value=value, reason=reason, set_by=set_by, set_at=set_at,
                    until=until, ended_by=ended_by, ended_at=ended_at,
                )
                for delivery, value, reason, set_by, set_at, until, ended_by, ended_at
                in cursor.fetchall()
            ]  # fmt: skip

    def settings_in_force(
        self, kind: ControlKind, station: str, *, clients: Sequence[str] | None = None
    ) -> list[SettingInForce]:
        """Tell what is configured and what was set over it; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("settings_in_force"),
                {"kind": kind.value, "station": station, "clients": clients_of(clients)},
            )
            return [
                SettingInForce(
                    delivery=delivery,
                    configured=configured,
                    control=None if rest[0] is None else control_of(rest),
                )
                for delivery, configured, *rest in cursor.fetchall()
            ]


def control_of(row: Sequence[Any]) -> Control:
    """Make a control of a row: kind, delivery, value, reason, who, when, until."""
    kind, delivery_id, value, reason, set_by, set_at, until = row
    return Control(
        kind=ControlKind(kind),
        delivery_id=delivery_id,
        value=value,
        reason=reason,
        set_by=set_by,
        set_at=set_at,
        until=until,
    )
