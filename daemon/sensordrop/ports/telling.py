"""The ledger as the command line and the control socket read and steer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sensordrop.core.controls import ControlKind
from sensordrop.core.letters import LetterKind, LetterState
from sensordrop.core.story import DeliveryPlace, FileStory
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.records import EndpointBinding


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFilter:
    """Which files are to be listed. `state` in the words of `status`; None: all."""

    delivery_ids: Sequence[int]
    state: str | None = None
    sensor: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLine:
    """One file (version) in a list; `place` is where the next page goes on."""

    place: int
    delivery: str
    sensor: str
    path: str
    state: str
    size_bytes: int
    session_id: int | None
    attempts: int
    enrolled_at: datetime
    finished_at: datetime | None
    next_at: datetime | None
    error_class: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionLine:
    """One session in a list: what it came to, or what it has so far. `counts` by state."""

    session_id: int
    delivery_id: int
    delivery: str
    state: str
    origin: str
    started_by: str
    started_at: datetime
    ended_at: datetime | None
    counts: dict[str, int]
    bytes_uploaded: int
    bytes_total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionTrouble:
    """How many files of a session failed by one class of error; `path` is one of them."""

    error_class: str
    files: int
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PastControl:
    """Something that was set for a station (`delivery` None) or a delivery, and may hold still."""

    delivery: str | None
    value: str
    reason: str
    set_by: str
    set_at: datetime
    until: datetime | None
    ended_by: str | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryOrder:
    """What somebody wants retried of one delivery: these paths, or what failed in a session, or
    all that failed. `at_once`: also what waits for its next attempt, and without the wait.
    """

    delivery_id: int
    asked_by: str
    what: str
    """The order in words, for those who look later."""
    paths: Sequence[bytes] | None = None
    session_id: int | None = None
    at_once: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryResult:
    """How many files came out of quarantine, how many need not wait any longer, and the state that
    each path was in before (None: not on the books).
    """

    retried: int
    hurried: int
    states: Mapping[bytes, str | None]


class StoryLedger(Protocol):
    """The part of the ledger that people ask; the contract of `Ledger` holds. All but `retry`
    change nothing. Lists come a page at a time: `before` is the last `place` of the page before.
    """

    def delivery_places(
        self, station: str | None, *, clients: Sequence[str] | None = None
    ) -> list[DeliveryPlace]:
        """Give the deliveries of a station (None: of all) and of the clients (None: of all), by
        name. Retired ones are not among them.
        """
        ...

    def knows_file(self, delivery_id: int, path: bytes) -> bool:
        """Tell whether a path is on a delivery's books, or ignored there."""
        ...

    def story(self, place: DeliveryPlace, path: bytes, *, station: str | None) -> FileStory:
        """Tell all that is known of a path. `station` is whose pause counts for a shared delivery."""
        ...

    def list_files(self, wanted: FileFilter, *, before: int | None, most: int) -> list[FileLine]:
        """List files, the newest first (of those that failed: the last to fail)."""
        ...

    def list_sessions(
        self,
        delivery_ids: Sequence[int],
        *,
        session_id: int | None = None,
        before: int | None = None,
        most: int,
    ) -> list[SessionLine]:
        """List the sessions of deliveries, the newest first, or the one that is asked for."""
        ...

    def control_history(
        self,
        kind: ControlKind,
        station: str,
        *,
        most: int,
        clients: Sequence[str] | None = None,
    ) -> list[PastControl]:
        """Tell what of a kind was set for a station and its deliveries (of the clients, or of all),
        by whom and until when, the newest first.
        """
        ...

    def session_troubles(self, session_id: int) -> list[SessionTrouble]:
        """Count the files that failed in a session, by class of error, the most frequent first."""
        ...

    def retry(self, order: RetryOrder) -> RetryResult:
        """Have files of one delivery tried again, with all their attempts before them.

        In transactions of some thousand files; may be repeated. Files of the running session are
        pending again; those of ended ones get a successor in a running one, so that an ended
        session keeps what it counted. It is written down who asked, when and why.
        """
        ...


class AskedAgain(StrEnum):
    """What came of asking for a session's registration."""

    ASKED = "asked"
    RUNNING = "the session has not ended"
    NOBODY = "nobody is to be told"


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterLine:
    """What somebody was, or is to be, told of a session; `status`, `answer` and `problem` are those
    of the last attempt.
    """

    kind: LetterKind
    endpoint: str
    digest: str
    idempotency_key: str
    state: LetterState
    attempts: int
    asked_at: datetime
    next_at: datetime | None
    told_at: datetime | None
    status: int | None
    answer: str
    problem: str | None


class ControlLedger(Ledger, StoryLedger, Protocol):
    """What people's requests need of the ledger, to look and to set."""

    def letters_of(self, session_id: int) -> list[LetterLine]:
        """Tell what others were told of a session, in the order in which it was written."""
        ...

    def ask_letter_again(self, session_id: int, endpoint: EndpointBinding | None) -> AskedAgain:
        """Have the registration of a session told once more, under the key that it has.

        To `endpoint`, else to whom its delivery tells. It is written now if it never was.
        """
        ...
