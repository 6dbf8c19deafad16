"""What is told of files, sessions and deliveries to whoever asks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.controls import control_of
from sensordrop.adapters.ledger.queries import clients_of, query
from sensordrop.core.keys import path_text
from sensordrop.core.model import Fingerprint
from sensordrop.core.story import (
    DeliveryPlace,
    FailedAttempt,
    FileStory,
    FileVersion,
    HandRetry,
    TakenAway,
)
from sensordrop.ports.telling import FileFilter, FileLine, SessionLine, SessionTrouble

MOST_VERSIONS = 20
"""Versions of one file that are told: whoever rewrites a file more often needs no more of them."""
MOST_TROUBLES = 20
"""Kinds of failures of a session that are told."""
LAST_PLACE = 2**63 - 1
"""Where a list begins: above every number that the ledger gives."""
FEW_DELIVERIES = 8
"""Each is listed by itself up to so many: reading a page of each costs less than a search."""
_QUEUED = ("pending", "uploading")


class Stories:
    """The part of the ledger that answers questions; it changes nothing."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def delivery_places(
        self, station: str | None, *, clients: Sequence[str] | None = None
    ) -> list[DeliveryPlace]:
        """Give the deliveries of a station; see `ports.StoryLedger`."""
        with self._connections.transaction() as cursor:
            rows = _rows(cursor, "delivery_places", station=station, clients=clients_of(clients))
            return [DeliveryPlace(**row) for row in rows]

    def knows_file(self, delivery_id: int, path: bytes) -> bool:
        """Tell whether a path is on the books or ignored; see `ports.StoryLedger`."""
        with self._connections.transaction() as cursor:
            key = {"delivery_id": delivery_id, "digest": path_digest(path)}
            return bool(
                _rows(cursor, "file_versions", **key, most=1)
                or _rows(cursor, "ignored_file", **key)
            )

    def story(self, place: DeliveryPlace, path: bytes, *, station: str | None) -> FileStory:
        """Tell all that is known of a path; see `ports.StoryLedger`."""
        key = {"delivery_id": place.delivery_id, "digest": path_digest(path)}
        with self._connections.transaction() as cursor:
            versions = _rows(cursor, "file_versions", **key, most=MOST_VERSIONS)
            upload_ids = [row["upload_id"] for row in versions]
            failures = defaultdict(list)
            for row in _rows(cursor, "file_failures", upload_ids=upload_ids):
                failures[row.pop("upload_id")].append(
                    FailedAttempt(ended_at=row.pop("failed_at"), **row)
                )
            retries = defaultdict(list)
            for row in _rows(cursor, "file_retries", upload_ids=upload_ids):
                retries[row.pop("upload_id")].append(HandRetry(**row))
            ignored = _rows(cursor, "ignored_file", **key)
            cursor.execute(
                query("pauses_of"), {"delivery_id": place.delivery_id, "station": station}
            )
            pauses = [control_of(row) for row in cursor.fetchall()]
        return FileStory(
            place=place,
            path=path_text(path),
            versions=[
                _version(row, failures[row["upload_id"]], retries[row["upload_id"]])
                for row in versions
            ],
            pauses=pauses,
            ignored=ignored[0]["reason"] if ignored else None,
        )

    def list_files(self, wanted: FileFilter, *, before: int | None, most: int) -> list[FileLine]:
        """List files, a page at a time; see `ports.StoryLedger`."""
        parameters: dict[str, Any] = {
            "delivery_ids": list(wanted.delivery_ids),
            "state": wanted.state,
            "sensor": wanted.sensor,
            "before": LAST_PLACE if before is None else before,
            "most": most,
        }
        name = "list_files"
        if wanted.state in _QUEUED:
            name = "list_queued"
        elif wanted.state == "failed":
            name = "list_failed"
        counted = "pending" if wanted.state in _QUEUED else wanted.state
        with self._connections.transaction() as cursor:
            # Where there is none, a rare state would be looked for among all files.
            cursor.execute(query("files_counted"), {**parameters, "state": counted})
            found = [delivery_id for (delivery_id,) in cursor.fetchall()]
            parameters |= {"delivery_ids": found, "few": len(found) <= FEW_DELIVERIES}
            return [FileLine(**row) for row in _rows(cursor, name, **parameters)]

    def list_sessions(
        self,
        delivery_ids: Sequence[int],
        *,
        session_id: int | None = None,
        before: int | None = None,
        most: int,
    ) -> list[SessionLine]:
        """List sessions, the newest first; see `ports.StoryLedger`."""
        with self._connections.transaction() as cursor:
            rows = _rows(
                cursor,
                "list_sessions",
                delivery_ids=list(delivery_ids),
                session_id=session_id,
                before=LAST_PLACE if before is None else before,
                most=most,
            )
        return [_session(row) for row in rows]

    def session_troubles(self, session_id: int) -> list[SessionTrouble]:
        """Count what failed in a session; see `ports.StoryLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("session_troubles"), {"session_id": session_id, "most": MOST_TROUBLES}
            )
            return [
                SessionTrouble(error_class=name, files=files, path=path)
                for name, files, path in cursor.fetchall()
            ]


def path_digest(path: bytes) -> bytes:
    """Give what the ledger knows a path by: the first half of its SHA-256."""
    return hashlib.sha256(path).digest()[:16]


def _rows(cursor: Cursor, name: str, **parameters: Any) -> list[dict[str, Any]]:
    cursor.execute(query(name), parameters)
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


_TAKEN = ("begun_at", "ended_at", "wish", "outcome", "moved_to", "reason", "receipt")


def _version(
    row: dict[str, Any], failures: Sequence[FailedAttempt], retries: Sequence[HandRetry]
) -> FileVersion:
    taken = {name: row.pop(f"taken_{name}") for name in _TAKEN}
    times = {"mtime_ns": row.pop("mtime_ns"), "ctime_ns": row.pop("ctime_ns")}
    return FileVersion(
        fingerprint=Fingerprint(size_bytes=row["size_bytes"], **times),
        failures=failures,
        retries=retries,
        taken=TakenAway(**taken) if row.pop("taken_id") is not None else None,
        **row,
    )


def _session(row: dict[str, Any]) -> SessionLine:
    counts = {state: int(files) for state, (files, _) in row["counts"].items()}
    sizes = [int(size or 0) for _, size in row["counts"].values()]
    uploaded = row["counts"].get("uploaded", (0, 0))[1]
    total = row.pop("bytes_total")
    return SessionLine(
        **{**row, "counts": counts},
        bytes_uploaded=int(uploaded or 0),
        bytes_total=sum(sizes) if total is None else total,
    )
