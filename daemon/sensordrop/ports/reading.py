"""Opening and reading dropped files, and how they are hashed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from sensordrop.core.model import Fingerprint, Sighting
from sensordrop.ports.life import StopFlag


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


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldUp:
    """A call to the disk that has not come back yet."""

    call: int
    """Tells it from all others of its folder."""
    path: bytes
    seconds: float
    """For how long it has been waiting."""


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

    def held_up(self) -> HeldUp | None:
        """Tell which look at a file, or read of one, waits for longest; None: none is under way.

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
