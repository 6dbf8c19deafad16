"""Claims on files that are ready, and the outcomes that are written down for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class
from psycopg2.extras import Json

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.outbox import tell_of_quarantine
from sensordrop.adapters.ledger.queries import query
from sensordrop.adapters.ledger.registry import SUSPECT_CRASHES
from sensordrop.core.failure import Failure
from sensordrop.core.lifecycle import (
    GiveBack,
    Quarantine,
    RecordSkipped,
    RecordUploaded,
    RestorePredecessor,
    Retry,
    Wait,
)
from sensordrop.core.model import Claim, Fingerprint, Receipt
from sensordrop.ports.records import Commit

KEPT_FAILURES = 20
"""Failures of one file that are kept of those that were charged to it, and as many of those that
were not: with the usual settings all of several rounds of retries, and never more than a page."""


class Work:
    """The part of the ledger that hands out files and takes in outcomes."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def claim(self, daemon_id: int, delivery_id: int, most: int) -> list[Claim]:
        """Lease due files of one delivery; see `ports.Ledger.claim`."""
        return self._claim("claim", daemon_id=daemon_id, delivery_id=delivery_id, most=most)

    def claim_suspect(self, daemon_id: int, delivery_ids: Sequence[int]) -> Claim | None:
        """Lease one file that must be worked on alone; see `ports.Ledger.claim_suspect`."""
        claims = self._claim("claim_suspect", daemon_id=daemon_id, delivery_ids=list(delivery_ids))
        return claims[0] if claims else None

    def due_in_seconds(self, delivery_ids: Sequence[int]) -> dict[int, float]:
        """Say when each delivery has work; see `ports.Ledger.due_in_seconds`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("due_in_seconds"), {"delivery_ids": list(delivery_ids)})
            return dict(cursor.fetchall())

    def bring_forward(self, longest_waits: Mapping[int, float]) -> int:
        """Make files due that a clock put off that was wrong; see `ports.Ledger.bring_forward`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("bring_forward"),
                {
                    "delivery_ids": list(longest_waits),
                    "longest_waits": list(longest_waits.values()),
                },
            )
            return int(cursor.rowcount)

    def commit(self, daemon_id: int, commits: Sequence[Commit], now: datetime) -> int:
        """Write outcomes down; see `ports.Ledger.commit`."""
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for commit in commits:
            name, row = _row(commit, now)
            groups[name].append(row)
        written = 0
        failed = [row["upload_id"] for rows in groups.values() for row in rows if "scope" in row]
        with self._connections.transaction() as cursor:
            for name, rows in sorted(groups.items()):
                parameters = {"daemon_id": daemon_id, "outcomes": Json(rows)}
                if name == "take_off_same":
                    written += _restore(cursor, parameters)
                else:
                    cursor.execute(query(name), parameters)
                    written += cursor.rowcount
                if name == "commit_quarantined":
                    tell_of_quarantine(cursor, [row["upload_id"] for row in rows])
            if failed:
                cursor.execute(
                    query("forget_old_failures"), {"upload_ids": failed, "kept": KEPT_FAILURES}
                )
        return written

    def release_unheld(
        self, daemon_id: int, delivery_ids: Sequence[int], held: Sequence[Claim]
    ) -> int:
        """Free claims that their program does not know of; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("release_unheld"),
                {
                    "daemon_id": daemon_id,
                    "delivery_ids": list(delivery_ids),
                    "upload_ids": [c.upload_id for c in held],
                    "claim_numbers": [c.claim_number for c in held],
                },
            )
            return int(cursor.rowcount)

    def _claim(self, name: str, **parameters: Any) -> list[Claim]:
        with self._connections.transaction() as cursor:
            cursor.execute(query("hold_daemon"), parameters)
            if cursor.fetchone() is None:
                return []  # declared dead: the janitor registers anew
            cursor.execute(query(name), {**parameters, "suspect_crashes": SUSPECT_CRASHES})
            return [
                Claim(
                    upload_id=upload_id,
                    delivery_id=delivery_id,
                    path=bytes(path),
                    path_text=text,
                    fingerprint=Fingerprint(size_bytes=size, mtime_ns=mtime, ctime_ns=ctime),
                    claim_number=number,
                    attempts=attempts,
                    crashes=crashes,
                    predecessor_sha256=None if before is None else bytes(before),
                    listed=listed,
                    unlisted=unlisted,
                )
                for (
                    upload_id,
                    delivery_id,
                    path,
                    text,
                    size,
                    mtime,
                    ctime,
                    number,
                    attempts,
                    crashes,
                    before,
                    listed,
                    unlisted,
                ) in cursor.fetchall()
            ]


def _restore(cursor: Cursor, parameters: dict[str, Any]) -> int:
    cursor.execute(query("take_off_same"), parameters)
    taken_off = cursor.fetchall()
    rows = [
        {"predecessor_id": before, "mtime_ns": mtime, "ctime_ns": ctime}
        for _, before, mtime, ctime in taken_off
    ]
    cursor.execute(query("restore_predecessors"), {"outcomes": Json(rows)})
    return len(taken_off)


def _row(commit: Commit, now: datetime) -> tuple[str, dict[str, Any]]:
    """Give the query that writes an action down, and the row that it takes."""
    fence = {
        "upload_id": commit.claim.upload_id,
        "claim_number": commit.claim.claim_number,
    }
    match commit.action:
        case RecordUploaded(receipt=receipt):
            return "commit_stored", {**fence, **_stored("uploaded", receipt, None)}
        case RecordSkipped(receipt=receipt, evidence=evidence):
            return "commit_stored", {**fence, **_stored("skipped", receipt, evidence)}
        case RestorePredecessor():
            return "take_off_same", fence
        case Wait(fingerprint=seen, until=until):
            return "commit_waits", {
                **fence,
                "wait_seconds": _wait(until, now),
                "size_bytes": seen.size_bytes,
                "mtime_ns": seen.mtime_ns,
                "ctime_ns": seen.ctime_ns,
            }
        case Retry(failure=failure, until=until):
            row = {**fence, **_failed(commit, failure), "wait_seconds": _wait(until, now)}
            return "commit_retries", row
        case Quarantine(failure=failure):
            return "commit_quarantined", {**fence, **_failed(commit, failure)}
        case GiveBack(until=until, failure=given):
            row = {**fence, "wait_seconds": None if until is None else _wait(until, now)}
            if given is None:
                return "commit_given_back", row
            return "commit_not_to_blame", {**row, **_failed(commit, given)}


def _wait(until: datetime, now: datetime) -> float:
    return max(0.0, (until - now).total_seconds())


def _stored(state: str, receipt: Receipt, reason: str | None) -> dict[str, Any]:
    return {
        "state": state,
        "object_key": receipt.object_key,
        "sha256": receipt.sha256.hex(),
        "etag": receipt.etag,
        "version_id": receipt.version_id,
        "checksum_sha256": receipt.checksum_sha256,
        "store_check": receipt.store_check.value,
        "conflict": receipt.conflict,
        "reason": reason,
    }


def _failed(commit: Commit, failure: Failure) -> dict[str, Any]:
    return {
        "scope": failure.scope.value,
        "error_class": failure.error_class,
        "message": storable(failure.message),
        "hint": storable(failure.hint),
        "took_seconds": commit.took_seconds,
    }


def storable(text: str) -> str:
    """Make any text one that PostgreSQL takes: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")
