"""Comparing what a store has with what the ledger knows, and writing down what was found."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from psycopg2.extras import Json

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.listed import copy_text, key_digest
from sensordrop.adapters.ledger.queries import query
from sensordrop.core.audit import allowance
from sensordrop.core.verification import (
    CheckMethod,
    ExtraObject,
    Finding,
    KnownObject,
    Problem,
)
from sensordrop.ports.storing import ListedObject
from sensordrop.ports.verifying import (
    AuditStep,
    Checked,
    DeliveryToVerify,
    Listed,
    VerifiedObject,
    VerifyResult,
    VerifyScope,
)

AUDIT_WINDOW = 5_000
"""Rows that one step of the audit goes over at most, so that a step costs the same in a ledger of
any size."""
RECORD_ROWS = 20_000
"""Findings that are written down in one transaction: short enough to hold nobody up."""


class Verification:
    """The part of the ledger that verification works on; see `ports.VerifyLedger`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def deliveries_to_verify(
        self, *, station: str | None, session_id: int | None
    ) -> list[DeliveryToVerify]:
        """Give the deliveries of a station, or the one of a session."""
        rows = self._ask("deliveries_to_verify", station=station, session_id=session_id)
        names = (
            "delivery_id", "name", "station", "retired", "endpoint_url", "bucket_name",
            "s3_prefix", "local_directory", "swept", "last_sweep_complete", "last_sweep_problem",
        )  # fmt: skip
        return [DeliveryToVerify(**dict(zip(names, row, strict=True))) for row in rows]

    def unfinished(self, scope: VerifyScope, *, most: int) -> Listed:
        """Give the files that are on the books and not stored."""
        rows = self._ask("unfinished_files", **_of(scope), most=most)
        return Listed(
            problems=tuple(Problem(path=path, reason=reason) for path, reason, _ in rows),
            count=rows[0][2] if rows else 0,
        )

    def begin_verification(self, scope: VerifyScope) -> tuple[int, int]:
        """Take note of all stored objects of a scope."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_verify_tables"))
            cursor.execute(query("empty_verify_tables"))
            cursor.execute(query("fill_verify_files"), _of(scope))
            row = cursor.fetchone()
            assert row is not None
            cursor.execute("ANALYZE verify_files")
            return row[0], row[1]

    def add_verify_listed(self, objects: Sequence[ListedObject]) -> None:
        """Take in some thousand objects of a listing."""
        rows = b"".join(
            b"%s\t\\\\x%s\t%d\t%s\n"
            % (
                copy_text(o.key),
                key_digest(o.key).hex().encode(),
                o.size_bytes,
                copy_text(o.etag),
            )
            for o in objects
        )
        with self._connections.transaction() as cursor:
            cursor.copy_expert(query("copy_verify_listed"), io.BytesIO(rows))

    def compare_listed(self) -> None:
        """Compare what was listed with what is known."""
        with self._connections.transaction() as cursor:
            cursor.execute("ANALYZE verify_listed")
            cursor.execute(query("compare_listed"))

    def doubtful(self, *, after: int, most: int) -> list[VerifiedObject]:
        """Give the next objects that are not known to be the same."""
        return _objects(self._ask("doubtful_objects", after=after, most=most))

    def pick(self, most: int) -> None:
        """Choose so many of the objects by chance."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("pick_objects"), {"most": most})

    def picked(self, *, after: int, most: int) -> list[VerifiedObject]:
        """Give the next objects that were picked."""
        return _objects(self._ask("picked_objects", after=after, most=most))

    def note_findings(self, method: CheckMethod, findings: Sequence[tuple[int, Finding]]) -> None:
        """Note what was found out about objects."""
        rows = [
            {
                "n": number,
                "result": None if finding.result is None else finding.result.value,
                "reason": finding.reason,
            }
            for number, finding in findings
        ]
        with self._connections.transaction() as cursor:
            cursor.execute(query("note_findings"), {"method": method.value, "findings": Json(rows)})

    def give_up(self, reason: str, *, picked_but_by: CheckMethod | None = None) -> None:
        """Note why objects have no result."""
        with self._connections.transaction() as cursor:
            if picked_but_by is not None:
                cursor.execute(
                    query("give_up_picked"), {"reason": reason, "method": picked_but_by.value}
                )
            cursor.execute(query("give_up"), {"reason": reason})

    def end_verification(self, scope: VerifyScope, *, most: int) -> VerifyResult:
        """Write down what was found, some thousand objects at a time."""
        ((last,),) = self._ask("verify_last")
        for first in range(1, last + 1, RECORD_ROWS):
            with self._connections.transaction() as cursor:
                cursor.execute(
                    query("record_checks"),
                    {
                        "delivery_id": scope.delivery_id,
                        "first": first,
                        "last": first + RECORD_ROWS - 1,
                    },
                )
        ((listing, head, read_back, missing, different, unchecked),) = self._ask("verify_counts")
        problems = self._ask("verify_problems", most=most)
        by_method = {
            CheckMethod.LISTING: listing,
            CheckMethod.HEAD: head,
            CheckMethod.READ_BACK: read_back,
        }
        return VerifyResult(
            checked={method.value: number for method, number in by_method.items()},
            missing=missing,
            different=different,
            unchecked=unchecked,
            problems=tuple(Problem(path=path, reason=reason) for path, reason in problems),
        )

    def extra_objects(self, scope: VerifyScope, *, most: int) -> tuple[int, list[ExtraObject]]:
        """Count the listed objects that nobody knows; give the first."""
        rows = self._ask("extra_objects", delivery_id=scope.delivery_id, most=most)
        return (
            rows[0][2] if rows else 0,
            [ExtraObject(key=key, size_bytes=size) for key, size, _ in rows],
        )

    # --- the audit ---

    def audit_step(
        self, daemon_id: int, delivery_ids: Sequence[int], *, share_per_day: float, most: int
    ) -> AuditStep:
        """Say what the audit has to look at now; see `ports.VerifyLedger.audit_step`."""
        parameters = {"daemon_id": daemon_id, "delivery_ids": list(delivery_ids)}
        with self._connections.transaction() as cursor:
            cursor.execute(query("begin_audit"), parameters)
            cursor.execute(query("audit_round"), parameters)
            row = cursor.fetchone()
            assert row is not None, "begin_audit makes the row"
            began_at, position, elapsed_seconds, stored, last = row
            allowed = allowance(
                elapsed_seconds=elapsed_seconds, stored=stored, share_per_day=share_per_day
            )
            wanted = min(most, int(allowed))
            if not wanted:
                return AuditStep(allowance=allowed, stored=stored)
            cursor.execute(
                query("audit_objects"),
                {
                    **parameters,
                    "began_at": began_at,
                    "first": position + 1,
                    "last": position + AUDIT_WINDOW,
                    "most": wanted,
                },
            )
            objects = [known_object(each) for each in cursor.fetchall()]
        reached = position + AUDIT_WINDOW if len(objects) < wanted else objects[-1].upload_id
        return AuditStep(
            allowance=allowed,
            stored=stored,
            objects=objects,
            position=reached,
            round_over=reached >= last,
        )

    def note_audit(
        self,
        daemon_id: int,
        checked: Sequence[Checked],
        *,
        position: int | None,
        round_over: bool,
        used_seconds: float,
    ) -> set[int]:
        """Write down what the audit looked at; see `ports.VerifyLedger.note_audit`."""
        rows = [
            {
                "upload_id": each.known.upload_id,
                "delivery_id": each.known.delivery_id,
                "method": each.method.value,
                "result": each.finding.result.value,
                "reason": each.finding.reason,
            }
            for each in checked
            if each.finding.result is not None
        ]
        with self._connections.transaction() as cursor:
            cursor.execute(query("note_audited"), {"checks": Json(rows)})
            newly_bad = {row[0] for row in cursor.fetchall()}
            cursor.execute(
                query("audit_went_on"),
                {
                    "daemon_id": daemon_id,
                    "position": position,
                    "round_over": round_over,
                    "used_seconds": used_seconds,
                },
            )
        return newly_bad

    def _ask(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self._connections.transaction() as cursor:
            cursor.execute(query(name), parameters)
            return cursor.fetchall()


def _of(scope: VerifyScope) -> dict[str, Any]:
    return {
        "delivery_id": scope.delivery_id,
        "session_id": scope.session_id,
        "sensor": scope.sensor,
    }


def _objects(rows: Sequence[tuple[Any, ...]]) -> list[VerifiedObject]:
    return [VerifiedObject(number=row[0], known=known_object(row[1:])) for row in rows]


def known_object(row: Sequence[Any]) -> KnownObject:
    """Make the value of a row, in the order in which every query of objects gives it."""
    upload_id, delivery_id, path, text, key, size, sha256, etag, checksum, current = row
    return KnownObject(
        upload_id=upload_id,
        delivery_id=delivery_id,
        path=bytes(path),
        path_text=text,
        object_key=key,
        size_bytes=size,
        sha256=bytes(sha256),
        etag=etag,
        checksum_sha256=checksum,
        current=current,
    )
