"""The state directory: who this program is, and that it is alone."""

from __future__ import annotations

import faulthandler
import json
import os
import secrets
import socket
import struct
import uuid
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

import structlog

from sensordrop.ports.life import ReloadOutcome

with suppress(ModuleNotFoundError):  # Windows has none, and no daemon of ours
    import fcntl

MOST_CRASH_REPORTS = 10
"""Crash reports that are kept; older ones are deleted."""


RELOAD_FILE = "reload.json"
"""What came of the last reload."""
RECEIPT_KEY = "receipt-key.pem"
"""The private key that receipts are signed with; only its owner may read it."""

PROCESS_FILE = "process.lock"
"""Locked by record while a process holds the folder: of such a lock the kernel tells whose it is.
A file of its own, because on some network file systems both kinds of locks are one."""
RECORD_LOCK = struct.Struct("hhqqi4x")
"""`struct flock` of fcntl(2): kind, what the start counts from, start, length, process."""

_log = structlog.get_logger()


def holder_of(path: Path) -> int | None:
    """Give the process that holds a state directory now; None: none does, or none that can be seen
    from here. What is written in files counts for nothing: its writer may be long dead.

    Raises OSError where the folder may not be looked at.
    """
    try:
        descriptor = os.open(path / PROCESS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = RECORD_LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    finally:
        os.close(descriptor)
    kind, _, _, _, process = RECORD_LOCK.unpack(answer)
    return process if kind != fcntl.F_UNLCK and process > 0 else None


class StateDirectoryError(Exception):
    """The state directory can't be used; the message says why and what to do."""


class StateDirectory:
    """One process at a time holds it, from `hold` to `release`.

    Raises StateDirectoryError where it can't be made, written, or is held by another process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._process_lock: int | None = None
        self._crash_report: TextIOWrapper | None = None

    def hold(self) -> None:
        """Make the folder if need be, and take hold of it."""
        if "fcntl" not in globals():
            raise StateDirectoryError(
                "sensordropd needs a system with flock: Linux. Here folders are uploaded by hand, "
                "with sensordrop upload."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateDirectoryError(
                f"the state directory {self.path} can't be used: {error.strerror}. "
                "Make it writable for this user, or set state_directory."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise StateDirectoryError(
                f"another sensordropd (process {pid or 'unknown'}) is running on the state "
                f"directory {self.path}. Stop it, or give this one its own state_directory."
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
        self._say_whose()

    def release(self) -> None:
        """Let go of the folder. May be repeated."""
        if self._crash_report is not None:
            faulthandler.disable()
            self._crash_report.close()
            self._crash_report = None
            (self.path / "crash.log").unlink(missing_ok=True)
        if self._process_lock is not None:
            os.close(self._process_lock)
            self._process_lock = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def trail(self) -> Path:
        """Where it is noted which files are in work."""
        return self.path / "in-work"

    def instance(self) -> uuid.UUID:
        """Give the number that tells this state directory from all others, made at first use."""
        return uuid.UUID(self._kept("instance", str(uuid.uuid4())))

    def station(self) -> str:
        """Give the name of this host in the ledger, made at first use."""
        host = socket.gethostname().split(".")[0] or "station"
        return self._kept("station", f"{host}-{secrets.token_hex(3)}")

    def crash_of_predecessor(self) -> str | None:
        """Give the report that the last process left when it died of a fatal error, if it did.

        A process that was killed from outside leaves none: its work is not to blame.
        """
        report = self.path / "crash.log"
        try:
            text = report.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        if not text.strip():
            return None
        report.replace(self.path / f"crash-{report.stat().st_mtime_ns}.log")
        for old in sorted(self.path.glob("crash-*.log"))[:-MOST_CRASH_REPORTS]:
            old.unlink(missing_ok=True)
        return text

    def report_crashes(self) -> None:
        """Have fatal errors of this process (SIGSEGV, SIGABRT, …) written down here."""
        self._crash_report = (self.path / "crash.log").open("w", encoding="utf-8")
        faulthandler.enable(self._crash_report)

    def note_reload(self, outcome: ReloadOutcome, began: float) -> None:
        """Keep what came of a reload, for whoever asked for it and waits (`sensordrop reload`).

        `began`: on the machine's monotonic clock, which all its processes share.
        """
        told = {
            "pid": os.getpid(),
            "began": began,
            "taken": outcome.taken,
            "waits": outcome.waits,
            "problems": list(outcome.problems),
            "changes": outcome.changes,
            "needs_restart": list(outcome.needs_restart),
        }
        fresh = self.path / "reload.new"
        try:
            fresh.write_text(json.dumps(told), encoding="utf-8")
            fresh.replace(self.path / RELOAD_FILE)
        except OSError as error:
            _log.warning("reload_not_noted", problem=str(error),
                         hint="the reload itself is done; who waits for its end is not told")  # fmt: skip

    def _say_whose(self) -> None:
        """Let the kernel tell others which process holds the folder. Never opened again in this
        process: the first close of any descriptor of the file would end the lock (fcntl(2)).
        """
        try:
            lock = os.open(self.path / PROCESS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateDirectoryError(
                f"the state directory {self.path} can't be used: {error.strerror}. "
                "Make it writable for this user, or set state_directory."
            ) from error
        self._process_lock = lock
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            _log.warning("process_not_told", problem=error.strerror or str(error),
                         hint="sensordrop reload will not find this daemon; systemctl reload and "
                         "SIGHUP do what they always do")  # fmt: skip

    def _kept(self, name: str, value: str) -> str:
        kept = self.path / name
        try:
            found = kept.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            found = ""
        if found:
            return found
        fresh = self.path / f"{name}.new"
        with fresh.open("w", encoding="utf-8") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(kept)
        return value
