"""Reads files below a folder by their paths, where the system can't open below a descriptor.

Windows can't. There each folder on the way is looked at before a file is opened and again after
it: what was opened counts only if it is the very file that stands there, with no link on the way.
A link that is put in place and taken away between is noticed, for then another file was opened.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence

DESCRIPTORS = (
    {os.open, os.stat} <= os.supports_dir_fd
    and hasattr(os, "O_NOFOLLOW")
    and hasattr(os, "O_DIRECTORY")
)
"""Whether this system opens files below a descriptor: then nothing of this is needed."""

FILE_FLAGS = os.O_RDONLY
for _name in ("O_BINARY", "O_NOINHERIT", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"):
    FILE_FLAGS |= getattr(os, _name, 0)

LINK_TAGS = frozenset({0xA0000003, 0xA000000C})
"""Windows' marks of a junction and of a symbolic link (IO_REPARSE_TAG_…)."""

_reading = threading.Lock()

Identity = tuple[int, int]


def open_file(root: bytes, path: bytes) -> int:
    """Open a regular file below a root, through no link. Raises OSError.

    ENOENT also says that it was exchanged meanwhile, ELOOP that it is a link or a special file.
    """
    way = _way(root, path)
    found = os.lstat(_full(root, path))
    if not stat.S_ISREG(found.st_mode) or _is_link(found):
        raise OSError(errno.ELOOP, "is a link or a special file")
    descriptor = os.open(_full(root, path), FILE_FLAGS)
    try:
        opened = _identity(os.fstat(descriptor))
        stands = _identity(os.lstat(_full(root, path)))
        if opened != stands or _way(root, path) != way:
            raise OSError(errno.ENOENT, "was exchanged while it was opened")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def look(root: bytes, path: bytes) -> os.stat_result:
    """Look at what is below a root, through no link. Raises OSError."""
    _way(root, path)
    return os.lstat(_full(root, path))


def _way(root: bytes, path: bytes) -> Sequence[Identity]:
    """Tell which folders lie on the way to a path; a link is none (ENOTDIR)."""
    _see_parts(path)
    seen = []
    at = root
    for part in path.split(b"/")[:-1]:
        at = _full(at, part)
        found = os.lstat(at)
        if _is_link(found) or not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, "is no folder")
        seen.append(_identity(found))
    return seen


def _see_parts(path: bytes) -> None:
    """See that no part of a path means more to this system than a name."""
    if os.sep != "/" and any(mark in path for mark in (b"\\", b":")):
        raise OSError(errno.ENOENT, "can't be a name on this system")


def _full(root: bytes, path: bytes) -> bytes:
    return root + b"/" + path


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def _is_link(found: os.stat_result) -> bool:
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) in LINK_TAGS


def _read_in_turns(descriptor: int, amount: int, at: int) -> bytes:
    """Read at a position where the system has no call for it: one reader at a time."""
    with _reading:
        os.lseek(descriptor, at, os.SEEK_SET)
        return os.read(descriptor, amount)


read_at: Callable[[int, int, int], bytes] = getattr(os, "pread", _read_in_turns)
"""Read at most so many bytes at a position, whoever else reads the file. Raises OSError."""
