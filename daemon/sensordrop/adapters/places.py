"""Looks at folders and disks for `sensordrop doctor`: may they be read, watched, and filled?"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sensordrop.adapters.mounts import filesystem_type, is_remote
from sensordrop.adapters.watcher import SUGGESTED_WATCHES, WATCHES_SETTING, kernel_setting
from sensordrop.core.check import Check, failed, notice, ok
from sensordrop.core.glob import name_regex
from sensordrop.core.keys import path_text
from sensordrop.core.sandbox import Sandbox, drop_in
from sensordrop.core.selection import JUNK_FOLDERS

with suppress(ModuleNotFoundError):  # Windows has none
    import pwd

MIB = 1024 * 1024
STATE_FREE_BYTES = 256 * MIB
"""Below this the embedded ledger is about to stop: PostgreSQL ends when its disk is full."""
LOW_FREE_BYTES = 2 * 1024 * MIB
"""Below this a disk is told: less than a small card has."""
FOLDERS_LIMIT = 2_000_000
"""Folders that are counted at most: more than the kernel has ever been let watch."""
SYSCTL_FILE = "/etc/sysctl.d/60-sensordrop.conf"

_JUNK = re.compile("|".join(name_regex(name) for name in JUNK_FOLDERS), re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """What was seen of a delivery's folder: its checks, and how many inotify watches it takes."""

    checks: tuple[Check, ...]
    watches: int


def look_at_folder(
    root: str, watch: str, polling_seconds: float, *, reader: str | None = None
) -> Folder:
    """Look whether a delivery's folder can be read and how it is watched.

    `watch` is the delivery's setting; `reader` says whose rights these are, where it is not only
    those of the user that asks. Blocks on the disk: it goes through all folders, and reads
    no file.
    """
    shown = path_text(os.fsencode(root))
    try:
        kind = filesystem_type(root)
        os.listdir(root)  # noqa: PTH208 — whether it can be read is all that is asked
    except OSError as error:
        return Folder(checks=(_unusable(shown, error, reader or _who()),), watches=0)
    folders, closed = _count_folders(root)
    checks = [_readable(shown, folders, closed, reader or _who())]
    watched = watch == "inotify" or (watch == "auto" and not is_remote(kind))
    how = "watched" if watched else f"swept every {polling_seconds:g} seconds"
    if watch == "off":
        how = "swept by the timer alone (watch: off)"
    told = f"{shown} is on {kind or 'an unknown file system'}; it is {how}"
    if watch == "inotify" and is_remote(kind):
        hint = "set watch: auto: what others write to a network share is not seen by inotify"
        checks.append(notice("watching", told, hint))
    else:
        checks.append(ok("watching", told))
    checks.append(look_at_disk("disk of the folder", root, least=0))
    return Folder(checks=tuple(checks), watches=folders if watched else 0)


def _unusable(shown: str, error: OSError, reader: str) -> Check:
    if isinstance(error, FileNotFoundError):
        hint = "mount or make it, or correct local_directory; the delivery is offline until then"
        return failed("folder", f"{shown} is not there", hint)
    reason = (error.strerror or str(error)).lower()
    hint = f"let {reader} enter and read it, or correct local_directory"
    return failed("folder", f"{shown} can't be read as {reader}: {reason}", hint)


def _who() -> str:
    if "pwd" not in globals():
        return "this user"
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:  # a container's user may have no name
        return f"user {os.geteuid()}"


def _readable(shown: str, folders: int, closed: list[str], reader: str) -> Check:
    if closed:
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        return failed(
            "folder",
            f"{shown} can be read as {reader}, but not {closed[0]}{more}",
            "let the service's user enter and read every folder; until then sweeps are partial "
            "and no session ends",
        )
    return ok("folder", f"{shown} can be read as {reader} ({folders:,} folders)")


def _count_folders(root: str) -> tuple[int, list[str]]:
    """Count a root with all folders below, and name those that can't be read."""
    closed: list[str] = []
    waiting, count = [root], 0
    while waiting and count < FOLDERS_LIMIT:  # os.walk recurses: it ends in a deep tree
        folder = waiting.pop()
        count += 1
        try:
            with os.scandir(folder) as entries:
                waiting += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            if not _JUNK.fullmatch(Path(folder).name):
                closed.append(path_text(os.fsencode(folder)))
    return count, closed


def look_at_after_verified(root: str, wish: str, sandbox: Sandbox | None) -> list[Check]:
    """Look whether the daemon may take files away from a folder, where a delivery asks for it.

    `wish` is the delivery's `after_verified`; `sandbox` what the service's unit lets it write,
    None where no unit is installed.
    """
    name = "after verified"
    if wish == "keep":
        return []
    target = wish.partition(":")[2]
    folders = [os.path.realpath(each) for each in (root, target) if each]
    shown = ", ".join(path_text(os.fsencode(each)) for each in folders)
    if sandbox is not None:
        closed = [each for each in folders if not sandbox.may_write(each)]
        if closed:
            words = ", ".join(path_text(os.fsencode(each)) for each in closed)
            return [
                failed(
                    name,
                    f"{wish}: the unit sensordropd.service makes {words} read-only",
                    f"systemctl edit sensordropd, and give it: {drop_in(closed)}; then systemctl "
                    "restart sensordropd",
                )
            ]
    for folder in folders:
        reason = _not_writable(folder)
        if reason is not None:
            words = f"{wish}: {path_text(os.fsencode(folder))} can't be written as {_who()}"
            hint = f"let {_who()} write it, or set after_verified: keep"
            return [failed(name, f"{words}: {reason}", hint)]
    return [ok(name, f"{wish}: {shown} can be written as {_who()}")]


def _not_writable(folder: str) -> str | None:
    """Say why nothing can be made or removed in a folder, or None if it can."""
    try:
        flags = os.statvfs(folder).f_flag
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if flags & os.ST_RDONLY:
        return "its file system is mounted read-only"
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return "permission denied"
    return None


def look_at_watches(watches: int) -> Check:
    """Hold the watches that all deliveries take against what the kernel allows one user."""
    limit = kernel_setting(WATCHES_SETTING)
    if limit is None:
        told = f"{watches:,} folders are watched; the kernel's limit can't be read here"
        return notice("inotify", told, f"compare with: sysctl {WATCHES_SETTING}")
    told = f"{watches:,} folders are watched; {WATCHES_SETTING} = {limit:,}"
    # Other programs of the same user take watches too.
    if watches <= limit // 2:
        return ok("inotify", told)
    better = max(SUGGESTED_WATCHES, 4 * watches)
    line = f"{WATCHES_SETTING}={better}"
    hint = f"raise it: sysctl -w {line}; to keep it: echo {line} > {SYSCTL_FILE}"
    if watches < limit:
        return notice("inotify", told, hint)
    return failed("inotify", f"{told}: new files in the others wait for the next sweep", hint)


def look_at_disk(name: str, folder: str, *, least: int) -> Check:
    """Look how much is free where a folder is, or will be; below `least` bytes is a failure."""
    there = Path(folder)
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        words = f"{path_text(os.fsencode(folder))}: {(error.strerror or str(error)).lower()}"
        return failed(name, words, "let the service's user enter the folder")
    share = usage.free / max(usage.total, 1)
    told = f"{usage.free / 1024**3:,.1f} GiB free ({share:.0%}) at {path_text(os.fsencode(folder))}"
    hint = "free space, or give it a larger disk"
    if usage.free < least:
        return failed(name, told, hint)
    return notice(name, told, hint) if usage.free < LOW_FREE_BYTES else ok(name, told)
