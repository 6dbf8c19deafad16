"""Opens a file below a folder in one call that follows no link: Linux's openat2(2).

Python's library has no name for that call, so the C library's `syscall` is asked for it.
"""

from __future__ import annotations

import ctypes
import errno
import sys

SYSTEM_CALL = 437
"""openat2's number: newer calls have the same on every architecture but Alpha."""
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08


class _How(ctypes.Structure):
    """`struct open_how` of <linux/openat2.h>."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class BeneathOpener:
    """Opens files with one set of flags. Safe from every thread."""

    def __init__(self, flags: int) -> None:
        self._how = _How(flags=flags, mode=0, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        self._how_at = ctypes.addressof(self._how)
        self._how_bytes = ctypes.sizeof(_How)
        self._there = sys.platform == "linux"
        if self._there:
            # A library object of its own: the types of arguments are set on its function.
            self._call = ctypes.CDLL(None, use_errno=True).syscall
            self._call.restype = ctypes.c_long
            self._call.argtypes = (
                ctypes.c_long,
                ctypes.c_int,
                ctypes.c_char_p,
                ctypes.c_void_p,
                ctypes.c_size_t,
            )

    def open(self, folder: int, path: bytes) -> int | None:
        """Open a path below a folder's descriptor; None where it was not to be had this way.

        Why not is not said: whoever walks there folder by folder sees the same, and in words.
        """
        if not self._there or b"\0" in path:
            return None
        descriptor: int = self._call(SYSTEM_CALL, folder, path, self._how_at, self._how_bytes)
        if descriptor >= 0:
            return descriptor
        # An old kernel, or a sandbox that does not know the call: it will not learn it.
        if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM):
            self._there = False
        return None
