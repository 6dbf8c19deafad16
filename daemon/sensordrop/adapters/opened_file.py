"""One open file of the drop folder: read for its digests, and read again while it is sent."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Self, cast

from sensordrop.adapters.by_path import read_at
from sensordrop.adapters.disk_calls import DiskCalls
from sensordrop.core.failure import (
    Failure,
    FailureError,
    FailureScope,
    InterruptedAttemptError,
)
from sensordrop.core.keys import path_text
from sensordrop.core.model import Fingerprint
from sensordrop.ports.life import StopFlag
from sensordrop.ports.reading import DigestPlan, Pieces

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    _HAS_LEASES = False
else:
    _HAS_LEASES = hasattr(fcntl, "F_SETLEASE")

IN_MEMORY_BYTES = 8 * 1024 * 1024
"""Files up to this size are read once and sent from memory; larger ones are read twice."""
READ_BYTES = 1024 * 1024
"""Bytes read at a time while hashing."""

_STATION = {
    errno.EMFILE: ("descriptors", "raise LimitNOFILE of the service, or lower max_workers"),
    errno.ENFILE: ("descriptors", "raise the sysctl fs.file-max, or end what holds so many files"),
    errno.ENOMEM: ("memory", "free memory, or lower max_workers"),
}
_EARLIEST, _LATEST = -(2**63), 2**63 - 1
_NOT_REGULAR = frozenset({errno.ELOOP, errno.ENXIO})


def _read_into(descriptor: int, buffer: bytearray | memoryview, at: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], at)
    block = read_at(descriptor, len(buffer), at)
    buffer[: len(block)] = block
    return len(block)


class _Disk:
    """An open file's calls to the disk, each noted while it is under way."""

    def __init__(self, descriptor: int, path: bytes, calls: DiskCalls) -> None:
        self._descriptor = descriptor
        self._path = path
        self._calls = calls
        self._closed = False

    def read(self, amount: int, at: int) -> bytes:
        self._see_open()
        call = self._calls.begin(self._path)
        try:
            return read_at(self._descriptor, amount, at)
        except OSError as error:
            raise classified(error, self._path, "read") from error
        finally:
            self._calls.end(call)

    def read_into(self, buffer: bytearray | memoryview, at: int) -> int:
        self._see_open()
        call = self._calls.begin(self._path)
        try:
            return _read_into(self._descriptor, buffer, at)
        except OSError as error:
            raise classified(error, self._path, "read") from error
        finally:
            self._calls.end(call)

    def look(self) -> os.stat_result:
        call = self._calls.begin(self._path)
        try:
            return os.fstat(self._descriptor)
        finally:
            self._calls.end(call)

    def _see_open(self) -> None:
        """Stop whoever reads on for an attempt that was given up: the descriptor's number may be
        another file's by now.
        """
        if self._closed:
            raise InterruptedAttemptError

    def close(self) -> None:
        self._closed = True
        call = self._calls.begin(self._path)
        try:
            os.close(self._descriptor)
        finally:
            self._calls.end(call)


class OpenedFile:
    """One open file: `ports.Content`, and what an attempt must know of it."""

    def __init__(
        self, descriptor: int, path: bytes, found: os.stat_result, calls: DiskCalls
    ) -> None:
        """Take a descriptor over; `found` is what the system says of it."""
        self._disk = _Disk(descriptor, path, calls)
        self._descriptor = descriptor
        self._path = path
        self._memory: bytes | None = None
        self._sha256 = b""
        self._md5: bytes | None = None
        self._pieces: Pieces | None = None
        self._opened = fingerprint_of(found)
        self.size_bytes = found.st_size
        self.device = found.st_dev

    def __enter__(self) -> Self:
        """Use the file; leaving closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._disk.close()

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the bytes as `digest` read them."""
        return self._sha256

    @property
    def md5(self) -> bytes:
        """MD5 of the same bytes; where it was not asked for, the file is read again."""
        if self._md5 is None:
            md5 = hashlib.md5(usedforsecurity=False)
            for block in self._blocks() if self._memory is None else (self._memory,):
                md5.update(block)
            self._md5 = md5.digest()
        return self._md5

    @property
    def pieces(self) -> Pieces | None:
        """Digests of the file's pieces, where `digest` was asked for them."""
        return self._pieces

    @property
    def memory(self) -> bytes | None:
        """The bytes that `digest` read, where they were few enough to be kept."""
        return self._memory

    @property
    def opened(self) -> Fingerprint:
        """The file's size and times when it was opened."""
        return self._opened

    def fileno(self) -> int:
        """Give the descriptor, which stays this object's to close."""
        return self._descriptor

    def fingerprint(self) -> Fingerprint:
        """Tell the file's size and times as they are now."""
        return fingerprint_of(self._disk.look())

    def being_written(self) -> bool:
        """Tell whether somebody holds the file open for writing, where the system can say.

        A read lease is refused exactly then (fcntl(2), "Leases"). It is held for two system
        calls; SIGIO must be ignored, or a writer that opens the file in between ends the
        process. False where leases are not to be had: network shares, files of other owners.
        """
        if not _HAS_LEASES:
            return False
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False

    def digest(self, plan: DigestPlan, stop: StopFlag) -> int:
        """Read the file once for all its digests and give the number of bytes that were read.

        A small file stays in memory, so that what is sent is what was hashed. Raises
        FailureError, and InterruptedAttemptError when `stop` is set.
        """
        if stop.is_set():
            raise InterruptedAttemptError
        if plan.piece_bytes is None and self.size_bytes <= READ_BYTES and self._digest_whole(plan):
            return self.size_bytes
        keep = self.size_bytes <= IN_MEMORY_BYTES
        whole = _Hashes(md5=plan.md5)
        pieces = None if plan.piece_bytes is None else _PieceHashes(whole, plan)
        kept: list[bytes] = []
        length = 0
        for block in self._blocks():
            if stop.is_set():
                raise InterruptedAttemptError
            length += len(block)
            if pieces is None:
                whole.update(block)
            else:
                pieces.update(block)
            if keep:
                kept.append(block)
                keep = length <= IN_MEMORY_BYTES
        self._memory = b"".join(kept) if keep else None
        self._sha256, self._md5 = whole.digests()
        self._pieces = None if pieces is None else pieces.result()
        return length

    def _digest_whole(self, plan: DigestPlan) -> bool:
        """Do the same for a file of one block, with less ado; False if it can't be had in one."""
        # One byte more than there should be: if it does not come, the end was seen.
        block = self._disk.read(self.size_bytes + 1, 0)
        if len(block) != self.size_bytes:
            return False
        self._memory = block
        self._sha256 = hashlib.sha256(block).digest()
        if plan.md5:
            self._md5 = hashlib.md5(block, usedforsecurity=False).digest()
        return True

    def _blocks(self) -> Iterator[bytes]:
        at = 0
        while True:
            # One byte more than there should be: if it does not come, the end was seen.
            wanted = min(READ_BYTES, max(0, self.size_bytes - at) + 1)
            block = self._disk.read(wanted, at)
            if not block:
                return
            at += len(block)
            yield block
            if at == self.size_bytes and len(block) < wanted:
                return

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Read the same file again from its first byte."""
        if self._memory is not None:
            yield io.BytesIO(self._memory)
            return
        # Without a buffer: whoever reads a large file takes large blocks, and each copy costs.
        yield cast(BinaryIO, _Reader(self._disk))


class _Hashes:
    """SHA-256 of a run of bytes, and MD5 where it is wanted."""

    def __init__(self, *, md5: bool) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def update(self, block: bytes | memoryview) -> None:
        self._sha256.update(block)
        if self._md5 is not None:
            self._md5.update(block)

    def digests(self) -> tuple[bytes, bytes | None]:
        return self._sha256.digest(), None if self._md5 is None else self._md5.digest()


class _PieceHashes:
    """The same of all bytes and of their consecutive pieces, from blocks of any length.

    Up to its end, the first piece is all that there is: its bytes are hashed once.
    """

    def __init__(self, whole: _Hashes, plan: DigestPlan) -> None:
        assert plan.piece_bytes is not None
        self._piece_bytes = plan.piece_bytes
        self._wants_md5 = plan.md5
        self._whole = whole
        self._current: _Hashes | None = None
        """Of a piece after the first."""
        self._left = plan.piece_bytes
        self._sha256s: list[bytes] = []
        self._md5s: list[bytes] = []

    def update(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            now = view[: self._left]
            self._whole.update(now)
            if self._current is not None:
                self._current.update(now)
            self._left -= len(now)
            view = view[len(now) :]
            if not self._left:
                self._end_piece()

    def result(self) -> Pieces:
        if self._left < self._piece_bytes:
            self._end_piece()
        return Pieces(piece_bytes=self._piece_bytes, sha256s=self._sha256s, md5s=self._md5s)

    def _end_piece(self) -> None:
        sha256, md5 = (self._current or self._whole).digests()
        self._sha256s.append(sha256)
        if md5 is not None:
            self._md5s.append(md5)
        self._current = _Hashes(md5=self._wants_md5)
        self._left = self._piece_bytes


class _Reader(io.RawIOBase):
    """Reads an open file by position, so that readers don't move each other."""

    def __init__(self, disk: _Disk) -> None:
        super().__init__()
        self._disk = disk
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += self._disk.look().st_size
        self._at = max(0, offset)
        return self._at

    def read(self, amount: int = -1) -> bytes:
        """Give at most so many bytes; b'' at the end."""
        if amount < 0:
            return super().read()
        block = self._disk.read(amount, self._at)
        self._at += len(block)
        return block

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        length = self._disk.read_into(buffer, self._at)
        self._at += length
        return length


def classified(error: OSError, path: bytes, verb: str) -> FailureError:
    """Classify what the system said about a file in the drop folder."""
    text = path_text(path)
    why = f"could not {verb} {text}: {error.strerror or error}"
    code = error.errno or 0
    if code in _STATION:
        error_class, hint = _STATION[code]
        return FailureError(
            Failure(scope=FailureScope.STATION, error_class=error_class, message=why, hint=hint)
        )
    if code in _NOT_REGULAR:
        return not_regular(path)
    if code in (errno.EACCES, errno.EPERM):
        return FailureError(
            Failure(
                scope=FailureScope.FILE,
                error_class="unreadable",
                message=why,
                hint="let the daemon's user or group read the file (chmod, chgrp, an ACL)",
            )
        )
    return FailureError(
        Failure(
            scope=FailureScope.FILE,
            error_class="read-error",
            message=why,
            hint="check the card, the disk and the kernel's log (dmesg)",
        )
    )


def not_regular(path: bytes) -> FailureError:
    """Give the failure of what is no file, or no longer one."""
    return FailureError(
        Failure(
            scope=FailureScope.FILE,
            error_class="not-a-regular-file",
            message=f"{path_text(path)} is a link or a special file now",
            hint="put the file itself into the drop folder",
            permanent=True,
        )
    )


def fingerprint_of(found: os.stat_result) -> Fingerprint:
    """Give a file's size and times as the ledger can keep them."""
    mtime_ns, ctime_ns = found.st_mtime_ns, found.st_ctime_ns
    if not (_EARLIEST <= mtime_ns <= _LATEST and _EARLIEST <= ctime_ns <= _LATEST):
        mtime_ns, ctime_ns = _storable(mtime_ns), _storable(ctime_ns)
    return Fingerprint(size_bytes=found.st_size, mtime_ns=mtime_ns, ctime_ns=ctime_ns)


def _storable(nanoseconds: int) -> int:
    """Hold a time to what the ledger can keep; its SQL does the same with listings."""
    return max(_EARLIEST, min(_LATEST, nanoseconds))
