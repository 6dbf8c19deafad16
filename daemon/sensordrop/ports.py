"""The interfaces between the engine and the outside world, with their contracts in prose.

Adapters implement them; the engine knows nothing else of the outside. Each contract says whether
a call blocks, whether threads may share the object, whether a call may be repeated, and what it
raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Protocol

from sensordrop.core.lifecycle import Action, AlreadyStored, Stored
from sensordrop.core.model import (
    Claim,
    Doubt,
    Fingerprint,
    Hint,
    Sighting,
)
from sensordrop.core.selection import Selection


class StopFlag(Protocol):
    """Says that the work in hand should end. A `threading.Event` is one."""

    def is_set(self) -> bool:
        """Tell whether to stop. Never blocks; safe from every thread."""
        ...


class Clock(Protocol):
    """Time. Never blocks; safe from every thread."""

    def now(self) -> datetime:
        """Give the wall clock, with its time zone (UTC)."""
        ...

    def wall_ns(self) -> int:
        """Give the wall clock in nanoseconds since 1970, to compare with file times."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never run backwards, to measure waits."""
        ...


# --- finding ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingReport:
    """How a listing ended. Complete means: every folder was read, without any error."""

    files: int
    folders: int
    complete: bool
    problem: str | None = None
    """Why it is not complete: the first errors, in words, with the paths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingChunk:
    """A piece of a listing, ready to be copied into the ledger.

    `rows` are whole lines in PostgreSQL's COPY text format, six columns, each line ended by a
    newline: entry type (one letter of `EntryType`), size in bytes, modification time and change
    time in seconds with fraction, path (bytea in escape format), and the path as text where it
    differs from the path's bytes read as UTF-8, else the empty string.
    """

    rows: bytes
    entries: int


class Finder(Protocol):
    """Lists a delivery's folder. Both implementations give the same answer on the same tree.

    Entries are everything under the root that is not a folder: regular files, links, pipes,
    sockets, devices. Links are never followed (the root itself may be one). A folder that can't
    be read makes the listing incomplete; a folder with a junk name (`JUNK_FOLDERS`) that can't
    be read is itself one entry of type folder, and no error.
    """

    def list(
        self, root: str, stop: StopFlag, progress: Callable[[int], None]
    ) -> Iterator[ListingChunk]:
        """Yield the listing in pieces of bounded size; afterwards `report` tells how it ended.

        Blocks on the disk; memory does not grow with the number of files. `progress` is called
        with the number of entries so far, at least every 10,000. Ends early when `stop` is set,
        and the listing is then not complete. Never raises for what is wrong with the folder:
        that is in the report. One listing at a time per object.
        """
        ...

    @property
    def report(self) -> ListingReport:
        """How the last listing ended. Only valid after its iterator was exhausted."""
        ...


# --- watching -----------------------------------------------------------------------------


class HintSink(Protocol):
    """Where the watcher puts what it saw. Never blocks; safe from every thread."""

    def offer(self, hint: Hint) -> None:
        """Take a hint. A full sink drops it and remembers that a sweep is needed."""
        ...

    def doubt(self, doubt: Doubt) -> None:
        """Take note that something may have been missed: the delivery will be swept."""
        ...


class Watcher(Protocol):
    """Watches the folders of deliveries and offers hints. May miss anything; never lies low:
    whatever it knows that it missed becomes a doubt.
    """

    def watch(self, delivery: str, root: str) -> None:
        """Begin (or begin anew) to watch a root with all its sub-folders.

        May block while it walks the folders. Repeating it replaces the old watch.
        Raises OSError if the root can't be watched at all (missing, watch limit reached).
        """
        ...

    def unwatch(self, delivery: str) -> None:
        """Stop watching a delivery's root. Without a watch it does nothing."""
        ...

    def check(self) -> None:
        """Look for trouble: dead emitters, replaced roots, changed mounts; raise doubts.

        Short; called about once a second from one thread. A watch in trouble is begun anew here.
        """
        ...

    def watching(self, delivery: str) -> bool:
        """Tell whether this delivery is being watched by a living watch."""
        ...

    def close(self) -> None:
        """End all watching. May be repeated."""
        ...


# --- storing ------------------------------------------------------------------------------


class Content(Protocol):
    """One opened file's bytes, for one attempt. Used by one thread at a time."""

    @property
    def size_bytes(self) -> int:
        """Size when it was opened."""
        ...

    @property
    def sha256(self) -> bytes:
        """SHA-256 of all bytes as they were read before the attempt to store them."""
        ...

    @property
    def md5(self) -> bytes:
        """MD5 of the same bytes: for stores that check nothing else, and for their ETags."""
        ...

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Read the same opened file again from its first byte. Blocks on the disk."""
        ...


class Destination(Protocol):
    """A place that keeps objects. S3 is the first; others follow behind the same interface."""

    def store(self, content: Content, object_key: str, stop: StopFlag) -> Stored | AlreadyStored:
        """Get the content stored under the key, never over other content.

        Where the key holds other content already, the content goes beside it under the conflict
        key. Where it holds the same content, nothing is sent. What the store answers is compared
        with what was sent.

        Blocks on the network, bounded by time-outs; safe from many threads; may be repeated: the
        same content under the same key is stored once. Raises FailureError, classified, and
        InterruptedAttemptError when `stop` ended it. Tries once: retrying is the engine's.
        """
        ...

    def probe(self) -> str:
        """Check that the destination can be used, and say in one line what was checked.

        A few small requests with short time-outs. Raises FailureError.
        """
        ...


# --- the ledger ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryBinding:
    """What the ledger needs to know of one configured delivery to have its row."""

    name: str
    client: str
    project: str
    cycle: str
    local_directory: str
    bucket_name: str
    s3_prefix: str
    endpoint_url: str | None
    aws_region: str | None
    sensor_level: int
    shared: bool
    enabled: bool
    configuration: dict[str, object]
    """All settings as they are in force, without secrets: kept in the history."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnrollRules:
    """How the ledger judges what was seen in a delivery."""

    selection: Selection
    sensor_level: int
    quiet_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EnrollResult:
    """What came of enrolling a batch or a listing."""

    new: int = 0
    changed: int = 0
    ignored: int = 0
    gone: int = 0
    session_opened: int | None = None
    unsettled: Sequence[Sighting] = field(default_factory=tuple)
    """Files that must settle first, at most as many as asked for."""
    unsettled_left: int = 0
    """How many more there are than fit in `unsettled`: the next sweep finds them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettledSighting:
    """A file that looks complete. `eager`: by its first close-after-write, not by being quiet;
    the ledger then sends it back to settle if it already knows another version of it.
    """

    sighting: Sighting
    eager: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """One decided action on one claim, to be written down."""

    claim: Claim
    action: Action


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionSummary:
    """An ended session's row."""

    session_id: int
    files: int
    uploaded: int
    skipped: int
    failed: int
    superseded: int
    vanished: int
    bytes_uploaded: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryStatus:
    """What the scout publishes of a delivery for others to read in the ledger."""

    delivery_id: int
    state: str
    reason: str | None
    settling: int


ProbePath = Callable[[bytes], Fingerprint | None]
"""Looks at one path of a delivery on disk: its fingerprint, or None if it is not there."""
