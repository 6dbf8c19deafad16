"""The trail: which files are in work, in a small mapped file that outlives any death of ours.

What is written into the mapping is the kernel's at once: a SIGKILL does not lose it, and no write
has to be waited for.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from sensordrop.core.crash import LeftInWork

SLOTS = 4_096
"""Files that can be noted at a time: twice the most workers that can be configured, and some more.
What is beyond is not noted, and so is never charged with a crash."""

_MAGIC = b"SDTRAIL1"
_HEADER = struct.Struct("<8sq40s")
_SLOT = struct.Struct("<Q")
_SIZE = _HEADER.size + SLOTS * _SLOT.size
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_VMSTAT = Path("/proc/vmstat")


def boot_id() -> str:
    """Name this boot of the machine; '' where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def oom_kills() -> int:
    """Count the processes that the kernel has killed for memory since it booted (proc(5))."""
    try:
        lines = _VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def left_in_work(path: Path) -> LeftInWork | None:
    """Read what a process left that did not end in order; None if there is nothing to read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) != _SIZE:
        return None
    magic, kills, boot = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        return None
    slots = (upload_id for (upload_id,) in _SLOT.iter_unpack(content[_HEADER.size :]))
    return LeftInWork(
        boot_id=boot.rstrip(b"\0").decode("ascii", "replace"),
        oom_kills=kills,
        upload_ids=tuple(upload_id for upload_id in slots if upload_id),
    )


class WorkTrail:
    """Belongs to the uploader's thread; see `ports.Trail`. Made anew by each process."""

    def __init__(self, path: Path) -> None:
        """Make the file. Raises OSError."""
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SIZE)  # a hole on a full disk would be a SIGBUS
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._boot = boot_id().encode("ascii", "replace")[:40]
        self._places: dict[int, int] = {}
        self._free = list(range(SLOTS - 1, -1, -1))
        self.alive()

    def begin(self, upload_id: int) -> None:
        """Note that a file is in work."""
        if self._free and upload_id not in self._places:
            place = self._places[upload_id] = self._free.pop()
            self._write(place, upload_id)

    def end(self, upload_id: int) -> None:
        """Note that it is no more."""
        place = self._places.pop(upload_id, None)
        if place is not None:
            self._write(place, 0)
            self._free.append(place)

    def alive(self) -> None:
        """Note that the process lives, whatever the kernel has killed by now."""
        _HEADER.pack_into(self._map, 0, _MAGIC, oom_kills(), self._boot)

    def close(self) -> None:
        """End in order: nothing is left behind."""
        self._map.close()
        self._path.unlink(missing_ok=True)

    def _write(self, place: int, upload_id: int) -> None:
        _SLOT.pack_into(self._map, _HEADER.size + place * _SLOT.size, upload_id)
