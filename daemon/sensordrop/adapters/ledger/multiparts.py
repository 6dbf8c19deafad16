"""Uploads in parts that were begun: what a later attempt goes on with, and what is stale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg2.extras import Json

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.queries import query
from sensordrop.core.model import Claim
from sensordrop.ports.storing import LandedPart, StaleUpload, UnfinishedUpload

STALE_ROWS = 100
"""Stale uploads given at a time: each costs a request to the store."""


class Multiparts:
    """The part of the ledger that remembers uploads in parts."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def unfinished_uploads(self, upload_id: int) -> list[UnfinishedUpload]:
        """Give what was begun for a file; see `ports.Ledger.unfinished_uploads`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("unfinished_uploads"), {"upload_id": upload_id})
            return [_upload(row) for row in cursor.fetchall()]

    def begin_upload(
        self, claim: Claim, *, object_key: str, sha256: bytes, size_bytes: int, part_bytes: int
    ) -> int:
        """Write down what is about to be begun; see `ports.Ledger.begin_upload`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("begin_upload"),
                {
                    "upload_id": claim.upload_id,
                    "object_key": object_key,
                    "sha256": sha256,
                    "size_bytes": size_bytes,
                    "part_bytes": part_bytes,
                },
            )
            row = cursor.fetchone()
            assert row is not None, "a claimed file has a row"
            return int(row[0])

    def name_upload(self, record_id: int, remote_id: str) -> None:
        """Write down what the store calls it; see `ports.Ledger.name_upload`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("name_upload"), {"record_id": record_id, "remote_id": remote_id})

    def land_parts(self, record_id: int, parts: Sequence[LandedPart]) -> None:
        """Write down parts that the store has; see `ports.Ledger.land_parts`."""
        rows = [
            {
                "number": part.number,
                "size_bytes": part.size_bytes,
                "sha256": part.sha256.hex(),
                "etag": part.etag,
            }
            for part in parts
        ]
        with self._connections.transaction() as cursor:
            cursor.execute(query("land_parts"), {"record_id": record_id, "parts": Json(rows)})

    def forget_upload(self, record_id: int) -> None:
        """Take an upload off the list; see `ports.Ledger.forget_upload`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("forget_upload"), {"record_id": record_id})

    def stale_uploads(
        self, delivery_ids: Sequence[int], *, kept_seconds: float
    ) -> list[StaleUpload]:
        """Give what nobody goes on with; see `ports.Ledger.stale_uploads`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("stale_uploads"),
                {
                    "delivery_ids": list(delivery_ids),
                    "kept_seconds": kept_seconds,
                    "most": STALE_ROWS,
                },
            )
            return [
                StaleUpload(delivery_id=row[0], known=tuple(row[1]), upload=_upload(row[2:]))
                for row in cursor.fetchall()
            ]


def _upload(row: tuple[Any, ...]) -> UnfinishedUpload:
    record_id, object_key, remote_id, sha256, size_bytes, part_bytes, begun_at, parts = row
    return UnfinishedUpload(
        record_id=record_id,
        object_key=object_key,
        remote_id=remote_id,
        sha256=bytes(sha256),
        size_bytes=size_bytes,
        part_bytes=part_bytes,
        begun_at=begun_at,
        parts=tuple(
            LandedPart(number=number, size_bytes=size, sha256=bytes.fromhex(digest), etag=etag)
            for number, size, digest, etag in parts
        ),
    )
