"""Gives a file another name, never one that another file has."""

from __future__ import annotations

import ctypes
import errno
import os

NO_REPLACE = 1
"""RENAME_NOREPLACE of renameat2(2)."""
CANT_LINK = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES}
)
"""What says that a file can't have a second name here: FAT and exFAT know none, folders have one."""


def give_name(old: bytes, new: bytes, old_folder: int, new_folder: int) -> None:
    """Rename within one file system, folders given by their descriptors. A new name that is taken
    is left alone: FileExistsError. Raises OSError.
    """
    try:
        os.link(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in CANT_LINK:
            raise
        _rename(old, new, old_folder, new_folder)
    else:
        os.unlink(old, dir_fd=old_folder)


def _rename(old: bytes, new: bytes, old_folder: int, new_folder: int) -> None:
    """Rename by the one system call that replaces nothing. Python's library has no name for it."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.EOPNOTSUPP, "this system can't rename without overwriting")
    call.argtypes = (
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    )  # fmt: skip
    if call(old_folder, old, new_folder, new, NO_REPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fsdecode(new))
