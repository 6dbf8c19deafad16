"""The ledger as the engine sees it: `ports.Ledger` on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.breakers import BreakerBoard
from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.controls import Controls
from sensordrop.adapters.ledger.enrollment import Enrollment
from sensordrop.adapters.ledger.listed import ListedObjects
from sensordrop.adapters.ledger.migrate import check, migrate
from sensordrop.adapters.ledger.multiparts import Multiparts
from sensordrop.adapters.ledger.outbox import Outbox, tell_of_trouble, tell_session_ended
from sensordrop.adapters.ledger.queries import clients_of, query
from sensordrop.adapters.ledger.receipts import Receipts
from sensordrop.adapters.ledger.registry import Registry
from sensordrop.adapters.ledger.retries import Retries
from sensordrop.adapters.ledger.runs import Runs
from sensordrop.adapters.ledger.season import Seasons
from sensordrop.adapters.ledger.stories import Stories
from sensordrop.adapters.ledger.taking import Takings
from sensordrop.adapters.ledger.verification import Verification
from sensordrop.adapters.ledger.views import NO_READER, apply_views, reader_is_missing
from sensordrop.adapters.ledger.vitals import Vitals
from sensordrop.adapters.ledger.work import Work
from sensordrop.core.model import SweepSummary
from sensordrop.core.progress import SessionProgress
from sensordrop.ports.records import (
    DeliveryCounts,
    DeliveryStatus,
    LedgerHealth,
    SessionReceipt,
    SessionSummary,
)

FOLD_ROWS = 50_000
"""Counter changes folded in one transaction, so that readers never wait for a long one."""


class PostgresLedger(
    Enrollment,
    Work,
    Multiparts,
    Registry,
    Controls,
    ListedObjects,
    Verification,
    Stories,
    BreakerBoard,
    Retries,
    Vitals,
    Seasons,
    Runs,
    Outbox,
    Receipts,
    Takings,
):
    """All parts of the ledger over one set of connections. Safe from every thread."""

    def __init__(
        self,
        dsn: Callable[[], str],
        *,
        revive: Callable[[], None] | None = None,
        stand_in: Callable[[], int | None] | None = None,
        origin: str = "daemon",
        started_by: str = "sensordropd",
    ) -> None:
        connections = Connections(
            dsn, revive=revive, stand_in=stand_in, application_name=started_by
        )
        Enrollment.__init__(self, connections, origin=origin, started_by=started_by)
        Work.__init__(self, connections)
        Multiparts.__init__(self, connections)
        Registry.__init__(self, connections)
        Controls.__init__(self, connections)
        ListedObjects.__init__(self, connections)
        Verification.__init__(self, connections)
        Vitals.__init__(self, connections)
        Stories.__init__(self, connections)
        BreakerBoard.__init__(self, connections)
        Retries.__init__(self, connections, origin=origin, started_by=started_by)
        Seasons.__init__(self, connections)
        Runs.__init__(self, connections, origin=origin, started_by=started_by)
        Outbox.__init__(self, connections)
        Receipts.__init__(self, connections)
        Takings.__init__(self, connections)

    def migrate(self) -> list[str]:
        """Bring the schema and its views up to date and name the migrations that were applied."""
        applied = [f"{m.version:04d}_{m.name}" for m in migrate(self._connections)]
        apply_views(self._connections)
        return applied

    def reader_advice(self) -> str | None:
        """Say what an administrator should do, if the role that reads the views is missing."""
        return NO_READER if reader_is_missing(self._connections) else None

    def check(self) -> None:
        """See that the schema is what this program needs; change nothing. See `migrate.check`."""
        check(self._connections)

    def publish(self, statuses: Sequence[DeliveryStatus]) -> None:
        """Say what deliveries are doing; see `ports.Ledger.publish`."""
        with self._connections.transaction() as cursor:
            for status in statuses:
                cursor.execute(
                    query("publish_status"),
                    {
                        "delivery_id": status.delivery_id,
                        "state": status.state,
                        "reason": status.reason,
                        "settling": status.settling,
                    },
                )

    def tell_trouble(self, delivery_id: int, reason: str) -> None:
        """Have a delivery's trouble told; see `ports.Ledger.tell_trouble`."""
        with self._connections.transaction() as cursor:
            tell_of_trouble(cursor, delivery_id, reason)

    def publish_sweep(self, delivery_id: int, summary: SweepSummary) -> None:
        """Say how a sweep ended; see `ports.Ledger.publish_sweep`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("publish_sweep"),
                {
                    "delivery_id": delivery_id,
                    "started_at": summary.started_at,
                    "complete": summary.complete,
                    "problem": summary.problem,
                    "files": summary.files,
                },
            )

    def has_queued(self, delivery_id: int) -> bool:
        """Tell whether any file of a delivery is not finished; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("queued"), {"delivery_id": delivery_id})
            row = cursor.fetchone()
            assert row is not None
            return bool(row[0])

    def open_sessions(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        """Give the running session of each delivery that has one; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("open_sessions"), {"delivery_ids": list(delivery_ids)})
            return dict(cursor.fetchall())

    def begin_verifying(self, delivery_id: int) -> str | None:
        """Say that the session is being verified; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("lock_delivery"), {"delivery_id": delivery_id})
            session_id = _drained_session(cursor, delivery_id)
            if session_id is None:
                return None
            cursor.execute(query("session_mark"), {"session_id": session_id})
            row = cursor.fetchone()
            assert row is not None, "a count is always there"
            cursor.execute(query("begin_verifying"), {"session_id": session_id})
            return f"{session_id} {row[0]}"

    def finish_session(
        self, delivery_id: int, *, receipt: SessionReceipt | None = None
    ) -> SessionSummary | None:
        """End the delivery's session if nothing is left in it; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("lock_delivery"), {"delivery_id": delivery_id})
            session_id = _drained_session(cursor, delivery_id)
            if session_id is None:
                return None
            if receipt is not None and not _still_at(cursor, session_id, receipt.mark):
                cursor.execute(query("go_on_with_session"), {"session_id": session_id})
                return None
            cursor.execute(query("finish_session"), {"session_id": session_id})
            counts = cursor.fetchone()
            assert counts is not None
            if counts[0] == 0:
                cursor.execute(query("drop_empty_session"), {"session_id": session_id})
            else:
                if receipt is not None:
                    cursor.execute(
                        query("note_session_receipt"),
                        {
                            "session_id": session_id,
                            "receipt": receipt.number,
                            "problem": receipt.problem,
                        },
                    )
                tell_session_ended(
                    cursor,
                    delivery_id,
                    session_id,
                    receipt_digest=None if receipt is None else receipt.digest,
                    manifest_location=None if receipt is None else receipt.manifest_location,
                )
        total, uploaded, skipped, failed, superseded, vanished, bytes_uploaded = counts
        return SessionSummary(
            session_id=session_id,
            files=total,
            uploaded=uploaded,
            skipped=skipped,
            failed=failed,
            superseded=superseded,
            vanished=vanished,
            bytes_uploaded=int(bytes_uploaded),
        )

    def fold_counters(self) -> int:
        """Fold counter changes into the sums; see `ports.Ledger.fold_counters`."""
        return sum(self._fold(name) for name in ("fold_counters", "fold_coverage", "fold_rates"))

    def _fold(self, name: str) -> int:
        folded = 0
        while True:
            with self._connections.transaction() as cursor:
                cursor.execute(query("try_fold_lock"))
                lock = cursor.fetchone()
                if lock is None or not lock[0]:
                    return folded
                cursor.execute(query(name), {"most": FOLD_ROWS})
                row = cursor.fetchone()
                assert row is not None
                taken: int = row[0]
                folded += taken
                if any(row[1:]):  # days lost files
                    where = {"delivery_ids": row[1], "sensor_ids": row[2]}
                    cursor.execute(query("mend_coverage"), where)
                if taken < FOLD_ROWS:
                    return folded

    def health(self) -> LedgerHealth:
        """Tell how the server is; see `ports.Ledger.health`."""
        with self._connections.transaction() as cursor:
            began = time.monotonic()
            cursor.execute(query("health"))
            row = cursor.fetchone()
            latency = time.monotonic() - began
        assert row is not None
        server, size_bytes, migration = row
        return LedgerHealth(
            server=server, size_bytes=size_bytes, migration=migration, latency_seconds=latency
        )

    def status(
        self, station: str | None = None, *, clients: Sequence[str] | None = None
    ) -> list[DeliveryCounts]:
        """Tell how every delivery stands; see `ports.Ledger.status`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("status"), {"station": station, "clients": clients_of(clients)})
            assert cursor.description is not None
            names = [column.name for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return [
            DeliveryCounts(
                **{**row, "progress": row["progress"] and SessionProgress(**row["progress"])}
            )
            for row in rows
        ]

    def close_own(self) -> None:
        """Close the calling thread's connection, before the thread ends."""
        self._connections.close_own()

    def close(self) -> None:
        """Close all connections. May be repeated."""
        self._connections.close()


def _drained_session(cursor: Cursor, delivery_id: int) -> int | None:
    """Hold the running session alone, and give it if no file of the delivery is unfinished."""
    cursor.execute(query("session_to_finish"), {"delivery_id": delivery_id})
    row = cursor.fetchone()
    if row is None:
        return None
    cursor.execute(query("queued"), {"delivery_id": delivery_id})
    queued = cursor.fetchone()
    return None if queued is None or queued[0] else int(row[0])


def _still_at(cursor: Cursor, session_id: int, mark: str) -> bool:
    """Tell whether a session stands where it stood when its verifying began."""
    cursor.execute(query("session_mark"), {"session_id": session_id})
    row = cursor.fetchone()
    return row is not None and mark == f"{session_id} {row[0]}"
