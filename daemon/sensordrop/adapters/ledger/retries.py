"""Retries that people ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.enrollment import CHUNK_ROWS, running_session
from sensordrop.adapters.ledger.queries import query
from sensordrop.adapters.ledger.stories import LAST_PLACE, path_digest
from sensordrop.ports.telling import RetryOrder, RetryResult


class Retries:
    """The part of the ledger that takes files out of quarantine."""

    def __init__(self, connections: Connections, *, origin: str, started_by: str) -> None:
        self._connections = connections
        self._opener = {"origin": origin, "started_by": started_by}

    def newest_retries(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        """Say which retry by hand was each delivery's last; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("newest_retries"), {"delivery_ids": list(delivery_ids)})
            return dict(cursor.fetchall())

    def retry(self, order: RetryOrder) -> RetryResult:
        """Have files of one delivery retried; see `ports.StoryLedger.retry`."""
        retry_id = None
        retried = hurried = 0
        before = LAST_PLACE
        known: dict[bytes, str] = {}
        while True:
            with self._connections.transaction() as cursor:
                cursor.execute(query("lock_delivery"), {"delivery_id": order.delivery_id})
                if retry_id is None:
                    retry_id = _begin(cursor, order)
                failed, waiting, before = self._chunk(cursor, order, before, known)
                told = {
                    "retry_id": retry_id,
                    "delivery_id": order.delivery_id,
                    "at_once": order.at_once,
                }
                retried += self._revive(cursor, failed, told) if failed else 0
                if waiting:
                    cursor.execute(query("retry_now"), {**told, "upload_ids": waiting})
                    hurried += cursor.rowcount
                cursor.execute(
                    query("count_retry"), {"retry_id": retry_id, "files": retried + hurried}
                )
                last = order.paths is not None or len(failed) + len(waiting) < CHUNK_ROWS
                if last:
                    cursor.execute(query("drop_empty_retry"), {"retry_id": retry_id})
            if last:
                break
        states = {path: known.get(path_digest(path)) for path in order.paths or ()}
        return RetryResult(retried=retried, hurried=hurried, states=states)

    def _chunk(
        self, cursor: Cursor, order: RetryOrder, before: int, known: dict[bytes, str]
    ) -> tuple[list[int], list[int], int]:
        """Give the next files that failed, and those that wait, and where to go on."""
        parameters: dict[str, Any] = {
            "delivery_id": order.delivery_id,
            "session_id": order.session_id,
            "before": before,
            "most": CHUNK_ROWS,
        }
        if order.paths is not None:
            digests = [path_digest(path) for path in order.paths]
            cursor.execute(query("current_files"), {**parameters, "digests": digests})
            rows = cursor.fetchall()
            known.update({bytes(digest): state for _, digest, state in rows})
            failed = [upload_id for upload_id, _, state in rows if state == "failed"]
            waiting = [upload_id for upload_id, _, state in rows if state == "pending"]
            return failed, waiting if order.at_once else [], before
        cursor.execute(query("failed_files"), parameters)
        rows = cursor.fetchall()
        failed = [upload_id for _, upload_id in rows]
        before = rows[-1][0] if rows else before
        waiting = []
        if order.at_once and len(failed) < CHUNK_ROWS:
            cursor.execute(query("waiting_files"), {**parameters, "most": CHUNK_ROWS - len(failed)})
            waiting = [upload_id for (upload_id,) in cursor.fetchall()]
        return failed, waiting, before

    def _revive(self, cursor: Cursor, upload_ids: list[int], told: dict[str, Any]) -> int:
        session_id, _ = running_session(cursor, told["delivery_id"], self._opener)
        parameters = {**told, "session_id": session_id, "upload_ids": upload_ids}
        cursor.execute(query("retry_again"), parameters)
        again: int = cursor.rowcount
        cursor.execute(query("retry_supersede"), parameters)
        superseded = [row[0] for row in cursor.fetchall()]
        cursor.execute(query("retry_anew"), {**parameters, "upload_ids": superseded})
        return again + cursor.rowcount


def _begin(cursor: Cursor, order: RetryOrder) -> int:
    cursor.execute(
        query("begin_retry"),
        {
            "delivery_id": order.delivery_id,
            "asked_by": order.asked_by,
            "reason": order.reason,
            "what": order.what,
            "at_once": order.at_once,
        },
    )
    row = cursor.fetchone()
    assert row is not None
    retry_id: int = row[0]
    return retry_id
