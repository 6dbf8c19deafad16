"""Values that the ledger takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sensordrop.core.controls import Control
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.core.letters import LetterKind
from sensordrop.core.lifecycle import Action
from sensordrop.core.model import Claim, Fingerprint, Sighting
from sensordrop.core.progress import SessionProgress
from sensordrop.core.selection import Selection


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
