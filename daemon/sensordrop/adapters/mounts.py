"""What is mounted where: which file system a folder is on, and whether that has changed.

Everything is read from the kernel's mountinfo (proc(5)), never by touching the mounted file
systems themselves: one that does not answer must not block us here.
"""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from sensordrop.core.keys import path_text

MOUNTINFO = "/proc/self/mountinfo"
UUIDS = "/dev/disk/by-uuid"

REMOTE_TYPES = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs2",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs",
        "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
    }
)  # fmt: skip
"""File systems that others write to behind this kernel's back: inotify does not see them."""

LOCAL_FUSE_TYPES = frozenset(
    {"fuse.encfs", "fuse.exfat", "fuse.exfat-fuse", "fuse.gocryptfs", "fuse.ntfs", "fuse.ntfs-3g"}
)
"""FUSE file systems that are written only through their mount, so that inotify sees all of it.
(`fuseblk`, a block device under FUSE, is always one.) Any other FUSE may be a remote one.
"""

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """One line of mountinfo, as far as it matters here. Options may change without harm."""

    mount_id: int
    parent_id: int
    device: str
    root: bytes
    mount_point: bytes
    filesystem: str
    source: bytes


def parse_mountinfo(raw: bytes) -> Sequence[Mount]:
    """Read mountinfo's lines, in the kernel's order."""
    mounts = []
    for line in raw.splitlines():
        # A varying number of optional fields stands before the lone dash.
        before, _, after = line.partition(b" - ")
        mount_id, parent_id, device, root, mount_point, *_ = before.split(b" ")
        filesystem, source, *_ = after.split(b" ")
        mounts.append(
            Mount(
                mount_id=int(mount_id),
                parent_id=int(parent_id),
                device=device.decode(),
                root=_unescape(root),
                mount_point=_unescape(mount_point),
                filesystem=_unescape(filesystem).decode("utf-8", "replace"),
                source=_unescape(source),
            )
        )
    return mounts


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match.group(1), 8) & 0xFF]), field)


def mount_of(path: bytes, mounts: Sequence[Mount]) -> Mount | None:
    """Find the mount that an absolute path without links lies on.

    Goes from mount to mount as the kernel does when it walks the path, so that a mount that is
    hidden under a later one is never taken. None if the path's beginning is not in the table.
    """
    known = {mount.mount_id for mount in mounts}
    here = next(
        (m for m in mounts if m.mount_point == b"/" and m.parent_id not in known - {m.mount_id}),
        None,
    )
    passed = set[int]()
    while here is not None and here.mount_id not in passed:
        passed.add(here.mount_id)
        below = [
            mount
            for mount in mounts
            if mount.parent_id == here.mount_id
            and mount.mount_id not in passed
            and _is_within(path, mount.mount_point)
        ]
        if not below:
            return here
        # The first one on the way hides what the parent has mounted further down.
        here = min(below, key=lambda mount: len(mount.mount_point))
    return here


def _is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def mounts_concerning(path: bytes, mounts: Sequence[Mount]) -> Sequence[Mount]:
    """Give the mount that a folder lies on, and all that are mounted on it or below it."""
    within = [mount for mount in mounts if _is_within(mount.mount_point, path)]
    on = mount_of(path, mounts)
    return (*([] if on is None else [on]), *within)


def filesystem_type(path: str) -> str:
    """Name the type of the file system that a folder is on (`ext4`, `nfs4`, …), or ''.

    Raises OSError if the path does not exist. May block on a share that does not answer.
    """
    os.stat(path)  # noqa: PTH116 - mounts what is mounted on demand, before we look
    with open(MOUNTINFO, "rb") as table:  # noqa: PTH123 - text stays text
        mount = mount_of(os.fsencode(os.path.realpath(path)), parse_mountinfo(table.read()))
    return mount.filesystem if mount else ""


def lasting_name(path: str) -> str:
    """Name the file system that a folder is on, so that it is known again when it comes back.

    By the UUID of its block device where udev knows it (a card's serial number is one), else by
    the file system's own number, else by what was mounted. The device number would not do: it
    changes with the order in which disks are found. Raises OSError.
    """
    device = os.stat(path).st_dev  # noqa: PTH116 — text stays text
    with open(MOUNTINFO, "rb") as table:  # noqa: PTH123 — text stays text
        mount = mount_of(os.fsencode(os.path.realpath(path)), parse_mountinfo(table.read()))
    if mount is None:
        return ""
    fsid = os.statvfs(path).f_fsid
    if uuid := _uuid_of(device):
        return f"{mount.filesystem} {uuid}"
    # FAT and its like make their number from the device's: it names the slot and not the card.
    if fsid and fsid & 0xFFFFFFFF != _kernels_number(device):
        return f"{mount.filesystem} {fsid:x}"
    return f"{mount.filesystem} {path_text(mount.source)}"


def _kernels_number(device: int) -> int:
    """Give a device number as the kernel writes it into 32 bits (`new_encode_dev`)."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _uuid_of(device: int) -> str:
    """Find the UUID of a block device's file system; '' where there is none or no udev."""
    try:
        for name in sorted(os.listdir(UUIDS)):  # noqa: PTH208 — names are all that is wanted
            with suppress(OSError):
                if os.stat(f"{UUIDS}/{name}").st_rdev == device:  # noqa: PTH116 — as above
                    return name
    except FileNotFoundError:
        pass
    return ""


def is_remote(filesystem: str) -> bool:
    """Tell whether inotify can miss what is written to a file system of this type."""
    if filesystem == "fuse" or filesystem.startswith("fuse."):
        return filesystem not in LOCAL_FUSE_TYPES
    return filesystem in REMOTE_TYPES


def needs_polling(path: str) -> bool:
    """Tell whether a folder is on a file system that inotify can't watch. Raises OSError."""
    return is_remote(filesystem_type(path))


class MountTable:
    """The kernel's mount table, and a way to hear that it has changed. Used by one thread."""

    def __init__(self, path: str = MOUNTINFO) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115 - closed by close()
        self._poller = select.poll()
        self._poller.register(self._file, select.POLLPRI | select.POLLERR)

    def changed(self) -> bool:
        """Tell whether anything was mounted or unmounted since this was last asked."""
        return bool(self._poller.poll(0))

    def read(self) -> Sequence[Mount]:
        """Read the table as it is now."""
        self._file.seek(0)
        return parse_mountinfo(self._file.read())

    def close(self) -> None:
        """Let go of the table. May be repeated."""
        self._file.close()


class NoMountTable:
    """Stands for the table where the kernel shows none: only Linux does."""

    def changed(self) -> bool:
        """Nothing is ever seen to change."""
        return False

    def read(self) -> Sequence[Mount]:
        """Nothing is known."""
        return ()

    def close(self) -> None:
        """Nothing is held."""


class MountWatch:
    """The mount table for many: each asks on its own whether it has changed. Never blocks; safe
    from every thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        try:
            self._table: MountTable | NoMountTable = MountTable()
        except FileNotFoundError:
            self._table = NoMountTable()
        self._changes = 0

    def changes(self) -> int:
        """Give how often the table was seen to have changed."""
        with self._lock:
            if self._table.changed():
                self._changes += 1
            return self._changes

    def read(self) -> Sequence[Mount]:
        """Read the table as it is now."""
        with self._lock:
            return self._table.read()

    def close(self) -> None:
        """Let go of the table. May be repeated."""
        with self._lock:
            self._table.close()


@cache
def mount_watch() -> MountWatch:
    """Give the one that is there as long as the process is."""
    return MountWatch()
