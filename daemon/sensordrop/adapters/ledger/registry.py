"""Who works on the ledger and what is configured: daemons, deliveries, configurations."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class
from psycopg2.extras import Json

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.outbox import (
    bind_endpoints,
    tell_of_quarantine,
    tell_session_ended,
)
from sensordrop.adapters.ledger.queries import query
from sensordrop.ports.records import (
    ConfigurationState,
    DeliveryBinding,
    Registration,
    WrittenConfiguration,
)

SUSPECT_CRASHES = 2
"""After this many crashes in which a file was in work it is claimed alone."""
CRASH_LIMIT = 5
"""After this many, three of them alone, it is quarantined."""
DEAD_AFTER_SECONDS = 60.0
"""A daemon whose heartbeat is older than this is dead: six heartbeats missed."""


class Registry:
    """The part of the ledger that says who is working and on what."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def register(
        self,
        *,
        station: str,
        instance: UUID,
        origin: str,
        version: str,
        bindings: Sequence[DeliveryBinding],
        daemon_configuration: dict[str, object],
        crashed: bool,
        in_work: Sequence[int] | None = None,
    ) -> Registration:
        """Write this program and its deliveries down; see `ports.Ledger.register`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("hold_registrations"))
            station_id = _one(cursor, "upsert_station", name=station)
            cursor.execute(query("predecessors"), {"instance": str(instance)})
            predecessors = [row[0] for row in cursor.fetchall()]
            taken_back = _take_back(cursor, predecessors, charge=int(crashed), in_work=in_work)
            cursor.execute(query("retired_at_work"), {"station_id": station_id})
            for (delivery_id,) in cursor.fetchall():
                _end_work(cursor, delivery_id)  # a reload had left it to daemons that died
            daemon_id = _one(
                cursor,
                "insert_daemon",
                station_id=station_id,
                instance=str(instance),
                origin=origin,
                version=version,
                pid=os.getpid(),
            )
            deliveries = {
                binding.name: self._bind(cursor, station_id, binding) for binding in bindings
            }
            cursor.execute(
                query("note_deliveries"),
                {"daemon_id": daemon_id, "delivery_ids": list(deliveries.values())},
            )
            if origin == "daemon":
                ours = {"station_id": station_id, "delivery_ids": list(deliveries.values())}
                cursor.execute(query("disable_missing_deliveries"), ours)
                cursor.execute(query("await_first_sweep"), ours)
            _remember(cursor, station_id, None, daemon_configuration)
        return Registration(
            daemon_id=daemon_id, delivery_ids=deliveries, claims_taken_back=taken_back
        )

    def rebind(
        self,
        *,
        daemon_id: int,
        bindings: Sequence[DeliveryBinding],
        daemon_configuration: dict[str, object],
    ) -> dict[str, int]:
        """Write down what this program is configured to from now on; see `ports.Ledger.rebind`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("hold_registrations"))
            station_id = _one(cursor, "station_of_daemon", daemon_id=daemon_id)
            deliveries = {
                binding.name: self._bind(cursor, station_id, binding, working=daemon_id)
                for binding in bindings
            }
            cursor.execute(
                query("note_deliveries"),
                {"daemon_id": daemon_id, "delivery_ids": list(deliveries.values())},
            )
            cursor.execute(
                query("disable_missing_deliveries"),
                {"station_id": station_id, "delivery_ids": list(deliveries.values())},
            )
            _remember(cursor, station_id, None, daemon_configuration)
            cursor.execute(query("configuration_taken"), {"daemon_id": daemon_id})
        return deliveries

    def refuse_configuration(self, daemon_id: int, problem: str) -> None:
        """Write down that another configuration was not taken; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("configuration_refused"), {"daemon_id": daemon_id, "problem": problem}
            )

    def configuration_in_force(self, station: str) -> WrittenConfiguration | None:
        """Give what a station's running daemon works with, without secrets; None: none runs."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("configuration_in_force"), {"station": station})
            rows: dict[str | None, dict[str, object]] = dict(cursor.fetchall())
        daemon = rows.pop(None, None)
        if daemon is None:
            return None
        named = {name: configuration for name, configuration in rows.items() if name is not None}
        return WrittenConfiguration(daemon=daemon, deliveries=named)

    def configurations(self, station: str | None) -> list[ConfigurationState]:
        """Tell how the living daemons of a station (None: of all) stand to their configuration."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("configurations_of"), {"station": station})
            return [
                ConfigurationState(
                    station=name, since=since, refused_at=refused_at, problem=problem
                )
                for name, since, refused_at, problem in cursor.fetchall()
            ]

    def finish_retired(self, delivery_id: int) -> None:
        """End what a retired delivery had left under way; see `ports.Ledger.finish_retired`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("retired_delivery"), {"delivery_id": delivery_id})
            if cursor.fetchone() is not None:
                _end_work(cursor, delivery_id)

    def heartbeat(self, daemon_id: int) -> bool:
        """Say that this program is alive; see `ports.Ledger.heartbeat`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("heartbeat"), {"daemon_id": daemon_id})
            return cursor.fetchone() is not None

    def take_back_dead(self) -> int:
        """Free the claims of programs that died elsewhere; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("dead_daemons"), {"dead_after_seconds": DEAD_AFTER_SECONDS})
            dead = [row[0] for row in cursor.fetchall()]
            return _take_back(cursor, dead, charge=0) if dead else 0

    def end(self, daemon_id: int) -> None:
        """Write down that this program ended in order; its claims are free at once."""
        with self._connections.transaction() as cursor:
            _take_back(cursor, [daemon_id], charge=0)

    def _bind(
        self,
        cursor: Cursor,
        station_id: int,
        binding: DeliveryBinding,
        *,
        working: int | None = None,
    ) -> int:
        """Give the row of a delivery. `working`: the daemon that may have files of it in work."""
        client_id = _one(cursor, "upsert_client", client=binding.client)
        project_id = _one(cursor, "upsert_project", client_id=client_id, project=binding.project)
        cycle_id = _one(cursor, "upsert_cycle", project_id=project_id, cycle=binding.cycle)
        destination_id = _one(
            cursor,
            "upsert_destination",
            endpoint_url=binding.endpoint_url or "",
            bucket_name=binding.bucket_name,
            aws_region=binding.aws_region,
        )
        settings: dict[str, Any] = {
            "name": binding.name,
            "shared": binding.shared,
            "station_id": station_id,
            "owner_id": None if binding.shared else station_id,
            "client_id": client_id,
            "project_id": project_id,
            "cycle_id": cycle_id,
            "destination_id": destination_id,
            "s3_prefix": binding.s3_prefix,
            "local_directory": binding.local_directory,
            "sensor_level": binding.sensor_level,
            "enabled": binding.enabled,
            "selection_digest": _digest(binding.selection),
        }
        cursor.execute(query("current_delivery"), settings)
        row = cursor.fetchone()
        target = (client_id, project_id, cycle_id, destination_id, binding.s3_prefix)
        if row is not None and tuple(row[1:6]) == target:
            delivery_id: int = row[0]
            cursor.execute(query("update_delivery"), {**settings, "delivery_id": delivery_id})
            if row[6] != settings["selection_digest"]:
                cursor.execute(query("forget_ignored"), {"delivery_id": delivery_id})
        else:
            if row is not None:
                _retire(cursor, row[0], working)
            if binding.shared:
                # It was this station's own until now. The other way round the row stays: it may
                # be shared by other stations still.
                cursor.execute(query("current_delivery"), {**settings, "shared": False})
                if own := cursor.fetchone():
                    _retire(cursor, own[0], working)
                    row = row or own
            delivery_id = _one(cursor, "insert_delivery", **settings)
            if row is not None:
                cursor.execute(
                    query("hand_on_controls"), {"delivery_id": delivery_id, "former_id": row[0]}
                )
        bind_endpoints(
            cursor, delivery_id, binding.endpoints, former_id=None if row is None else row[0]
        )
        _remember(cursor, station_id, delivery_id, binding.configuration)
        return delivery_id


def _retire(cursor: Cursor, delivery_id: int, working: int | None) -> None:
    """End a delivery's row: its waiting files and its session end with it.

    What `working`, the daemon, has in work goes on to its end there; it calls `finish_retired`.
    """
    cursor.execute(query("retire_delivery"), {"delivery_id": delivery_id})
    if working is None:
        _end_work(cursor, delivery_id)
        return
    cursor.execute(query("retire_pending"), {"delivery_id": delivery_id, "working": working})


def _end_work(cursor: Cursor, delivery_id: int) -> None:
    """End what a retired delivery still had to do, and its session."""
    cursor.execute(query("retire_pending"), {"delivery_id": delivery_id, "working": None})
    cursor.execute(query("session_to_finish"), {"delivery_id": delivery_id})
    if running := cursor.fetchone():
        cursor.execute(query("note_no_receipt"), {"session_id": running[0]})
        cursor.execute(query("finish_session"), {"session_id": running[0]})
        counts = cursor.fetchone()
        if counts is not None and counts[0]:
            tell_session_ended(cursor, delivery_id, running[0])


def _take_back(
    cursor: Cursor,
    daemon_ids: Sequence[int],
    *,
    charge: int,
    in_work: Sequence[int] | None = None,
) -> int:
    # Ended first: whoever still claims in such a name is waited for, and nobody does afterwards.
    cursor.execute(query("end_daemons"), {"daemon_ids": list(daemon_ids)})
    cursor.execute(query("forget_breakers"), {"daemon_ids": list(daemon_ids)})
    cursor.execute(
        query("take_back_claims"),
        {
            "daemon_ids": list(daemon_ids),
            "charge": charge,
            "in_work": None if in_work is None else list(in_work),
        },
    )
    taken_back = cursor.rowcount
    if charge:
        cursor.execute(query("quarantine_crashers"), {"crash_limit": CRASH_LIMIT})
        tell_of_quarantine(cursor, [row[0] for row in cursor.fetchall()])
    return taken_back


def _remember(
    cursor: Cursor, station_id: int, delivery_id: int | None, configuration: dict[str, object]
) -> None:
    key = {"station_id": station_id, "delivery_id": delivery_id}
    digest = _digest(configuration)
    cursor.execute(query("newest_configuration"), key)
    row = cursor.fetchone()
    if row is None or row[0] != digest:
        cursor.execute(
            query("insert_configuration"),
            {**key, "digest": digest, "configuration": Json(configuration)},
        )


def _digest(configuration: dict[str, object]) -> str:
    text = json.dumps(configuration, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _one(cursor: Cursor, query_name: str, /, **parameters: Any) -> int:
    cursor.execute(query(query_name), parameters)
    row = cursor.fetchone()
    assert row is not None, f"{query_name} gives a row"
    number: int = row[0]
    return number
