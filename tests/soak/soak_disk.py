"""Small disks of a soak: one that can be full at any moment, and one to put over a folder.

They are file systems in memory. Only root can mount, and not everywhere: where it can't be, a soak
does without and says so.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self

ROOM_BYTES = 1 << 30
"""Room of the disk while it is not full. Only what is written takes memory."""
TRIES = 20
"""How often it is tried to leave no room: somebody may be writing meanwhile."""


def mounted(folder: Path, *options: str) -> bool:
    """Mount a file system over a folder; tell whether that was possible."""
    if os.geteuid() != 0:
        return False
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def unmount(folder: Path) -> None:
    """Take a file system away, whoever is still at work on it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


class SmallDisk:
    """A file system that can be made full, and have room again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def mount(cls, folder: Path) -> Self | None:
        """Mount it on a new folder; None where nothing can be mounted."""
        folder.mkdir(parents=True)
        return cls(folder) if mounted(folder, f"size={ROOM_BYTES}", "mode=755") else None

    def fill(self) -> bool:
        """Leave no room for another byte; tell whether that went well. Takes no memory."""
        for _ in range(TRIES):
            now = os.statvfs(self.folder)
            if self._resize((now.f_blocks - now.f_bfree) * now.f_frsize):
                return True
        return False

    def free(self) -> None:
        """Give it room again."""
        assert self._resize(ROOM_BYTES), "the disk can't be given its room back"

    def unmount(self) -> None:
        unmount(self.folder)

    def _resize(self, size_bytes: int) -> bool:
        words = ["mount", "-o", f"remount,size={size_bytes}", str(self.folder)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
