"""The folder that stored files are moved to: what is there is never written over.

On one file system a file gets its second name there, else it is copied, and the copy is on the
disk and was read again before anybody removes the first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sensordrop.adapters.opened_file import READ_BYTES, OpenedFile
from sensordrop.adapters.unoverwritten import CANT_LINK, give_name
from sensordrop.core.failure import InterruptedAttemptError
from sensordrop.core.keys import path_text
from sensordrop.core.taking import ARRIVING, conflict_name, name_of_ours
from sensordrop.ports.life import StopFlag
from sensordrop.ports.taking import CannotTakeError, FileToTake, LeftError

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_SECOND_NAME = CANT_LINK | {errno.ENOENT, errno.ELOOP}
"""Also where /proc, by which an open file is named, is not to be had."""


class TargetFolder:
    """A folder that files are moved to, each at the place that it has in the drop folder."""

    def __init__(self, root: str) -> None:
        """The root must be there: one that is missing may be a disk that is not mounted."""
        self._root = root

    def receive(self, opened: OpenedFile, file: FileToTake, stop: StopFlag) -> bytes:
        """Have an open file's content here, on the disk; give its path below the target.

        Raises LeftError where it can't be had, OSError, CannotTakeError, InterruptedAttemptError.
        """
        *folders, name = file.path.split(b"/")
        with self._folder(folders, make=True) as folder:
            for wanted in (name, conflict_name(name, file.sha256)):
                if _is_there(wanted, folder):
                    if not _same_content(wanted, folder, file, stop, sync=True):
                        continue
                else:
                    try:
                        _place(opened, wanted, folder, file, stop)
                    except FileExistsError:
                        continue
                os.fsync(folder)
                return b"/".join((*folders, wanted))
        raise LeftError("other content has its name in the target")

    def holds(self, path: bytes) -> bool:
        """Tell whether there is a file of this path here. Raises OSError, CannotTakeError."""
        *folders, name = path.split(b"/")
        with self._folder(folders, make=False) as folder:
            return _is_there(name, folder)

    def find(self, file: FileToTake, stop: StopFlag) -> str | None:
        """Find where a file's content is here, if it was moved, and throw a copy of ours away that
        was broken off. Raises OSError, CannotTakeError, InterruptedAttemptError.
        """
        *folders, name = file.path.split(b"/")
        try:
            with self._folder(folders, make=False) as folder:
                with suppress(FileNotFoundError):
                    os.unlink(_arriving(file), dir_fd=folder)
                for wanted in (name, conflict_name(name, file.sha256)):
                    if _is_there(wanted, folder) and _same_content(wanted, folder, file, stop):
                        return path_text(b"/".join((*folders, wanted)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None

    @contextmanager
    def _folder(self, folders: list[bytes], *, make: bool) -> Iterator[int]:
        """Give a descriptor of a folder below the root, through no link."""
        try:
            at = os.open(self._root, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise target_is_missing(self._root) from error
        try:
            for part in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=at)
                        os.fsync(at)
                deeper = os.open(part, _FOLDER_FLAGS, dir_fd=at)
                os.close(at)
                at = deeper
            yield at
        finally:
            os.close(at)


def target_is_missing(root: str) -> CannotTakeError:
    """Say that the target is not there. It is never made: its disk may not be mounted."""
    shown = path_text(os.fsencode(root))
    return CannotTakeError(
        f"the folder {shown}, to which files are moved, is not there",
        "mount its disk or make it, and let the service's user write there",
    )


def _is_there(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _same_content(
    name: bytes, folder: int, file: FileToTake, stop: StopFlag, *, sync: bool = False
) -> bool:
    """Tell whether a file of the target has the content; `sync`: have it on the disk, too."""
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except OSError:  # a link, a pipe, or nothing that we may read: other content
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.fingerprint.size_bytes:
            return False
        if sync:
            os.fsync(descriptor)
        return _sha256(descriptor, stop) == file.sha256
    finally:
        os.close(descriptor)


def _place(opened: OpenedFile, name: bytes, folder: int, file: FileToTake, stop: StopFlag) -> None:
    """Put the file there under a name that is free. Raises FileExistsError where it no longer is."""
    # By its descriptor: it is this file, whatever has its name by now. What is not written yet must
    # be on the disk before it has one name less.
    os.fsync(opened.fileno())
    try:
        os.link(f"/proc/self/fd/{opened.fileno()}", name, dst_dir_fd=folder, follow_symlinks=True)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_SECOND_NAME:
            raise
        _copy(opened, name, folder, file, stop)


def _copy(opened: OpenedFile, name: bytes, folder: int, file: FileToTake, stop: StopFlag) -> None:
    """Copy the file, read the copy again, and only then let it have its name."""
    arriving = _arriving(file)
    found = os.fstat(opened.fileno())
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    copy = os.open(arriving, flags, stat.S_IMODE(found.st_mode) & 0o777 | 0o600, dir_fd=folder)
    try:
        for block in _blocks(opened.fileno(), stop):
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(copy, rest) :]
        os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fsync(copy)
        # Read from the disk, not from what is still in memory.
        os.posix_fadvise(copy, 0, 0, os.POSIX_FADV_DONTNEED)
        if _sha256(copy, stop) != file.sha256:
            raise LeftError("its copy in the target has other bytes")
        give_name(arriving, name, folder, folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(arriving, dir_fd=folder)
        raise
    finally:
        os.close(copy)


def _arriving(file: FileToTake) -> bytes:
    return name_of_ours(ARRIVING, file.number, file.sha256)


def _sha256(descriptor: int, stop: StopFlag) -> bytes:
    sha256 = hashlib.sha256()
    for block in _blocks(descriptor, stop):
        sha256.update(block)
    return sha256.digest()


def _blocks(descriptor: int, stop: StopFlag) -> Iterator[bytes]:
    at = 0
    while block := os.pread(descriptor, READ_BYTES, at):
        if stop.is_set():
            raise InterruptedAttemptError
        at += len(block)
        yield block
