"""The values that everything else passes around. Words are those of docs/glossary.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FileKind(StrEnum):
    """What a file holds, judged by its extension alone."""

    AUDIO = "audio"
    IMAGE = "image"
    VIDEO = "video"
    SIDECAR = "sidecar"
    OTHER = "other"


class UploadState(StrEnum):
    """Where one file (one version of it) stands in the ledger.

    `uploading` is never written into a file's row: a file is uploading while its row in the
    upload queue carries a claim.
    """

    PENDING = "pending"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    SKIPPED = "skipped"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    VANISHED = "vanished"


class DeliveryState(StrEnum):
    """What a delivery is doing. When several hold, the first in this order is shown."""

    DISABLED = "disabled"
    PAUSED = "paused"
    OFFLINE = "offline"
    BLOCKED = "blocked"
    SWEEPING = "sweeping"
    WATCHING = "watching"


class EntryType(StrEnum):
    """Type of a folder entry, in the letters of `find -printf %y`."""

    FILE = "f"
    FOLDER = "d"
    LINK = "l"
    PIPE = "p"
    SOCKET = "s"
    BLOCK_DEVICE = "b"
    CHARACTER_DEVICE = "c"
    UNKNOWN = "U"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What tells one version of a file from the next without reading it.

    Never the inode: removable media reuse inodes. Times are nanoseconds since 1970, as the
    kernel gives them.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One folder entry as it was just seen on disk. `path` is relative to the delivery's root."""

    path: bytes
    fingerprint: Fingerprint
    entry_type: EntryType = EntryType.FILE


class HintKind(StrEnum):
    """What the watcher says happened to a path."""

    CLOSED = "closed"
    """A writer closed the file: it may be complete."""
    APPEARED = "appeared"
    """The file was created, or renamed to this name: it may still be growing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hint:
    """A path of a delivery that the watcher thinks worth a look. May be missing or doubled."""

    delivery: str
    path: bytes
    kind: HintKind


class DoubtKind(StrEnum):
    """Why the watcher can't vouch for what it reported: each asks for a sweep."""

    OVERFLOW = "overflow"
    HINTS_DROPPED = "hints_dropped"
    EMITTER_DEAD = "emitter_dead"
    ROOT_REPLACED = "root_replaced"
    MOUNTS_CHANGED = "mounts_changed"
    FOLDERS_MOVED = "folders_moved"
    FOLDER_CLOSED = "folder_closed"
    """A folder came that we may not look into: a sweep says so, and which."""
    CANARY_LOST = "canary_lost"
    """An event that we caused ourselves did not come back."""
    FILES_GONE = "files_gone"
    """Files were not there when their turn came: a sweep judges them all together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """The watcher may have missed something in this delivery; a sweep settles it."""

    delivery: str
    kind: DoubtKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A worker's lease on one file that is ready.

    `claim_number` only ever rises; an outcome whose number is not the row's is of a lost claim
    and is dropped. `predecessor_sha256` is the digest of the version that this one replaces,
    if that one was stored: equal bytes mean that only the timestamps changed. `listed`: a listing
    found an object under the file's key, so it is looked at before anything is sent. `unlisted`:
    nobody knows yet what is below the delivery's prefix, because it was never listed to its end.
    """

    upload_id: int
    delivery_id: int
    path: bytes
    path_text: str
    fingerprint: Fingerprint
    claim_number: int
    attempts: int
    crashes: int
    predecessor_sha256: bytes | None = None
    listed: bool = False
    unlisted: bool = False


class StoreCheck(StrEnum):
    """What the store verified of the bytes that it received. Recorded per file."""

    PAYLOAD_HASH = "payload-hash"
    CONTENT_MD5 = "content-md5"
    READ_BACK = "read-back"
    ETAG = "etag"
    """The store did not check, but answered an ETag that is the MD5 of our bytes."""
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What the store answered about an object that holds exactly the file's bytes."""

    object_key: str
    sha256: bytes
    etag: str | None = None
    version_id: str | None = None
    checksum_sha256: str | None = None
    """The store's own SHA-256 of the object, base64, where it gave one."""
    store_check: StoreCheck = StoreCheck.NONE
    conflict: bool = False
    """Other content was already there under the plain key, so this is stored beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSummary:
    """How a sweep ended.

    A sweep is complete when the finder listed every folder without an error. A partial one
    adds files, but marks nothing gone and ends no session; `problem` says why.
    """

    started_at: datetime
    files: int = 0
    folders: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    ignored: int = 0
    unsettled: int = 0
    complete: bool = True
    problem: str | None = None
