"""What only runs by hand ask of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.enrollment import (
    COPY_BYTES,
    ChunkReader,
    rule_parameters,
    running_session,
)
from sensordrop.adapters.ledger.queries import query
from sensordrop.adapters.ledger.work import storable
from sensordrop.ports.batch import DeliveryReport, DryRun, LastSettings, LeftToDo
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.records import EnrollRules
from sensordrop.ports.telling import SessionTrouble

MOST_CLASSES = 50
"""Kinds of errors that are told: there are hardly more."""
MOST_HOLDERS = 16
"""Connections that are remembered: two threads ask, and each begins one anew when it is lost."""
NO_DELIVERY = -1
"""Nothing is on the books of a delivery that the ledger does not know yet."""


class Runs:
    """The part of the ledger that runs by hand need beside what daemons do; `ports.BatchLedger`."""

    def __init__(self, connections: Connections, *, origin: str, started_by: str) -> None:
        self._connections = connections
        self._opener = {"origin": origin, "started_by": started_by}
        self._holders: tuple[tuple[int, datetime], ...] = ()
        """Connections of this run that may have hold of its folder: number, and server's start."""

    def hold_run(self, folder: str) -> bool:
        """Take hold of a folder; see `ports.BatchLedger.hold_run`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("hold_run"),
                {
                    "folder": storable(folder),
                    "pids": [pid for pid, _ in self._holders],
                    "server_starts": [start for _, start in self._holders],
                },
            )
            row = cursor.fetchone()
            assert row is not None
            held, pid, server_start = row
        if held and (pid, server_start) not in self._holders:
            # Tuples, exchanged as a whole: several threads ask.
            self._holders = (*self._holders, (pid, server_start))[-MOST_HOLDERS:]
        return bool(held)

    def looked_after(self, delivery_id: int) -> bool:
        """Tell whether a living daemon has this delivery; see `ports.BatchLedger`."""
        return bool(self._value("looked_after_by", delivery_id=delivery_id))

    def ever_looked_after(self, delivery_id: int) -> bool:
        """Tell whether a daemon ever had this delivery; see `ports.BatchLedger`."""
        return bool(self._value("ever_looked_after", delivery_id=delivery_id))

    def left_to_do(self, delivery_id: int) -> LeftToDo:
        """Tell what is left of a delivery; see `ports.BatchLedger.left_to_do`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("left_to_do"), {"delivery_id": delivery_id})
            row = cursor.fetchone()
            assert row is not None
            return LeftToDo(any=row[0], to_be_had=row[1])

    def delivery_report(self, delivery_id: int) -> DeliveryReport:
        """Tell what a daemon published of a delivery; see `ports.BatchLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("delivery_report"), {"delivery_id": delivery_id})
            row = cursor.fetchone()
        if row is None:
            return DeliveryReport()
        state, reason, settling, swept_at, problem = row
        return DeliveryReport(
            state=state, reason=reason, settling=settling, swept_at=swept_at, sweep_problem=problem
        )

    def begin_session(self, delivery_id: int) -> int:
        """Give the delivery's running session; see `ports.BatchLedger.begin_session`."""
        with self._connections.transaction() as cursor:
            return running_session(cursor, delivery_id, self._opener)[0]

    def forget_own_pause(self, delivery_id: int, *, set_by: str, ended_by: str) -> None:
        """End a pause that a program set; see `ports.BatchLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("forget_own_pause"),
                {"delivery_id": delivery_id, "set_by": set_by, "ended_by": ended_by},
            )

    def last_settings(self, delivery_id: int) -> LastSettings | None:
        """Give what a delivery was last used with; see `ports.BatchLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("newest_settings"), {"delivery_id": delivery_id})
            row = cursor.fetchone()
        return None if row is None else LastSettings(configuration=row[0], station=row[1])

    def failed_now(self, delivery_id: int) -> list[SessionTrouble]:
        """Count what is in quarantine, by class; see `ports.BatchLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("failed_now"), {"delivery_id": delivery_id, "most": MOST_CLASSES})
            return [
                SessionTrouble(error_class=name, files=files, path=path)
                for name, files, path in cursor.fetchall()
            ]

    def dry_run(
        self,
        delivery_id: int | None,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
    ) -> DryRun:
        """Compare a listing with the books and change nothing; see `ports.BatchLedger`."""
        about = NO_DELIVERY if delivery_id is None else delivery_id
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_listing_tables"))
            cursor.copy_expert(query("copy_listing"), ChunkReader(iter(chunks)), COPY_BYTES)
            cursor.execute("ANALYZE listing")
        with self._connections.transaction() as cursor:
            cursor.execute(query("compare_listing"), rule_parameters(about, rules, wall_ns))
            cursor.execute(query("work_totals"), {"since_ns": None, "until_ns": None})
            row = cursor.fetchone()
            assert row is not None
            new, changed, ignored, unsettled, _, _ = row
            cursor.execute(query("work_sizes"))
            (size_bytes,) = cursor.fetchone() or (0,)
        return DryRun(
            new=new, changed=changed, ignored=ignored, unsettled=unsettled, size_bytes=size_bytes
        )

    def _value(self, query_name: str, **parameters: Any) -> object:
        with self._connections.transaction() as cursor:
            cursor.execute(query(query_name), parameters)
            row = cursor.fetchone()
            assert row is not None, f"{query_name} gives a row"
            value: object = row[0]
            return value
