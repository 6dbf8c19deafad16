"""Destinations: where files are stored, and uploads in parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sensordrop.core.check import Check
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.core.verification import (
    FoundObject,
)
from sensordrop.ports.life import StopFlag
from sensordrop.ports.reading import DigestPlan
from sensordrop.ports.transfer import Content, QuickSteps, Sender


@dataclass(frozen=True, kw_only=True, slots=True)
class LandedPart:
    """One part of an upload that the store has. Numbers begin at 1; the ETag has no quotes."""

    number: int
    size_bytes: int
    sha256: bytes
    etag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UnfinishedUpload:
    """An upload in parts that was begun for a file and is not known to have ended.

    `remote_id` is the store's name for it; None: the store was asked for one, and whether it
    gave one is not known.
    """

    record_id: int
    object_key: str
    remote_id: str | None
    sha256: bytes
    size_bytes: int
    part_bytes: int
    begun_at: datetime
    parts: Sequence[LandedPart] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StaleUpload:
    """An upload in parts that nobody goes on with. `known` are the store's names of all uploads
    of the same key that the ledger knows.
    """

    delivery_id: int
    upload: UnfinishedUpload
    known: Sequence[str]


class PartsJournal(Protocol):
    """Where uploads in parts of one file are written down, so that a later attempt goes on.

    Belongs to one thread; blocks on the ledger.
    """

    def unfinished(self) -> Sequence[UnfinishedUpload]:
        """Give what earlier attempts on this file left. Raises InterruptedAttemptError."""
        ...

    def begin(self, object_key: str, content: Content, part_bytes: int) -> int:
        """Write down that an upload is about to be begun; give the record's id.

        Before the store is asked, so that none of ours is ever unknown to us. Raises
        InterruptedAttemptError where the ledger can't be reached: the file waits.
        """
        ...

    def named(self, record_id: int, remote_id: str) -> None:
        """Write down what the store calls the upload. Raises InterruptedAttemptError."""
        ...

    def landed(self, record_id: int, parts: Sequence[LandedPart]) -> None:
        """Write down parts that the store has. Where that fails they may be sent again."""
        ...

    def forget(self, record_id: int) -> None:
        """Take an upload off the list: it ended, or the store no longer knows it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedObject:
    """One object as a listing shows it. `etag` is without quotes."""

    key: str
    size_bytes: int
    etag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedPage:
    """A piece of a listing, in the store's order. `next_token` asks for the next; None: it was all."""

    objects: Sequence[ListedObject]
    next_token: str | None


class Destination(Protocol):
    """A place that keeps objects. S3 is the first; others follow behind the same interface."""

    def address(self) -> str:
        """Say where requests go, as it may be shown: settings outside the configuration count too.

        Blocks on nothing but the very first set-up. Raises FailureError.
        """
        ...

    def digest_plan(self, size_bytes: int) -> DigestPlan:
        """Say which digests are wanted of a file of this size.

        Blocks on nothing but the very first set-up. Raises FailureError.
        """
        ...

    def store(
        self,
        content: Content,
        object_key: str,
        stop: StopFlag,
        *,
        sender: Sender | None = None,
        journal: PartsJournal | None = None,
        look_first: bool = False,
    ) -> Stored | AlreadyStored:
        """Get the content stored under the key, never over other content.

        Where the key holds other content already, the content goes beside it under the conflict
        key. Where it holds the same content, nothing is sent. What the store answers is compared
        with what was sent.

        Blocks on the network, bounded by time-outs; safe from many threads; may be repeated: the
        same content under the same key is stored once. Raises FailureError, classified, and
        InterruptedAttemptError when `stop` ended it. Tries once: retrying is the engine's.

        The bytes go through `sender` where there is one. With a `journal`, a large file's parts
        that landed are not sent again after a failure, a stop or a crash. `look_first`: something
        is probably there, so look before anything is sent.
        """
        ...

    def quick(self, content: Content, object_key: str, *, look: bool = False) -> QuickSteps | None:
        """Give the requests that get a small content stored under a free key, or None.

        `look`: nobody knows what the destination holds, so it is asked before anything is sent,
        also where it would refuse by itself; whatever keeps the look from being answered is told
        by what follows.

        None where this destination, or what is known of it so far, needs `store`. Asking blocks
        on nothing but a rare refresh of credentials. The steps raise FailureError, classified;
        they compare what the store answers with what was sent, like `store`.
        """
        ...

    def discard(self, upload: UnfinishedUpload, known: Collection[str] = ()) -> None:
        """Throw away an upload in parts that nobody will finish; one that is gone is no failure.

        Where the upload's `remote_id` is not known, those of its key that were begun when it was
        are thrown away, except the `known` ones.

        Blocks on the network. Raises FailureError.
        """
        ...

    def list_page(self, prefix: str, token: str | None) -> ListedPage:
        """List up to 1,000 objects below a delivery's prefix, from `token` on; None: from the first.

        What is ours and no file of a delivery (`_sensordrop/`) is left out. Blocks on the network,
        bounded by time-outs; safe from many threads; may be repeated with the same token. Raises
        FailureError.
        """
        ...

    def look(self, object_key: str) -> FoundObject | None:
        """Tell what the store says of the object under a key; None if there is none.

        Blocks on the network for one request; safe from many threads. Raises FailureError.
        """
        ...

    def read_back(self, object_key: str, stop: StopFlag) -> tuple[bytes, int] | None:
        """Read an object's bytes; give their SHA-256 and number. None if it is archived out of reach.

        Blocks on the network as long as that takes, in constant memory; safe from many threads.
        Raises FailureError, and InterruptedAttemptError when `stop` ended it.
        """
        ...

    def preflight(self, prefix: str) -> Sequence[Check]:
        """Check that the destination can be used for keys under a prefix, and what it can do.

        A few small requests, each tried once with a time-out of some seconds; may be repeated,
        from any thread but the lane's. What was seen is used by `store` and `quick` from then on.
        Raises nothing that is the destination's: a check that failed carries its failure.
        """
        ...
