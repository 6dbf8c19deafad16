"""The interfaces between the engine and the outside world, with their contracts in prose.

Adapters implement them; the engine knows nothing else of the outside. Each contract says whether
a call blocks, whether threads may share the object, whether a call may be repeated, and what it
raises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from sensordrop.core.check import Check
from sensordrop.core.controls import Control, ControlKind
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.core.guard import VanishRule
from sensordrop.core.letters import Answer, LetterKind, LetterPlan, LetterState
from sensordrop.core.lifecycle import Action, AlreadyStored, Stored
from sensordrop.core.model import (
    Claim,
    Doubt,
    Fingerprint,
    Hint,
    Sighting,
    SweepSummary,
)
from sensordrop.core.progress import SessionProgress
from sensordrop.core.receipt import Accounted, FileFacts, Proof
from sensordrop.core.season import Season, SeasonScope
from sensordrop.core.selection import Selection
from sensordrop.core.story import DeliveryPlace, FileStory
from sensordrop.core.verification import (
    CheckMethod,
    ExtraObject,
    Finding,
    FoundObject,
    KnownObject,
    Problem,
)
from sensordrop.core.vitals import LedgerReading, StationVitals


class StopFlag(Protocol):
    """Says that the work in hand should end. A `threading.Event` is one."""

    def is_set(self) -> bool:
        """Tell whether to stop. Never blocks; safe from every thread."""
        ...


class ServiceManager(Protocol):
    """Whoever started the daemon and wants to know how it is (systemd). Never blocks; thread-safe.

    Where nobody wants to know, every call does nothing.
    """

    def ready(self) -> None:
        """Say that the start is complete."""
        ...

    def status(self, text: str) -> None:
        """Give the one line that an operator sees first."""
        ...

    def alive(self) -> None:
        """Say that every part turns. May be called at any rate."""
        ...

    def reloading(self) -> None:
        """Say that another configuration is being taken up."""
        ...

    def reloaded(self) -> None:
        """Say that this is over, however it ended."""
        ...

    def stopping(self) -> None:
        """Say that the daemon ends in order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ReloadOutcome:
    """What came of a try to take another configuration up."""

    problems: tuple[str, ...] = ()
    """Why it was not taken, a line each; none: it is in force."""
    changes: str = ""
    """What it changed, for people."""
    needs_restart: tuple[str, ...] = ()
    """Keys whose new values hold only from the next start on."""
    waits: bool = False
    """Nothing is wrong with it: it is tried again until it can be taken."""

    @property
    def taken(self) -> bool:
        """Tell whether it is in force."""
        return not self.problems


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
        self,
        root: str,
        stop: StopFlag,
        progress: Callable[[int], None],
        *,
        strict: bool = False,
    ) -> Iterator[ListingChunk]:
        """Yield the listing in pieces of bounded size; afterwards `report` tells how it ended.

        A name that its folder has and that is not there when it is looked at is left out: it was
        removed just now. On a damaged card such a name stays, and nobody can say what it holds, so
        that with `strict` the listing is not complete then.

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
        """Stop watching a delivery's root. Without a watch it does nothing.

        Waits while the watch is begun or looked at on another thread.
        """
        ...

    def check(self, delivery: str) -> None:
        """Look for trouble: dead emitters, a replaced root, changed mounts, events of our own that
        did not come back; raise doubts.

        Called about once a second. A watch in trouble is begun anew here. Blocks on the
        delivery's disk, and on nothing of other deliveries.
        """
        ...

    def watching(self, delivery: str) -> bool:
        """Tell whether this delivery is being watched by a living watch. Never blocks."""
        ...

    def canary_age_seconds(self, delivery: str) -> float | None:
        """Tell how long ago an event that we caused ourselves last came through the watch; None:
        none has yet, or there is no watch. Some 30 seconds are ordinary. Never blocks.
        """
        ...

    def problem(self, delivery: str) -> str | None:
        """Say what keeps a delivery from being watched, wholly or partly, and what to do.

        Never blocks.
        """
        ...

    def close(self) -> None:
        """End all watching. May be repeated."""
        ...


# --- reading ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class DigestPlan:
    """Which digests a destination wants of a file beside the SHA-256 of all of it.

    `piece_bytes`: the file goes out in pieces of this size, and each wants digests of its own.
    """

    md5: bool = True
    piece_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """Digests of a file's consecutive pieces, each `piece_bytes` long, the last one shorter.

    `md5s` is empty where the plan asked for no MD5.
    """

    piece_bytes: int
    sha256s: Sequence[bytes]
    md5s: Sequence[bytes]


class RootMissingError(Exception):
    """The delivery's folder itself is not there, or is not a folder."""


class FileGoneError(Exception):
    """The file is not there, though its delivery's folder is."""


class OpenFile(Protocol):
    """One file opened for one attempt. Also a `Content`. Used by one thread at a time."""

    @property
    def size_bytes(self) -> int:
        """Size when it was opened."""
        ...

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the bytes as `digest` read them."""
        ...

    @property
    def md5(self) -> bytes:
        """MD5 of the same bytes; where `digest` was not asked for it, the file is read again."""
        ...

    @property
    def pieces(self) -> Pieces | None:
        """Digests of the file's pieces, where `digest` was asked for them."""
        ...

    @property
    def memory(self) -> bytes | None:
        """All of the bytes that were hashed, where they were few enough to be kept."""
        ...

    @property
    def device(self) -> int:
        """On which file system (device number) the file is."""
        ...

    @property
    def opened(self) -> Fingerprint:
        """The file's size and times when it was opened."""
        ...

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Read the same file again from its first byte."""
        ...

    def fingerprint(self) -> Fingerprint:
        """Tell the file's size and times as they are now."""
        ...

    def being_written(self) -> bool:
        """Tell whether somebody holds the file open for writing, where the system can say."""
        ...

    def digest(self, plan: DigestPlan, stop: StopFlag) -> int:
        """Read the file once for all its digests; give the number of bytes read.

        Blocks on the disk. Raises FailureError, and InterruptedAttemptError when `stop` is set.
        """
        ...


class Source(Protocol):
    """A delivery's folder as it is read: never through links, never changed.

    Safe from every thread. All calls block on the disk and may be repeated.
    """

    def device(self) -> int | None:
        """Tell on which file system (device number) the root is; None if it is missing."""
        ...

    def is_empty(self) -> bool:
        """Tell whether the root holds nothing at all (or can't be listed)."""
        ...

    def filesystem(self) -> str:
        """Name the root's file system so that it is known again after a restart or when the disk
        is plugged in anew: by its UUID where it has one. '' where it can't be told.
        """
        ...

    def is_remote(self) -> bool:
        """Tell whether the root is on a network share, or may be; False also if it is missing."""
        ...

    def mount_changes(self) -> int:
        """Tell how often anything was mounted or unmounted on this machine since the start.

        Never blocks.
        """
        ...

    def look(self, path: bytes) -> Sighting | None:
        """Look at one path without following links; None if it is not there.

        Raises OSError for everything but "not there".
        """
        ...

    def open(self, path: bytes) -> AbstractContextManager[OpenFile]:
        """Open one file at once; leaving the `with` closes it.

        Raises RootMissingError, FileGoneError, FailureError.
        """
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
        """MD5 of the same bytes: for stores that check nothing else, and for their ETags.

        Where it was not planned for, asking for it reads the file again.
        """
        ...

    @property
    def pieces(self) -> Pieces | None:
        """Digests of the pieces that the content goes out in, where they were planned for."""
        ...

    @property
    def memory(self) -> bytes | None:
        """All of the bytes that were hashed, where they were few enough to be kept."""
        ...

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Read the same opened file again from its first byte. Blocks on the disk."""
        ...


class Turn(Protocol):
    """One transfer's place in the queue for what limits let through. Used by one thread.

    `leave` it in any case, or its place keeps what it was given.
    """

    def take(self, wanted: int) -> int:
        """Give how many bytes may go out now, at most `wanted`; 0: not yet, and in the queue.

        Never blocks. What was taken counts as sent.
        """
        ...

    def ready(self) -> bool:
        """Tell whether `take` would give something now. Never blocks."""
        ...

    def wait_seconds(self) -> float:
        """Say in how many seconds it is worth asking again: an estimate, never above one."""
        ...

    def leave(self) -> None:
        """Go out of the queue and give back what was not taken. May be repeated."""
        ...


class Throttle(Protocol):
    """The limits that a destination's bytes fall under. Safe from every thread; never blocks."""

    @property
    def limited(self) -> bool:
        """Tell whether any limit holds right now. May change at any time."""
        ...

    def turn(self) -> Turn:
        """Give a transfer its place. Whoever waits is served in the order of asking."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRequest:
    """One request, ready to go: its URL is encoded, its headers are signed."""

    method: str
    url: str
    headers: Mapping[str, str]
    ca_file: str
    """The certificates that the other side's is checked against."""
    proxy: str = ""
    """URL of a proxy; empty: none, whatever the environment says."""
    body: BinaryIO | None = None
    size_bytes: int = 0
    throttle: Throttle | None = None
    """The limits that the body falls under; None: under none, ever."""
    stall_seconds: float | None = None
    """A request on which no byte moves for so long is ended; None: the lane's own."""
    operation: str = ""
    """What the request is, in the words of whom it goes to: it is counted under this name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAnswer:
    """What came back. `trouble` is the transport's (number, words) where no whole answer came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    trouble: tuple[int, str] | None = None


class CountRequest(Protocol):
    """Counts requests. Never blocks for longer than another thread counts; safe from every thread."""

    def __call__(self, operation: str, status: int, seconds: float, sent_bytes: int) -> None:
        """Count a request that has ended; status 0 means that no whole answer came."""
        ...


QuickSteps = Generator[HttpRequest, HttpAnswer, Stored | None]
"""The requests of one attempt, one after the other, each answered before the next. The result is
None where the destination needs longer: then `Destination.store` does it."""


class Lane(Protocol):
    """Drives many requests at once. Belongs to one thread, except for `wake`."""

    def __len__(self) -> int:
        """Count the requests that are running."""
        ...

    def start(self, ticket: int, request: HttpRequest) -> None:
        """Begin a request; `step` gives its answer under the ticket. Never blocks."""
        ...

    def step(self, seconds: float) -> list[tuple[int, HttpAnswer]]:
        """Let things move for at most so long, and give the answers that are whole."""
        ...

    def wake(self) -> None:
        """Make a waiting `step` return. Safe from every thread."""
        ...

    def drop(self, ticket: int) -> None:
        """Break off one request; no answer will come. One that is not running is no mistake."""
        ...

    def abandon(self) -> list[int]:
        """Break off all that is running; give the tickets."""
        ...

    def close(self) -> None:
        """Let go of everything. May be repeated."""
        ...


class Flight(Protocol):
    """The requests that belong to one attempt, sent by somebody else's thread.

    Belongs to one thread. Leaving it breaks off what still runs, and waits until nothing of it
    reads a body any more: only then may the file be closed.
    """

    def start(self, number: int, make: Callable[[], HttpRequest]) -> None:
        """Have a request sent when there is room; `wait` gives its answer under the number.

        `make` is called on the sender's thread just before the request goes out, so that a
        signature is fresh. Never blocks.
        """
        ...

    def wait(self, seconds: float) -> list[tuple[int, HttpAnswer]]:
        """Wait for answers, at most so long; give all that are there.

        Raises what `make` raised, and InterruptedAttemptError when the sender is ending.
        """
        ...


class Sender(Protocol):
    """Sends requests for threads that wait for them. Safe from every thread."""

    def flight(self, stop: StopFlag) -> AbstractContextManager[Flight]:
        """Give a thread a place to send its requests from. `stop` ends its waits."""
        ...


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


class Trail(Protocol):
    """Where it is noted which files are in work, to be read after a death that leaves no report.

    Belongs to one thread; never blocks, never raises.
    """

    def begin(self, upload_id: int) -> None:
        """Note that a file is in work. May be repeated."""
        ...

    def end(self, upload_id: int) -> None:
        """Note that it is no more. Without a begin it does nothing."""
        ...

    def alive(self) -> None:
        """Note that the process lives: what the kernel has killed by now was something else."""
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
    selection: dict[str, object]
    """The rules for what is uploaded: when they change, ignored entries are judged anew."""
    configuration: dict[str, object]
    """All settings as they are in force, without secrets: kept in the history."""
    endpoints: Sequence[EndpointBinding] = ()
    """Whom it tells about its sessions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointBinding:
    """Whom a delivery tells something: the address as it may be shown, and what stands for it."""

    kind: LetterKind
    endpoint: str
    digest: str


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
    missed: int = 0
    """New files of a listing that changed last in `Vouched`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vouched:
    """A time in which a watcher should have reported every new file, in nanoseconds since 1970."""

    since_ns: int
    until_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GoneResult:
    """What came of the waiting files that a listing did not have.

    `gone` were marked vanished; `held` is how many are held in all until somebody confirms.
    """

    gone: int = 0
    held: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SettledSighting:
    """A file that looks complete. `eager`: by its first close-after-write, not by being quiet;
    the ledger then sends it back to settle if it already knows another version of it.
    """

    sighting: Sighting
    eager: bool
    seen_ago: float | None = None
    """How many seconds ago it was first seen, where it had to settle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """One decided action on one claim, to be written down."""

    claim: Claim
    action: Action
    took_seconds: float | None = None
    """How long the attempt took; None where there was none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionReceipt:
    """The receipt that a session ends with, or why there is none. `mark` says where the session
    stood when its verifying began; `verdict` is what the receipt says.
    """

    mark: str
    number: int | None = None
    verdict: str | None = None
    digest: str | None = None
    manifest_location: str | None = None
    problem: str | None = None


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


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerState:
    """A breaker as a program has it. `failure` None: closed. `failures`: probes that failed, and the
    failure that opened it.
    """

    scope: FailureScope
    target: str
    failure: Failure | None
    failures: int
    probe_in_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenBreaker:
    """A breaker that is open in a living daemon, as the ledger has it."""

    station: str
    scope: str
    target: str
    error_class: str
    problem: str
    hint: str
    failures: int
    opened_at: datetime
    probe_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenConfiguration:
    """A configuration as the ledger keeps it: JSON, without secrets; deliveries by name."""

    daemon: Mapping[str, object]
    deliveries: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigurationState:
    """How a living daemon stands to its configuration, as the ledger has it."""

    station: str
    since: datetime
    """When it took up the one that is in force."""
    refused_at: datetime | None
    """When it was last given one that it did not take; None: it took what it was given."""
    problem: str | None
    """What was wrong with that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """This program's place in the ledger: its id owns its claims."""

    daemon_id: int
    delivery_ids: dict[str, int]
    claims_taken_back: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryCounts:
    """How one delivery stands, from the kept counts. `counts` maps states to [files, bytes]."""

    delivery_id: int
    name: str
    client: str
    project: str
    cycle: str
    enabled: bool
    state: str | None
    reason: str | None
    settling: int
    counts: dict[str, list[int]]
    uploading: int
    session_id: int | None
    session_started_at: datetime | None
    progress: SessionProgress | None
    """How the running session stands, if there is one."""
    mismatches: int
    """Stored objects that were found missing or different when they were last verified."""
    letters_delayed: int
    """Letters that could not be told yet, and are tried again."""
    letters_failed: int
    """Letters of the last 30 days that were given up."""
    daemon_alive: bool
    """Whether a daemon that looks after it has a fresh heartbeat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingInForce:
    """What holds for a station (`delivery` None) or a delivery: the control, else `configured`."""

    delivery: str | None
    configured: str | None
    """What the configuration that was used last says."""
    control: Control | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerHealth:
    """How the ledger's server is. `latency_seconds` is one question and its answer."""

    server: str
    size_bytes: int
    migration: int
    latency_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectListing:
    """A listing of a delivery's prefix that is under way."""

    listing_id: int
    began_at: datetime


ProbePath = Callable[[bytes], Fingerprint | None]
"""Looks at one path of a delivery on disk: its fingerprint, or None if it is not there."""


class Ledger(Protocol):
    """The only memory that matters. PostgreSQL is the one implementation.

    Every call is one or a few short transactions, blocks on the database, is safe from every
    thread (each has a connection of its own), and may be repeated. Each raises
    LedgerUnavailableError when the database can't be reached or ended the transaction; nothing
    is then half done, but whether the last commit happened may be unknown, which repeating
    clears up.
    """

    def register(
        self,
        *,
        station: str,
        instance: UUID,
        origin: str,
        version: str,
        bindings: Sequence[DeliveryBinding],
        daemon_configuration: dict[str, object],
        crashed: bool,
        in_work: Sequence[int] | None = None,
    ) -> Registration:
        """Write this program, its deliveries and its configuration down.

        Takes back what predecessors on the same state directory (`instance`) had claimed;
        `crashed` says that the last one is known to have died of its work, which is charged to
        the files that it had in work (None: it is not known which; then to all it had claimed). A delivery that now goes elsewhere begins a new row.
        """
        ...

    def rebind(
        self,
        *,
        daemon_id: int,
        bindings: Sequence[DeliveryBinding],
        daemon_configuration: dict[str, object],
    ) -> dict[str, int]:
        """Write down what a running daemon is configured to from now on; give the deliveries' ids.

        As with `register`, but its claims stay good, also those on files of a delivery that now
        goes elsewhere: `finish_retired` ends that one.
        """
        ...

    def refuse_configuration(self, daemon_id: int, problem: str) -> None:
        """Write down that a running daemon was given a configuration that it does not take."""
        ...

    def finish_retired(self, delivery_id: int) -> None:
        """End the session of a delivery that goes elsewhere, when nothing of it is in work any
        more. Does nothing to one that is not retired.
        """
        ...

    def heartbeat(self, daemon_id: int) -> bool:
        """Say that this program is alive. False: it was declared dead and must register anew."""
        ...

    def take_back_dead(self) -> int:
        """Free the claims of programs whose heartbeat died; give how many claims."""
        ...

    def end(self, daemon_id: int) -> None:
        """Write down that this program ended in order. What it still had claimed is free."""
        ...

    def begin_sweep(self) -> datetime:
        """Give the database's time before a listing begins, for `mark_gone`."""
        ...

    def enroll_listing(
        self,
        delivery_id: int,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
        most_unsettled: int,
        vouched: Vouched | None = None,
    ) -> EnrollResult:
        """Compare a listing with the books and enrol what is new or changed and settled.

        Streams: memory does not grow with the listing. What went on the books stays there even
        if a later chunk of rows fails. `wall_ns` is the wall clock when the listing began.
        """
        ...

    def enroll_sightings(
        self,
        delivery_id: int,
        settled: Sequence[SettledSighting],
        rules: EnrollRules,
        *,
        wall_ns: int,
    ) -> EnrollResult:
        """Enrol single files that are settled. Those that must settle longer come back."""
        ...

    def mark_gone(
        self, delivery_id: int, probe: ProbePath, *, sweep_began: datetime, rule: VanishRule
    ) -> GoneResult:
        """Mark waiting files vanished that the last complete listing did not have.

        Only directly after `enroll_listing` on the same thread, and only if that listing was
        complete. Each candidate is looked at once more with `probe`. Where the rule wants to have
        it confirmed, the files are held instead: they stay on the books and are not tried, until
        a listing has them again (`enroll_listing` sees to that) or a rule lets them vanish that
        is confirmed.
        """
        ...

    def known_roots(self, daemon_id: int, delivery_ids: Sequence[int]) -> dict[int, str]:
        """Give the file system on which each delivery's folder was last swept by this station."""
        ...

    def remember_root(self, daemon_id: int, delivery_id: int, filesystem: str) -> None:
        """Note on which file system a delivery's folder is at this station."""
        ...

    def publish(self, statuses: Sequence[DeliveryStatus]) -> None:
        """Say what deliveries are doing."""
        ...

    def publish_breakers(self, daemon_id: int, states: Sequence[BreakerState]) -> None:
        """Say which of a program's breakers opened, were probed, or closed."""
        ...

    def configurations(self, station: str | None) -> list[ConfigurationState]:
        """Tell how the living daemons of a station (None: of all) stand to their configuration."""
        ...

    def open_breakers(
        self, station: str | None, *, clients: Sequence[str] | None = None
    ) -> list[OpenBreaker]:
        """Give the breakers that are open in the living daemons of a station (None: of all), of
        projects those of the clients.
        """
        ...

    def publish_sweep(self, delivery_id: int, summary: SweepSummary) -> None:
        """Say how a sweep ended."""
        ...

    def claim(self, daemon_id: int, delivery_id: int, most: int) -> list[Claim]:
        """Lease up to `most` due files of one delivery, oldest first."""
        ...

    def claim_suspect(self, daemon_id: int, delivery_ids: Sequence[int]) -> Claim | None:
        """Lease one due file that was in work in several crashes: work on nothing beside it."""
        ...

    def release_unheld(
        self, daemon_id: int, delivery_ids: Sequence[int], held: Sequence[Claim]
    ) -> int:
        """Free this program's claims beside those in `held`; give how many.

        For after a `claim` that raised: it may have happened. Only on the thread that claims.
        """
        ...

    def due_in_seconds(self, delivery_ids: Sequence[int]) -> dict[int, float]:
        """Say in how many seconds each delivery that has files waiting has one due.

        Zero or less means now; infinity means that all of them are claimed.
        """
        ...

    def bring_forward(self, longest_waits: Mapping[int, float]) -> int:
        """Make files due that wait for longer than any wait lasts, which is given in seconds for
        each delivery; give how many.

        The database's clock was set back after they were put off. What is held stays held.
        """
        ...

    def commit(self, daemon_id: int, commits: Sequence[Commit], now: datetime) -> int:
        """Write decided actions down in one durable transaction; give how many still held.

        An action whose claim was lost meanwhile is dropped. `now` is the clock against which the
        actions' times were set.
        """
        ...

    def unfinished_uploads(self, upload_id: int) -> list[UnfinishedUpload]:
        """Give the uploads in parts that were begun for a file, oldest first, with their parts."""
        ...

    def begin_upload(
        self, claim: Claim, *, object_key: str, sha256: bytes, size_bytes: int, part_bytes: int
    ) -> int:
        """Write down that an upload in parts is about to be begun; give the record's id."""
        ...

    def name_upload(self, record_id: int, remote_id: str) -> None:
        """Write down what the store calls an upload in parts."""
        ...

    def land_parts(self, record_id: int, parts: Sequence[LandedPart]) -> None:
        """Write down parts that the store has; a number that is known is replaced."""
        ...

    def forget_upload(self, record_id: int) -> None:
        """Take an upload in parts off the list, with its parts."""
        ...

    def stale_uploads(
        self, delivery_ids: Sequence[int], *, kept_seconds: float
    ) -> list[StaleUpload]:
        """Give uploads in parts that nobody goes on with; some at a time.

        Those of files that are finished, and those on which nothing landed for `kept_seconds`.
        Never one whose file is being worked on.
        """
        ...

    def listing_age_seconds(self, delivery_id: int) -> float | None:
        """Tell how long ago the delivery's prefix was listed completely; None: never."""
        ...

    def begin_object_listing(self, delivery_id: int) -> ObjectListing:
        """Begin to list a delivery's prefix. One that was broken off is simply begun anew."""
        ...

    def add_listed(self, listing: ObjectListing, objects: Sequence[ListedObject]) -> None:
        """Take in some thousand objects of a listing. They count for claims at once."""
        ...

    def end_object_listing(self, listing: ObjectListing, objects: int) -> int:
        """Note that a listing is complete, and forget the objects that it no longer had; give how
        many. Only for a listing whose pages were all added.
        """
        ...

    def has_queued(self, delivery_id: int) -> bool:
        """Tell whether any file is pending, uploading or waiting for a retry."""
        ...

    def open_sessions(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        """Give the id of each delivery's running session, where there is one."""
        ...

    def begin_verifying(self, delivery_id: int) -> str | None:
        """Say that the running session is being verified, unless a file is not finished; give
        where it stands. May be repeated: after a restart it begins anew. What comes into the
        session takes it back.
        """
        ...

    def finish_session(
        self, delivery_id: int, *, receipt: SessionReceipt | None = None
    ) -> SessionSummary | None:
        """End the running session with its recounted numbers, unless a file is not finished.

        With a receipt it ends only where it still stands as when its verifying began; else that is
        taken back. None: there is none, or it can't end yet. A session without any file leaves no row; its
        summary then has 0 files.
        """
        ...

    def fold_counters(self) -> int:
        """Add the appended counter changes to the sums; give how many there were."""
        ...

    def health(self) -> LedgerHealth:
        """Tell how the ledger's server is. Only on a ledger that `check` accepts."""
        ...

    def status(
        self, station: str | None = None, *, clients: Sequence[str] | None = None
    ) -> list[DeliveryCounts]:
        """Tell how the deliveries stand (of one station, or of all; of the clients, or of all),
        sorted by name.
        """
        ...

    def controls(self, daemon_id: int, delivery_ids: Sequence[int]) -> list[Control]:
        """Give what people set, and still holds, for a program's station and its deliveries.

        Cheap: it may be asked once a second.
        """
        ...

    def set_control(
        self,
        kind: ControlKind,
        value: str | None,
        *,
        station: str,
        delivery: str | None,
        set_by: str,
        for_seconds: float | None = None,
        reason: str = "",
    ) -> bool:
        """Set something for a station, or for one of its deliveries, over the configuration.

        It stands until it is set anew, or ends after `for_seconds`. None ends what was set: the
        configuration holds again. False: the ledger knows no such station or delivery.
        """
        ...

    def pause_delivery(self, delivery_id: int, *, set_by: str, reason: str) -> None:
        """Pause a delivery until somebody resumes it, in place of any pause that it has."""
        ...

    def newest_retries(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        """Give the number of each delivery's last retry by hand, where there was one: a higher one
        than before means that files wait which nobody rang for. Cheap, like `controls`.
        """
        ...

    def end_control(self, control: Control, ended_by: str) -> None:
        """End something that was set for a delivery and was done; what was set since stands."""
        ...

    def settings_in_force(
        self, kind: ControlKind, station: str, *, clients: Sequence[str] | None = None
    ) -> list[SettingInForce]:
        """Tell what holds for a station and its enabled deliveries (of the clients, or of all), the
        station first.
        """
        ...

    def close_own(self) -> None:
        """Close the calling thread's connection, before the thread ends."""
        ...

    def close(self) -> None:
        """Close all connections. May be repeated."""
        ...


# --- being watched ------------------------------------------------------------------------


class VitalsLedger(Protocol):
    """The part of the ledger that telemetry reads; the contract of `Ledger` holds.

    It only reads, waits for no lock, and what takes seconds is given up.
    """

    def ping(self) -> float:
        """Ask for nothing, and tell how many seconds the answer took. Finding a connection is not
        counted.
        """
        ...

    def read_vitals(self, daemon_id: int, delivery_ids: Sequence[int]) -> LedgerReading:
        """Read how deliveries stand, from the kept counts: its cost does not grow with files."""
        ...

    def close_own(self) -> None:
        """See `Ledger.close_own`."""
        ...


class Telemetry(Protocol):
    """Where the daemon's vitals can be had from: whoever shows them asks here, at any time."""

    def vitals(self) -> StationVitals:
        """Give how the daemon is right now.

        Never blocks, never asks the ledger or a disk, and takes no lock that uploads wait for; so
        it may be asked as often as somebody likes. Safe from every thread.
        """
        ...


# --- telling ------------------------------------------------------------------------------


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


# --- running by hand ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What a run would begin with: files that are new, changed, ignored, or still settling, and
    the bytes of all but the ignored.
    """

    new: int
    changed: int
    ignored: int
    unsettled: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LastSettings:
    """The configuration, without secrets, that a delivery was last used with, and where."""

    configuration: dict[str, object]
    station: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftToDo:
    """Whether any file waits or is in work, and any that is not held because it is missing."""

    any: bool
    to_be_had: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryReport:
    """What a daemon published last of a delivery; `state` None: nothing yet."""

    state: str | None = None
    reason: str | None = None
    settling: int = 0
    swept_at: datetime | None = None
    """When its last sweep ended, by the ledger's clock."""
    sweep_problem: str | None = None
    """Why that sweep was partial; None: it was complete."""


class BatchLedger(Ledger, StoryLedger, Protocol):
    """The ledger as a run by hand uses it; the contract of `Ledger` holds."""

    def hold_run(self, folder: str) -> bool:
        """Take hold of a folder for the calling thread's connection, as long as that lives.

        False: another run has it. Does not wait. May be repeated by whoever holds it.
        """
        ...

    def looked_after(self, delivery_id: int) -> bool:
        """Tell whether a living daemon (no run by hand) looks after a delivery."""
        ...

    def ever_looked_after(self, delivery_id: int) -> bool:
        """Tell whether a daemon, living or not, ever looked after a delivery."""
        ...

    def left_to_do(self, delivery_id: int) -> LeftToDo:
        """Tell whether files of a delivery are not finished, and whether any of them can be."""
        ...

    def delivery_report(self, delivery_id: int) -> DeliveryReport:
        """Tell what the daemon that looks after a delivery published of it last."""
        ...

    def begin_session(self, delivery_id: int) -> int:
        """Give the delivery's running session; one is opened where there is none."""
        ...

    def forget_own_pause(self, delivery_id: int, *, set_by: str, ended_by: str) -> None:
        """End the pause of a delivery that `set_by` set, if there is one. May be repeated."""
        ...

    def last_settings(self, delivery_id: int) -> LastSettings | None:
        """Give what a delivery was last used with."""
        ...

    def failed_now(self, delivery_id: int) -> list[SessionTrouble]:
        """Count the delivery's quarantined files by class of error, the most frequent first."""
        ...

    def letters_of(self, session_id: int) -> list[LetterLine]:
        """Tell how all that is to be told about a session stands."""
        ...

    def dry_run(
        self,
        delivery_id: int | None,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
    ) -> DryRun:
        """Compare a listing with the books and change nothing. `delivery_id` None: they are empty."""
        ...


# --- verifying ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyScope:
    """What is to be verified of one delivery; None: all of it."""

    delivery_id: int
    session_id: int | None = None
    sensor: str | None = None

    @property
    def narrowed(self) -> bool:
        """Whether it is less than all of the delivery."""
        return self.session_id is not None or self.sensor is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryToVerify:
    """A delivery as the ledger has it. `endpoint_url` is '' for Amazon's own."""

    delivery_id: int
    name: str
    station: str | None
    retired: bool
    endpoint_url: str
    bucket_name: str
    s3_prefix: str
    local_directory: str
    swept: bool
    last_sweep_complete: bool | None
    last_sweep_problem: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """The first items of a list, and how many there are of them in all."""

    problems: Sequence[Problem]
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedObject:
    """An object of the verification under way; `number` is its place in it."""

    number: int
    known: KnownObject


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyResult:
    """What a verification came to."""

    checked: Mapping[str, int]
    missing: int
    different: int
    unchecked: int
    problems: Sequence[Problem]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditStep:
    """What the audit has to look at now.

    `allowance` is how many objects the daily share allows by now (with a fraction), `stored` how
    many there are in all. `objects` are the next ones, at most as many as asked for and allowed;
    `position` is how far the walk over all objects has come with them, and `round_over` says that
    this was the last of the round.
    """

    allowance: float
    stored: int
    objects: Sequence[KnownObject] = ()
    position: int = 0
    round_over: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """One object, and what was found out about it."""

    known: KnownObject
    method: CheckMethod
    finding: Finding


class VerifyLedger(Protocol):
    """The part of the ledger that verification works on; the contract of `Ledger` holds.

    A verification lives in the calling thread's connection: all calls of one are made on one
    thread, and when the connection is lost it must begin anew. Two million objects are compared
    by SQL and never pass through here one by one.
    """

    def deliveries_to_verify(
        self, *, station: str | None, session_id: int | None
    ) -> list[DeliveryToVerify]:
        """Give a station's deliveries (None: all stations'), or the one that a session is of."""
        ...

    def unaccounted(
        self,
        scope: VerifyScope,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
        most: int,
    ) -> Listed:
        """Compare a listing of the folder with the books; give the files that are not on them as
        they are on disk. Nothing is enrolled.
        """
        ...

    def unfinished(self, scope: VerifyScope, *, most: int) -> Listed:
        """Give the files of a scope that are on the books and not stored, each with the reason."""
        ...

    def begin_verification(self, scope: VerifyScope) -> tuple[int, int]:
        """Take note of all stored objects of a scope; give how many, and their bytes."""
        ...

    def add_verify_listed(self, objects: Sequence[ListedObject]) -> None:
        """Take in some thousand objects of a listing, to be compared."""
        ...

    def compare_listed(self) -> None:
        """Compare what was listed with what is known: size and ETag."""
        ...

    def doubtful(self, *, after: int, most: int) -> list[VerifiedObject]:
        """Give the next objects, by number, that are not known to be the same."""
        ...

    def pick(self, most: int) -> None:
        """Choose so many of the objects by chance, for a closer look."""
        ...

    def pick_unproven(self, *, every_version: bool) -> int:
        """Choose the objects whose bytes are only proven by reading them: nothing ties the store's
        ETag to them, or what was found contradicts it. Gives how many. Without `every_version`
        none that has a successor is chosen.
        """
        ...

    def picked(self, *, after: int, most: int) -> list[VerifiedObject]:
        """Give the next objects, by number, that were picked."""
        ...

    def note_findings(self, method: CheckMethod, findings: Sequence[tuple[int, Finding]]) -> None:
        """Note what was found out about objects, by their numbers."""
        ...

    def give_up(self, reason: str, *, picked_but_by: CheckMethod | None = None) -> None:
        """Note why the objects that have no result have none; with `picked_but_by`, also that
        those which were picked and not verified by this method have none.
        """
        ...

    def end_verification(self, scope: VerifyScope, *, most: int) -> VerifyResult:
        """Write down for good what was found, and give what it came to."""
        ...

    def extra_objects(self, scope: VerifyScope, *, most: int) -> tuple[int, list[ExtraObject]]:
        """Count the listed objects that no delivery of the destination knows; give the first."""
        ...

    # --- the audit ---

    def audit_step(
        self, daemon_id: int, delivery_ids: Sequence[int], *, share_per_day: float, most: int
    ) -> AuditStep:
        """Say what the audit of this program's station has to look at now: of the deliveries
        named, the objects that come next and were not verified since this round began.
        """
        ...

    def note_audit(
        self,
        daemon_id: int,
        checked: Sequence[Checked],
        *,
        position: int | None,
        round_over: bool,
        used_seconds: float,
    ) -> set[int]:
        """Write down what was looked at and how far the walk has come (None: no further), and that
        the share of so much time was used. Gives the uploads whose objects are newly missing or
        different.
        """
        ...


class SeasonLedger(Protocol):
    """The part of the ledger that overviews are made from; the contract of `Ledger` holds.

    It reads the views that dashboards read, and nothing else.
    """

    def season(self, scope: SeasonScope, *, most_failures: int) -> Season:
        """Read how a season stands, all as of one moment, with the newest failures. Takes no lock
        that anybody waits for.
        """
        ...

    def season_names(self) -> list[tuple[str, str, str]]:
        """Give client, project and cycle of all deliveries, each combination once."""
        ...


# --- telling others about sessions --------------------------------------------------------


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


# --- receipts -----------------------------------------------------------------------------


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
