"""What is to be told about sessions: written as they end, leased to whoever sends it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.queries import query
from sensordrop.core.letters import Answer, LetterKind, LetterPlan, LetterState
from sensordrop.ports.letters import Letter
from sensordrop.ports.records import EndpointBinding
from sensordrop.ports.telling import AskedAgain, LetterLine

KEPT_ATTEMPTS = 20
"""Attempts of a letter that are kept: an endpoint that is down for days makes hundreds."""


class Outbox:
    """The part of the ledger that remembers what others are told."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def lease_letter(
        self,
        daemon_id: int | None,
        wanted: Sequence[tuple[int, LetterKind, str]],
        *,
        busy: Collection[str],
        lease_seconds: float,
        session_id: int | None = None,
    ) -> Letter | None:
        """Lease what is due for longest; see `ports.OutboxLedger`."""
        parameters = {
            "daemon_id": daemon_id,
            "delivery_ids": [delivery_id for delivery_id, _, _ in wanted],
            "kinds": [kind.value for _, kind, _ in wanted],
            "digests": [digest for _, _, digest in wanted],
            "busy": list(busy),
            "lease_seconds": lease_seconds,
            "session_id": session_id,
        }
        with self._connections.transaction() as cursor:
            cursor.execute(query("lease_letter"), parameters)
            row = cursor.fetchone()
        return None if row is None else _letter(row)

    def note_answer(
        self, letter: Letter, answer: Answer, plan: LetterPlan, *, took_seconds: float
    ) -> bool:
        """Write down how an attempt ended; see `ports.OutboxLedger`."""
        key = {"letter_id": letter.letter_id, "lease_number": letter.lease_number}
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("note_answer"),
                {
                    **key,
                    "state": plan.state.value,
                    "retry_seconds": plan.retry_seconds,
                    "took_seconds": took_seconds,
                    "status": answer.status,
                    "answer": answer.text.replace("\0", "\ufffd"),
                    "problem": plan.problem,
                },
            )
            noted = cursor.fetchone() is not None
            if noted:
                cursor.execute(query("forget_old_answers"), {**key, "kept": KEPT_ATTEMPTS})
        return noted

    def letters_of(self, session_id: int) -> list[LetterLine]:
        """Tell what others were told of a session; see `ports.ControlLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("letters_of"), {"session_id": session_id})
            assert cursor.description is not None
            names = [column.name for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return [
            LetterLine(
                **{**row, "kind": LetterKind(row["kind"]), "state": LetterState(row["state"])}
            )
            for row in rows
        ]

    def ask_letter_again(self, session_id: int, endpoint: EndpointBinding | None) -> AskedAgain:
        """Have a registration told once more; see `ports.ControlLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("registration_of"), {"session_id": session_id})
            row = cursor.fetchone()
            if row is None or not row[0]:
                return AskedAgain.RUNNING
            shown, digest = row[2:] if endpoint is None else (endpoint.endpoint, endpoint.digest)
            if digest is None:
                return AskedAgain.NOBODY
            written = [(LetterKind.REGISTRATION.value, shown, digest)]
            _write_letters(cursor, session_id, written)
            cursor.execute(query("ask_letter_again"), {"session_id": session_id, "digest": digest})
        return AskedAgain.ASKED

    def give_letter_back(self, letter: Letter) -> None:
        """End a lease without an attempt; see `ports.OutboxLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("give_letter_back"),
                {"letter_id": letter.letter_id, "lease_number": letter.lease_number},
            )


def bind_endpoints(
    cursor: Cursor,
    delivery_id: int,
    endpoints: Sequence[EndpointBinding],
    *,
    former_id: int | None,
) -> None:
    """Write down whom a delivery tells what. What was not told yet goes there from now on.

    `former_id` is the row that had the delivery's name until now, perhaps the same.
    """
    former: list[str] = []
    for each in {delivery_id, former_id} - {None}:
        cursor.execute(query("endpoints_of"), {"delivery_id": each})
        former += [digest for _, _, digest in cursor.fetchall()]
    cursor.execute(query("forget_endpoints"), {"delivery_id": delivery_id})
    for endpoint in endpoints:
        cursor.execute(
            query("insert_endpoint"),
            {
                "delivery_id": delivery_id,
                "kind": endpoint.kind.value,
                "endpoint": endpoint.endpoint,
                "digest": endpoint.digest,
            },
        )
    cursor.execute(query("repoint_letters"), {"delivery_id": delivery_id, "former": former})
    cursor.execute(query("forget_notifications"), {"delivery_id": delivery_id})


def tell_session_ended(
    cursor: Cursor,
    delivery_id: int,
    session_id: int,
    *,
    receipt_digest: str | None = None,
    manifest_location: str | None = None,
) -> None:
    """Write what is to be told about a session into the outbox, in the transaction that ends it."""
    _write_letters(
        cursor,
        session_id,
        _endpoints_of(cursor, delivery_id, {LetterKind.REGISTRATION, LetterKind.DONE}),
        receipt_digest=receipt_digest,
        manifest_location=manifest_location,
    )


def tell_session_began(cursor: Cursor, delivery_id: int, session_id: int) -> None:
    """Write that a session began into the outbox, in the transaction that begins it."""
    _write_letters(cursor, session_id, _endpoints_of(cursor, delivery_id, {LetterKind.START}))


def tell_of_quarantine(cursor: Cursor, upload_ids: Sequence[int]) -> None:
    """Write that files failed into the outbox, in the transaction that quarantines them: once for
    each session, with the first of them as the reason.
    """
    cursor.execute(query("failures_to_tell"), {"upload_ids": list(upload_ids)})
    for session_id, endpoint, digest, reason in cursor.fetchall():
        _write_letters(cursor, session_id, [(LetterKind.FAILURE, endpoint, digest)], reason=reason)


def tell_of_trouble(cursor: Cursor, delivery_id: int, reason: str) -> None:
    """Write that a delivery is held up into the outbox: once for its running session, if it has one
    and nothing was told of a failure in it.
    """
    cursor.execute(query("trouble_to_tell"), {"delivery_id": delivery_id})
    for session_id, endpoint, digest in cursor.fetchall():
        _write_letters(cursor, session_id, [(LetterKind.FAILURE, endpoint, digest)], reason=reason)


def _endpoints_of(
    cursor: Cursor, delivery_id: int, kinds: Collection[str]
) -> list[tuple[str, str, str]]:
    cursor.execute(query("endpoints_of"), {"delivery_id": delivery_id})
    return [row for row in cursor.fetchall() if row[0] in kinds]


def _write_letters(
    cursor: Cursor,
    session_id: int,
    endpoints: Sequence[tuple[str, str, str]],
    *,
    receipt_digest: str | None = None,
    manifest_location: str | None = None,
    reason: str | None = None,
) -> None:
    if not endpoints:
        return
    cursor.execute(
        query("write_letters"),
        {
            "session_id": session_id,
            "kinds": [kind for kind, _, _ in endpoints],
            "endpoints": [endpoint for _, endpoint, _ in endpoints],
            "digests": [digest for _, _, digest in endpoints],
            "receipt_digest": receipt_digest,
            "manifest_location": manifest_location,
            "reason": reason,
        },
    )


def _letter(row: Sequence[Any]) -> Letter:
    return Letter(
        letter_id=row[0],
        delivery_id=row[1],
        session_id=row[2],
        kind=LetterKind(row[3]),
        endpoint=row[4],
        endpoint_digest=row[5],
        idempotency_key=row[6],
        body=row[7],
        lease_number=row[8],
        attempts=row[9],
        waited_seconds=row[10],
    )
