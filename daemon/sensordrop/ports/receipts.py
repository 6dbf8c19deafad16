"""Receipts: what the ledger knows for them, and who writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sensordrop.core.model import Fingerprint
from sensordrop.core.receipt import Accounted, FileFacts, Proof
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.records import EnrollRules
from sensordrop.ports.verifying import VerifyLedger, VerifyScope


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountedFiles:
    """What a listing and the books came to together. `listed` counts what the listing had of the
    scope, `booked` the current files of the scope on the books.
    """

    listed: int
    booked: int
    read: int
    """Entries that the whole listing had, whatever the scope."""
    twice: int
    """Entries whose path the listing had before: the folder changed while it was listed."""
    astray: int
    """Entries and files on the books that are in no row, or in two; 0 if all is well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedFile:
    """A file under account; `number` is its place, `path` its exact bytes."""

    number: int
    path: bytes
    facts: FileFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptRecord:
    """What the ledger keeps of a receipt. `delivery_id` None: it is about a card."""

    delivery_id: int | None
    sensor: str | None
    folder: str
    verdict: str
    made_at: datetime
    made_by: str
    digest: str
    counts: Mapping[str, Mapping[str, int]]
    problems: int
    kept_in: str
    object_key: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadFile:
    """A file of a card as it was read. `problem`: why it could not be; then it has no digest."""

    path: bytes
    fingerprint: Fingerprint
    sha256: bytes | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundContent:
    """A file of a card as it was listed last, with what reading it came to (None: nobody read it),
    and where its content is stored. Without `object_key` it is nowhere stored.
    """

    file: NumberedFile
    read: ReadFile | None
    object_key: str | None
    """With its bucket's name and a slash before it."""
    endpoint_url: str | None
    version_id: str | None
    proof: Proof | None


class ReceiptLedger(VerifyLedger, Protocol):
    """The part of the ledger that receipts are made from; the contract of `VerifyLedger` holds.

    A receipt lives in the calling thread's connection, after the verification of the same scope.
    """

    def account_files(
        self, scope: VerifyScope, chunks: Iterable[ListingChunk], rules: EnrollRules
    ) -> AccountedFiles:
        """Bring together a listing of the folder, the books and what was verified. Nothing is
        enrolled. Two million files pass through the database alone.
        """
        ...

    def accounted_sensors(self) -> list[str]:
        """Name the sensors that have a file under account, in order; '' has those in the root."""
        ...

    def count_accounted(self, scope: VerifyScope) -> tuple[int, int]:
        """Count the files of a scope that were listed, and those that are on the books, apart from
        who puts them into classes. Before the next listing.
        """
        ...

    def changed_meanwhile(
        self,
        scope: VerifyScope,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        most: int,
    ) -> list[str]:
        """Compare another listing with the one that files are under account by; give the paths that
        came, went or are others, `most` of them. What is under account stays as it is.
        """
        ...

    def accounted_files(self, scope: VerifyScope, *, after: int, most: int) -> list[NumberedFile]:
        """Give the next files under account, by number."""
        ...

    def begin_content(self, files: Iterable[ReadFile], *, delivery_ids: Sequence[int]) -> None:
        """Take in a card's files as they were read, and find their contents among what is stored
        in these deliveries.
        """
        ...

    def content_deliveries(self) -> list[int]:
        """Name the deliveries in which any of these contents is stored."""
        ...

    def verify_content(self, delivery_id: int) -> int:
        """Take note of a delivery's stored objects that have one of these contents, as
        `begin_verification` does of a scope; give how many.
        """
        ...

    def note_content(self) -> None:
        """Keep what was found about the contents in the delivery that was verified last."""
        ...

    def found_content(self, *, after: int, most: int) -> list[FoundContent]:
        """Give the next files of the card's last listing, by number."""
        ...

    def record_receipt(self, record: ReceiptRecord) -> int:
        """Write down that a receipt was made; give its number. The same receipt is kept once."""
        ...


class ReceiptWriter(Protocol):
    """Writes one receipt, file by file. Used by one thread; nothing counts before `finish`."""

    def add(self, accounted: Accounted) -> None:
        """Write down one file. Raises OSError."""
        ...

    def finish(self, document: Mapping[str, Any]) -> FinishedReceipt:
        """Sign and keep the receipt, so that it survives a power cut. Raises OSError."""
        ...

    def discard(self) -> None:
        """Forget what was written, where there will be no receipt. May be repeated."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedReceipt:
    """A receipt as it is kept. `document` is all of it, with its signature."""

    document: Mapping[str, Any]
    digest: str
    folder: str
    files: Sequence[str]
    """Names of the files in its folder."""
