"""What the ledger tells of itself and of deliveries to whoever watches from outside."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.queries import query
from sensordrop.core.progress import SessionProgress
from sensordrop.core.vitals import DeliveryReading, LedgerReading, SessionReading

STATEMENT_TIMEOUT_MILLISECONDS = 5_000
"""What takes longer than this is not read: a busy ledger has better things to do."""
MOST_RETRYING = 1_000
"""Files of a delivery waiting for a retry that are looked at for the oldest: more at once means
that everything is in trouble, and then that age is not what anybody waits for."""
MOST_MISMATCHES = 10_000
"""Mismatches of a delivery that are counted: above that nobody asks for the exact number."""


class Vitals:
    """The part of the ledger that telemetry reads."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def ping(self) -> float:
        """Tell how long the ledger takes to answer; see `ports.VitalsLedger.ping`."""
        with self._connections.transaction() as cursor:
            began = time.monotonic()
            cursor.execute(query("ping"))
            cursor.fetchone()
            return time.monotonic() - began

    def read_vitals(self, daemon_id: int, delivery_ids: Sequence[int]) -> LedgerReading:
        """Read how deliveries stand; see `ports.VitalsLedger.read_vitals`."""
        parameters = {
            "daemon_id": daemon_id,
            "delivery_ids": list(delivery_ids),
            "most_retrying": MOST_RETRYING,
            "most_mismatches": MOST_MISMATCHES,
        }
        counts: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("limit_statements"), {"milliseconds": STATEMENT_TIMEOUT_MILLISECONDS}
            )
            cursor.execute(query("vitals_counts"), parameters)
            for delivery_id, state, files, size_bytes in cursor.fetchall():
                counts[delivery_id][state] = (int(files), int(size_bytes))
            cursor.execute(query("vitals_successes"), parameters)
            successes = dict(cursor.fetchall())
            cursor.execute(query("vitals_sessions"), parameters)
            assert cursor.description is not None
            names = [column.name for column in cursor.description[2:]]
            sessions = {
                delivery_id: SessionReading(
                    started_at=started_at,
                    progress=SessionProgress(**dict(zip(names, values, strict=True))),
                )
                for delivery_id, started_at, *values in cursor.fetchall()
            }
            cursor.execute(query("vitals_queue"), parameters)
            queues = {row[0]: row[1:] for row in cursor.fetchall()}
            cursor.execute(query("vitals_letters"), parameters)
            letters = {row[0]: row[1:] for row in cursor.fetchall()}
            cursor.execute(query("vitals_audit"), parameters)
            audit = cursor.fetchone()
        deliveries = {}
        for delivery_id in delivery_ids:
            uploading, oldest_pending_at, mismatches = queues.get(delivery_id, (0, None, 0))
            waiting, failed, oldest_letter_at = letters.get(delivery_id, (0, 0, None))
            deliveries[delivery_id] = DeliveryReading(
                counts=counts.get(delivery_id, {}),
                uploading=uploading,
                oldest_pending_at=oldest_pending_at,
                last_success_at=successes.get(delivery_id),
                mismatches=mismatches,
                session=sessions.get(delivery_id),
                letters_waiting=waiting,
                letters_failed=failed,
                oldest_letter_at=oldest_letter_at,
            )
        return LedgerReading(
            deliveries=deliveries,
            audit_behind_seconds=None if audit is None else float(audit[0]),
        )
