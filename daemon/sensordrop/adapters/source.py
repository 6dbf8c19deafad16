"""The drop folder as it is read: never through links, never changed.

Files are opened below the root's descriptor, so that no link (not even one that is put in place
while we look) leads out of the delivery: in one call where the kernel has it, else one folder at
a time, which also reads paths longer than the system's limit and says what is wrong with others.
"""

from __future__ import annotations

import errno
import os
import stat

from sensordrop.adapters import by_path
from sensordrop.adapters.beneath import BeneathOpener
from sensordrop.adapters.by_path import DESCRIPTORS
from sensordrop.adapters.disk_calls import DiskCalls
from sensordrop.adapters.mounts import lasting_name, mount_watch, needs_polling
from sensordrop.adapters.opened_file import OpenedFile, classified, fingerprint_of, not_regular
from sensordrop.core.keys import path_text
from sensordrop.core.model import EntryType, Sighting
from sensordrop.ports.reading import (
    FileGoneError,
    HeldUp,
    RootMissingError,
)

if DESCRIPTORS:
    _FOLDER_FLAGS = (
        getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    )
    # Without O_NONBLOCK a pipe that lies in the folder would block its worker for ever.
    _FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    _BENEATH: BeneathOpener | None = BeneathOpener(_FILE_FLAGS)
else:
    _BENEATH = None

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})
_ENTRY_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.FOLDER,
    stat.S_IFLNK: EntryType.LINK,
    stat.S_IFIFO: EntryType.PIPE,
    stat.S_IFSOCK: EntryType.SOCKET,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
}


class FolderSource:
    """`ports.Source` on a local folder. Safe from every thread."""

    def __init__(
        self,
        root: str,
        opener: BeneathOpener | None = _BENEATH,
        *,
        descriptors: bool = DESCRIPTORS,
    ) -> None:
        """Read below `root`. `opener`: the quick way to open a file; None: folder by folder.
        Without `descriptors`: by its path.
        """
        self._root = os.fsencode(root)
        self._opener = opener
        self._descriptors = descriptors
        self._calls = DiskCalls()

    def device(self) -> int | None:
        """Tell on which file system (device number) the root is; None if it is missing."""
        call = self._calls.begin(b"")
        try:
            found = os.stat(self._root)  # noqa: PTH116 — asked for every file; Path costs more
        except OSError:
            return None
        finally:
            self._calls.end(call)
        return found.st_dev if stat.S_ISDIR(found.st_mode) else None

    def is_empty(self) -> bool:
        """Tell whether the root holds nothing at all (or can't be listed)."""
        try:
            with os.scandir(self._root) as entries:
                return next(entries, None) is None
        except OSError:
            return True

    def filesystem(self) -> str:
        """Name the root's file system so that it is known again; '' where it can't be told."""
        try:
            return lasting_name(os.fsdecode(self._root))
        except OSError:
            return ""

    def is_remote(self) -> bool:
        """Tell whether the root is on a network share, or may be."""
        try:
            return needs_polling(os.fsdecode(self._root))
        except OSError:
            return False

    def mount_changes(self) -> int:
        """Tell how often anything was mounted or unmounted on this machine."""
        return mount_watch().changes()

    def held_up(self) -> HeldUp | None:
        """Tell which look or read waits for longest; None: none is under way. Never blocks."""
        return self._calls.longest()

    def look(self, path: bytes) -> Sighting | None:
        """Look at one path without following links; None if it is not there.

        Raises OSError for everything but "not there".
        """
        call = self._calls.begin(path)
        try:
            found = self._lstat(path)
        except RootMissingError:
            return None
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        finally:
            self._calls.end(call)
        return Sighting(
            path=path,
            fingerprint=fingerprint_of(found),
            entry_type=_ENTRY_TYPES.get(stat.S_IFMT(found.st_mode), EntryType.UNKNOWN),
        )

    def open(self, path: bytes) -> OpenedFile:
        """Open one file for an attempt: `with` closes it.

        Raises RootMissingError, FileGoneError, or FailureError for what else is wrong with it.
        """
        call = self._calls.begin(path)
        try:
            descriptor = self._open(path)
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                os.close(descriptor)
                raise not_regular(path)
        finally:
            self._calls.end(call)
        return OpenedFile(descriptor, path, found, self._calls)

    def _open(self, path: bytes) -> int:
        try:
            if not self._descriptors:
                return by_path.open_file(self._checked_root(path), path)
            root = self._open_root(path)
            try:
                if self._opener is not None:
                    descriptor = self._opener.open(root, path)
                    if descriptor is not None:
                        return descriptor
                folder, name = _walk(root, path)
            finally:
                os.close(root)
            try:
                return os.open(name, _FILE_FLAGS, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno in _GONE:
                raise FileGoneError(path_text(path)) from error
            raise classified(error, path, "open") from error

    def _lstat(self, path: bytes) -> os.stat_result:
        if not self._descriptors:
            return by_path.look(self._checked_root(path), path)
        root = self._open_root(path)
        try:
            folder, name = _walk(root, path)
        finally:
            os.close(root)
        try:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def _open_root(self, path: bytes) -> int:
        """Give a descriptor of the root, to find that path below it."""
        _see_below(path)
        try:
            return os.open(self._root, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
        except OSError as error:
            raise RootMissingError(os.fsdecode(self._root)) from error

    def _checked_root(self, path: bytes) -> bytes:
        """Give the root, to find that path below it by name; see that it is there."""
        _see_below(path)
        if self.device() is None:
            raise RootMissingError(os.fsdecode(self._root))
        return self._root


def _see_below(path: bytes) -> None:
    around = b"/%b/" % path
    if b"//" in around or b"/./" in around or b"/../" in around:
        raise ValueError(f"not a path below the root: {path_text(path)!r}")


def _walk(root: int, path: bytes) -> tuple[int, bytes]:
    """Give a descriptor of the folder that holds the path's last component, and that name."""
    *folders, name = path.split(b"/")
    at = os.dup(root)
    for part in folders:
        try:
            deeper = os.open(part, _FOLDER_FLAGS, dir_fd=at)
        finally:
            os.close(at)
        at = deeper
    return at, name
