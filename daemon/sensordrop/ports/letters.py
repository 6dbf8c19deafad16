"""Telling others about sessions: letters, and who brings them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from sensordrop.core.letters import Answer, LetterKind, LetterPlan
from sensordrop.ports.life import StopFlag


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """Something to be told about a session, leased to whoever sends it."""

    letter_id: int
    delivery_id: int
    """The delivery that knows how to send it."""
    session_id: int
    kind: LetterKind
    endpoint: str
    endpoint_digest: str
    idempotency_key: str
    body: str
    lease_number: int
    attempts: int
    """Attempts that failed before."""
    waited_seconds: float
    """How long ago it was asked for."""


class Notifier(Protocol):
    """Tells one endpoint. Safe from every thread; what it tells may be told again."""

    def send(self, letter: Letter, stop: StopFlag) -> Answer | None:
        """Send a letter once. Blocks for the endpoint's time-out at most.

        None: `stop` was set meanwhile, and nobody knows whether it arrived. Whatever else happens
        is in the answer: nothing is raised.
        """
        ...


class OutboxLedger(Protocol):
    """What is asked of the ledger by whoever sends letters; as with `Ledger`."""

    def lease_letter(
        self,
        daemon_id: int | None,
        wanted: Sequence[tuple[int, LetterKind, str]],
        *,
        busy: Collection[str],
        lease_seconds: float,
        session_id: int | None = None,
    ) -> Letter | None:
        """Lease the letter that is due for longest, if any is; of one session, if it is named.

        `wanted` says who can send what: delivery, kind, the endpoint's digest. `busy` are digests
        of endpoints that are being told something by this program.
        """
        ...

    def note_answer(
        self, letter: Letter, answer: Answer, plan: LetterPlan, *, took_seconds: float
    ) -> bool:
        """Write down how an attempt ended, if the lease still holds; tell whether it did."""
        ...

    def give_letter_back(self, letter: Letter) -> None:
        """End a lease without an attempt."""
        ...

    def close_own(self) -> None:
        """Close the calling thread's connection, before the thread ends."""
        ...
