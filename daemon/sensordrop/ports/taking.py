"""Taking stored files away from a drop folder, and the log that the ledger keeps of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sensordrop.core.model import Fingerprint
from sensordrop.core.taking import Became, Traces, Wish
from sensordrop.core.verification import KnownObject
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.life import StopFlag
from sensordrop.ports.records import EnrollRules


class LeftError(Exception):
    """A file stays where it is, for the reason in the message: it is not what was stored."""


class CannotTakeError(Exception):
    """Nothing can be taken: the folder or the target can't be written, or is full."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, kw_only=True, slots=True)
class FileToTake:
    """A file as it was listed, and as it was stored. `number` is that of its record in the log."""

    number: int
    path: bytes
    fingerprint: Fingerprint
    sha256: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A file that a SAFE receipt has as stored. `place` is its number in the receipt; `proven`: the
    store was seen to check the bytes that its ETag stands for.
    """

    place: int
    known: KnownObject
    fingerprint: Fingerprint
    proven: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TakingFolder:
    """A folder of files that are taken together or not at all, as far as it can be helped.

    `text` is its path as text, '' for the root; `path` its exact bytes; `whole`: all that is below
    belongs to it.
    """

    text: str
    path: bytes
    whole: bool
    files: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenTaking:
    """A file whose taking away was begun, and nobody wrote down how it ended."""

    file: FileToTake
    path_text: str
    wish: Wish


class Taking(Protocol):
    """A drop folder, and what may be taken away from it. The only thing that removes a user's file.

    Used by one thread at a time, which holds the delivery in the ledger. All calls block on the
    disk.
    """

    @property
    def wish(self) -> Wish:
        """What is done with the files."""
        ...

    def check(self) -> None:
        """See that files can be taken at all. Raises CannotTakeError."""
        ...

    def take(self, file: FileToTake, stop: StopFlag) -> str | None:
        """Read a file once more and take it away, if it is what was stored and nobody writes it.

        Gives where it was moved, below the target, as text; None: it was deleted. Where the target
        has the same content already, that counts; other content there is never written over. What
        is moved is on the target's disk before the file leaves the folder.

        Raises LeftError, CannotTakeError, InterruptedAttemptError: then it is where it was.
        """
        ...

    def mend(self, file: FileToTake, wish: Wish, stop: StopFlag) -> Traces:
        """Say what is found of a file whose taking away was broken off, and put it back in its
        place where it was on its way out. May be repeated. Raises InterruptedAttemptError,
        CannotTakeError.
        """
        ...

    def remove_empty(self, folders: Iterable[bytes]) -> int:
        """Remove these folders as far as they are empty, the deepest first; give how many."""
        ...


class TakingLedger(Protocol):
    """The part of the ledger that taking away works on; the contract of `Ledger` holds.

    What is to be taken lives in the calling thread's connection, which the receipt was made on.
    """

    def hold_taking(self, delivery_id: int) -> bool:
        """Take hold of a delivery until it is released, or this thread's connection ends. False:
        somebody else takes its files away.
        """
        ...

    def release_taking(self, delivery_id: int) -> None:
        """Let go of a delivery."""
        ...

    def open_takings(self, delivery_id: int) -> list[OpenTaking]:
        """Give the files whose taking away was begun and not ended: whoever began it has died."""
        ...

    def begin_taking(self, delivery_id: int, rules: EnrollRules) -> list[TakingFolder]:
        """Take note of what the receipt had that was made on this connection just now; give its
        folders that have files to be taken, the root last.
        """
        ...

    def candidates(self, folder: TakingFolder, *, after: int, most: int) -> list[Candidate]:
        """Give the next files of a folder that may be taken, by their places in the receipt."""
        ...

    def changed_in(
        self, folder: TakingFolder, chunks: Iterable[ListingChunk], rules: EnrollRules
    ) -> str | None:
        """Hold a listing of the folder against what the receipt had of it and was not taken since;
        say what is different, or None. Junk does not count.
        """
        ...

    def note_taking(
        self, delivery_id: int, receipt: int, wish: Wish, upload_ids: Sequence[int]
    ) -> Mapping[int, int]:
        """Write down that these files are about to be taken away; give the numbers of the records
        by their uploads.
        """
        ...

    def end_taking(self, became: Mapping[int, Became]) -> None:
        """Write down what became of files, by the numbers of their records."""
        ...

    def close_own(self) -> None:
        """Close the calling thread's connection, before the thread ends."""
        ...
