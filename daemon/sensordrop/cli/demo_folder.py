"""The demo's folder: never one that the demo did not make, and nothing of an earlier run in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sensordrop.adapters.ledger.embedded import EmbeddedPostgres
from sensordrop.adapters.local_s3 import LocalS3
from sensordrop.adapters.processes import (
    CommandMark,
    EmbeddedServerError,
    SharedServer,
    find_process,
    send_signal,
    try_lock,
)
from sensordrop.cli.demo_card import first_delivery, second_delivery
from sensordrop.cli.demo_oracle import text_of
from sensordrop.core.terminal import printable
from sensordrop.local import WATCHED, LocalFolder

MARKER = ".made-by-sensordrop-demo"
"""Says that the folder is the demo's and, a path a line, what the demo drops into it. It is locked
while a demo runs."""
LOG = "sensordropd.log"
STOP_LIMIT_SECONDS = 90.0
"""Longest wait for a daemon to end: it has 30 s for itself, and then ends its servers."""
PAUSE_SECONDS = 0.1
_OURS = {MARKER, LOG, WATCHED, "drop", "objects", "state"}


class DemoError(Exception):
    """The demo can't go on. The text is for people."""


class RefusedError(DemoError):
    """The demo was asked for something that it must not do; nothing was touched."""


@contextmanager
def cleared(place: LocalFolder) -> Iterator[None]:
    """Take the folder for one demo, empty but for the marker. Raises DemoError, OSError.

    A daemon or a server that a killed demo left running is ended first, and at the end whatever
    this one left.
    """
    folder = place.path
    if folder.exists() and not (folder / MARKER).exists() and any(folder.iterdir()):
        raise RefusedError(
            f"{_shown(folder)} was not made by the demo, which would clear it: "
            "name another folder with --folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / MARKER, fcntl.LOCK_EX)
    if lock is None:
        raise DemoError(
            f"another demo is running in {_shown(folder)}: wait for it, or use --folder"
        )
    try:
        _refuse_strangers(folder)
        end_leftovers(place)
        for entry in folder.iterdir():
            if entry.name == MARKER:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        made = [file.path for file in (*first_delivery(), *second_delivery())]
        (folder / MARKER).write_text("".join(f"{path}\n" for path in made), encoding="utf-8")
        try:
            yield
        finally:
            end_leftovers(place)  # a daemon that was killed could not end its servers
    finally:
        os.close(lock)


def _refuse_strangers(folder: Path) -> None:
    """Refuse to clear a folder that somebody put something of their own into."""
    strangers = [entry for entry in folder.iterdir() if entry.name not in _OURS]
    drop = folder / "drop"
    made = set((folder / MARKER).read_bytes().splitlines())
    for below, _folders, names in os.walk(os.fsencode(drop)):
        for name in names:
            path = os.path.join(below, name)  # noqa: PTH118  # bytes
            if os.path.relpath(path, os.fsencode(drop)) not in made:
                strangers.append(Path(os.fsdecode(path)))
    if strangers:
        raise RefusedError(
            f"{_shown(strangers[0])} is not of the demo, which would clear the folder: "
            "move it away, or name another folder with --folder"
        )


# --- what an earlier demo left running ----------------------------------------------------


def servers_of(place: LocalFolder) -> tuple[SharedServer, ...]:
    """Give the embedded servers that a daemon on this folder uses. Nothing is started."""
    return (
        EmbeddedPostgres(place.state / "postgresql"),
        LocalS3(place.state / "s3", place.objects),
    )


def running(place: LocalFolder) -> list[str]:
    """Name what runs on this folder."""
    locks = {"sensordropd": place.state / "daemon.lock"}
    for server in servers_of(place):
        locks[server.directory.name] = server.directory / "server.lock"
    return [name for name, lock in locks.items() if not _free(lock)]


def end_leftovers(place: LocalFolder) -> None:
    """End what a killed demo left running on the folder. Raises DemoError if it does not end."""
    deadline = time.monotonic() + STOP_LIMIT_SECONDS
    asked = False
    while not _free(place.state / "daemon.lock"):
        daemon = find_process(mark_of(place))
        if daemon is None or time.monotonic() > deadline:
            raise DemoError(
                f"a sensordropd that the demo did not start is running on {_shown(place.path)}: "
                "stop it, or name another folder with --folder"
            )
        if not asked:
            send_signal(daemon, signal.SIGTERM)
            asked = True
        time.sleep(PAUSE_SECONDS)
    for server in servers_of(place):
        if not _free(server.directory / "server.lock"):
            try:
                with server:  # who takes over a server ends it too
                    pass
            except EmbeddedServerError as error:
                raise DemoError(str(error)) from error


def mark_of(place: LocalFolder) -> CommandMark:
    """Give what tells the demo's daemon from all other processes."""
    return CommandMark(program=Path(sys.executable).name, option="--local", value=str(place.path))


def _free(lock_file: Path) -> bool:
    if not lock_file.exists():
        return True
    lock = try_lock(lock_file, fcntl.LOCK_EX)
    if lock is None:
        return False
    os.close(lock)
    return True


def _shown(path: Path) -> str:
    return printable(text_of(os.fsencode(path)))
