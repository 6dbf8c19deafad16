"""Servers of our own that several programs may use at once, and that end with the last of them.

Three lock files in the server's folder carry the whole arrangement, because the kernel lets go of
a lock however its holder died:

- `users.lock`: every program that uses the server holds it shared. Who stops tries to get it
  alone; only the last user can, and only that one ends the server.
- `start.lock`: whoever looks for the server or starts it holds it alone meanwhile.
- `server.lock`: handed down to the server's first process and from there to all its children. As
  long as any of them lives it is taken, so a stale pid file, a recycled process id or a server
  half dead can't mislead anybody: a free lock means that nobody is there.

A server that outlived its programs (kill -9) is found by its command line, used by the next
program, and ended by that one's stop. Needs Linux: flock, /proc.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from sensordrop.ports.life import StopFlag

with suppress(ModuleNotFoundError):  # Windows has none, and no servers of ours
    import fcntl

READY_LIMIT_SECONDS = 300.0
"""Longest wait for a server to answer: a database that was killed replays its log first."""
PROGRESS_SECONDS = 5.0
"""How often a wait says that it still waits."""
FIRST_PAUSE_SECONDS = 0.02
LAST_PAUSE_SECONDS = 0.5
"""Pauses between two looks double from the first to the last."""
LAUNCH_LIMIT = 5
"""How often one start launches a server that ends again before it answered."""
OUTPUT_TAIL_BYTES = 4096
"""How much of a server's last words an error repeats."""


class EmbeddedServerError(Exception):
    """An embedded server can't be started, used or ended. The text says what to do about it."""


class EmbeddedServerInterruptedError(EmbeddedServerError):
    """The wait for an embedded server was broken off because the program is stopping."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """How to start a process: nothing of our own environment is handed down unless named here.

    `account` is the (user id, group id) to become before the program starts, None to stay as we
    are. `cwd` is entered before that.
    """

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str]
    account: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessIdentity:
    """A process, told from a later one with the same id by its start (clock ticks since boot)."""

    pid: int
    started_ticks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandMark:
    """What tells a server's first process: its program's name, and an option with its value."""

    program: str
    option: str
    value: str

    def matches(self, argv: Sequence[bytes]) -> bool:
        """Tell whether a command line is that of the marked server."""
        if not argv or os.path.basename(argv[0]) != os.fsencode(self.program):  # noqa: PTH119
            return False
        wanted = (os.fsencode(self.option), os.fsencode(self.value))
        return wanted in pairwise(argv)


def find_process(mark: CommandMark) -> ProcessIdentity | None:
    """Find the running process with this mark; the oldest, if a fork of it still looks the same."""
    found: list[ProcessIdentity] = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            pid = int(entry.name)
            started_ticks = _started_ticks(pid)
            if started_ticks is not None and mark.matches(_command_line(pid)):
                found.append(ProcessIdentity(pid=pid, started_ticks=started_ticks))
    return min(found, key=lambda process: (process.started_ticks, process.pid), default=None)


def find_working_in(folder: Path, program: str) -> int | None:
    """Find a process of this program that has the folder as its working directory: its id."""
    wanted = folder.stat()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):  # ended meanwhile, or another user's, which we may not look into
            place = Path(entry.path, "cwd").stat()
            name = Path(entry.path, "comm").read_text().strip()
            if os.path.samestat(place, wanted) and name == program:
                return int(entry.name)
    return None


def send_signal(process: ProcessIdentity, number: int) -> None:
    """Send a signal to exactly this process; without effect if it has ended meanwhile.

    Raises PermissionError if the process is another user's.
    """
    with suppress(ProcessLookupError):
        if not (hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")):
            # Python that was built for older kernels: a moment is left between look and signal.
            if _started_ticks(process.pid) == process.started_ticks:
                os.kill(process.pid, number)
            return
        descriptor = os.pidfd_open(process.pid)
        try:
            # The descriptor now holds on to one process; is it the one that was meant?
            if _started_ticks(process.pid) == process.started_ticks:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _started_ticks(pid: int) -> int | None:
    """Give the start of a living process, None for one that is gone or only waits to be reaped."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = line.rpartition(b")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def _command_line(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def spawn(launch: Launch, output: int, *, keep: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that a terminal's Ctrl-C does not reach it.

    `output` is a descriptor for what it prints; of our other descriptors it gets only those in
    `keep`. Raises OSError.
    """
    user, group = launch.account or (None, None)
    return subprocess.Popen(
        launch.argv,
        cwd=launch.cwd,
        env=dict(launch.environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=keep,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
    )


def run_to_end(
    launch: Launch, output: int, *, seconds: float, stop: StopFlag, keep: Sequence[int] = ()
) -> int:
    """Run a process like `spawn` does and give its exit code. Blocks at most `seconds`.

    Whatever breaks the wait off (Ctrl-C, the stop flag, the time limit) ends the process together
    with all that it started.
    """
    process = spawn(launch, output, keep=keep)
    deadline = time.monotonic() + seconds
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(LAST_PAUSE_SECONDS)
            if stop.is_set():
                raise EmbeddedServerInterruptedError(f"{launch.argv[0]} was broken off")
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"{launch.argv[0]} took longer than {seconds:.0f} s")
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def is_root() -> bool:
    """Tell whether this is root; nobody is on Windows."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def open_private(path: Path, flags: int) -> int:
    """Open (and make, readable by its owner alone) a file of ours; never through a link.

    A file that root makes in somebody else's folder is given to that folder's owner, who would
    otherwise be locked out later. Raises OSError.
    """
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | os.O_CREAT | more, 0o600)
    if is_root() and os.fstat(descriptor).st_uid == 0:
        folder = path.parent.stat()
        if folder.st_uid != 0:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor


def write_whole(path: Path, text: str, mode: int) -> None:
    """Write a small file so that nobody, not even after a power cut, sees half of it."""
    beside = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        beside.unlink()
    descriptor = open_private(beside, os.O_WRONLY | os.O_EXCL)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, no path
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames in a folder survive a power cut, where a folder can be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(path: Path, kind: int) -> int | None:
    """Take a lock file's lock (`fcntl.LOCK_SH` or `LOCK_EX`) if it is free: its descriptor.

    Closing the descriptor lets go, once nobody who inherited it is left.
    """
    descriptor = open_private(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class _Patience:
    """One wait: pauses that grow, a progress line now and then, an end."""

    def __init__(self, what: str, *, seconds: float, log: Callable[[str], None]) -> None:
        self._what = what
        self._seconds = seconds
        self._log = log
        self._began = time.monotonic()
        self._told = self._began
        self._pause = FIRST_PAUSE_SECONDS

    def pause(self, stop: StopFlag, why: str) -> None:
        """Wait a little. Raises EmbeddedServerError at the end of the patience or on `stop`."""
        if stop.is_set():
            raise EmbeddedServerInterruptedError(f"stopped while waiting for {self._what}")
        now = time.monotonic()
        waited = now - self._began
        if waited > self._seconds:
            raise EmbeddedServerError(f"gave up after {waited:.0f} s on {self._what}: {why}")
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            self._log(f"waiting for {self._what} ({waited:.0f} s so far): {why}")
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LAST_PAUSE_SECONDS)


class _Never:
    """The stop flag of those who have none."""

    def is_set(self) -> bool:
        return False


class _Either:
    """Set when one of two stop flags is set."""

    def __init__(self, first: StopFlag, second: StopFlag) -> None:
        self._first = first
        self._second = second

    def is_set(self) -> bool:
        return self._first.is_set() or self._second.is_set()


class SharedServer(ABC):
    """A server process in a folder of ours, started when needed, ended by its last user.

    Use it as a context manager, or call `start` and `stop`. All methods may be called from every
    thread. Subclasses say how the server is launched, asked and ended.
    """

    def __init__(
        self,
        directory: Path,
        *,
        log: Callable[[str], None] | None = None,
        stop: StopFlag | None = None,
    ) -> None:
        """Prepare to use the server in `directory`; nothing is touched before `start`.

        `log` takes lines for the operator. `stop` breaks off long waits of `start` and
        `ensure_running`, with EmbeddedServerInterruptedError.
        """
        # Resolved, because the server's command line, by which it is found again, must be the
        # same whatever way its folder was named.
        self.directory = directory.resolve()
        self._log: Callable[[str], None] = log or (lambda _line: None)
        self._ending = threading.Event()
        self._stop = _Either(stop or _Never(), self._ending)
        self._guard = threading.RLock()
        self._users: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- what every user calls -------------------------------------------------------------

    def start(self) -> None:
        """Become a user of the server: find it running, or start it, and wait until it answers.

        Blocks up to 300 s (recovery after a crash), usually well below one. Without effect if
        started already. Raises EmbeddedServerError; then nothing is left running that was not
        somebody else's.
        """
        with self._guard:
            if self._users is not None:
                return
            self._ending.clear()
            try:
                self._make_directory()
                self._bring_up()
            except OSError as error:
                self._let_go(immediate=False)
                raise EmbeddedServerError(
                    f"{self._name} in {self.directory} can't be started: {error}"
                ) from error
            except BaseException:
                self._let_go(immediate=False)
                raise

    def ensure_running(self) -> None:
        """Start the server again if it died; wait until it answers.

        To be called when a connection failed. Blocks like `start`; threads that call it at once
        wait for the same restart. Raises EmbeddedServerError, also when not started.
        """
        with self._guard:
            if self._users is None:
                raise EmbeddedServerError(f"{self._name} in {self.directory} was not started")
            try:
                self._bring_up()
            except OSError as error:
                raise EmbeddedServerError(
                    f"{self._name} in {self.directory} can't be started again: {error}"
                ) from error

    def answers(self) -> bool:
        """Ask the server once whether it is well. Blocks some seconds at most, starts nothing."""
        return self._trouble() is None

    def stop(self, *, immediate: bool = False) -> None:
        """Stop using the server; end it if nobody else uses it.

        `immediate` gives running work no time to end. Blocks until the server's last process is
        gone; breaks off a `start` or `ensure_running` that waits in another thread. May be
        repeated. Raises EmbeddedServerError if the server does not end.
        """
        self._ending.set()
        with self._guard:
            self._let_go(immediate=immediate)

    # --- what a server says of itself ------------------------------------------------------

    @property
    @abstractmethod
    def _name(self) -> str:
        """Give the server's name in messages."""

    @property
    @abstractmethod
    def _mark(self) -> CommandMark:
        """Give what tells the server's first process from all others."""

    @abstractmethod
    def _prepare(self, lock: int) -> Launch:
        """Make everything ready to launch, and say how. Nobody else runs or starts the server.

        Programs that write into the folder inherit `lock`, so that nobody mistakes it for
        abandoned while they live.
        """

    @abstractmethod
    def _trouble(self) -> str | None:
        """Ask the server something. None if it answers well, else what is the matter."""

    @abstractmethod
    def _endings(self, *, immediate: bool) -> Sequence[tuple[signal.Signals, float]]:
        """Give the signals that end the server, politest first, each with its seconds to work."""

    def _launch_failed(self, exit_code: int, output: str) -> None:
        """Judge a launch that ended before it answered. Raises, or returns to launch again."""
        raise EmbeddedServerError(
            f"{self._name} in {self.directory} ended with {exit_code} before it was ready:\n"
            f"{output}"
        )

    # --- how it is done --------------------------------------------------------------------

    def _make_directory(self) -> None:
        if "fcntl" not in globals() or not Path("/proc/self/stat").exists():
            raise EmbeddedServerError(
                f"{self._name} can be embedded on Linux only (it takes flock and /proc): name one "
                "that runs elsewhere, a ledger with --database URL or SENSORDROP_DATABASE_URL"
            )
        # Others may pass through root's folder (the server may be another user), never list it.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self.directory.mkdir(mode=mode)
            self.directory.chmod(mode)  # whatever the umask was
            above = self.directory.parent.stat()
            if os.geteuid() == 0 and above.st_uid != 0:  # as `open_private` does with files
                os.chown(self.directory, above.st_uid, above.st_gid)

    def _path(self, name: str) -> Path:
        return self.directory / name

    def _bring_up(self) -> None:
        with self._held("start.lock", fcntl.LOCK_EX, "another program that starts it"):
            if self._users is None:
                self._users = self._take("users.lock", fcntl.LOCK_SH, "its last user to end it")
            self._wait_until_ready()

    def _take(self, file_name: str, kind: int, why: str) -> int:
        patience = self._patience()
        while True:
            lock = try_lock(self._path(file_name), kind)
            if lock is not None:
                return lock
            patience.pause(self._stop, f"waiting for {why}")

    @contextmanager
    def _held(self, file_name: str, kind: int, why: str) -> Iterator[None]:
        lock = self._take(file_name, kind, why)
        try:
            yield
        finally:
            os.close(lock)

    def _patience(self) -> _Patience:
        return _Patience(
            f"{self._name} in {self.directory}", seconds=READY_LIMIT_SECONDS, log=self._log
        )

    def _wait_until_ready(self) -> None:
        patience = self._patience()
        launches = 0
        while True:
            lock = try_lock(self._path("server.lock"), fcntl.LOCK_EX)
            if lock is not None:
                try:
                    launches += 1
                    self._after_end(launches)
                    self._launch(lock)
                finally:
                    os.close(lock)  # never unlocked: the server has inherited it
            trouble = self._trouble()
            if trouble is None:
                if launches == 0:
                    self._tell_adopted()
                return
            patience.pause(self._stop, trouble)

    def _tell_adopted(self) -> None:
        process = find_process(self._mark)
        if process and not (self._child and self._child.pid == process.pid):
            self._log(f"{self._name} in {self.directory} is running already: pid {process.pid}")

    def _launch(self, lock: int) -> None:
        foreign = find_process(self._mark)
        if foreign is not None:
            raise EmbeddedServerError(
                f"{self._name} in {self.directory} was started by somebody else "
                f"(pid {foreign.pid}); end that one first"
            )
        launch = self._prepare(lock)
        output = open_private(self._path("output.log"), os.O_WRONLY | os.O_APPEND)
        try:
            os.ftruncate(output, 0)
            self._child = spawn(launch, output, keep=(lock,))
        finally:
            os.close(output)
        self._log(f"{self._name} started in {self.directory}: pid {self._child.pid}")

    def _after_end(self, launches: int) -> None:
        """Before a launch: look at how the child that we had before has ended."""
        child, self._child = self._child, None
        if child is None:
            return
        exit_code = child.wait()  # it has let go of the lock: it is ending, or has ended
        if launches == 1:
            self._log(f"{self._name} in {self.directory} had ended ({exit_code}); starting again")
        elif launches > LAUNCH_LIMIT:
            raise EmbeddedServerError(
                f"{self._name} in {self.directory} ended {LAUNCH_LIMIT} times before it was "
                f"ready:\n{self._last_output()}"
            )
        elif exit_code > 0:  # not killed by a signal, but given up by itself
            self._launch_failed(exit_code, self._last_output())

    def _last_output(self) -> str:
        path = self._path("output.log")
        return path.read_bytes()[-OUTPUT_TAIL_BYTES:].decode("utf-8", "replace").strip()

    def _let_go(self, *, immediate: bool) -> None:
        users, self._users = self._users, None
        if users is None:
            return
        try:
            # The kernel lets go of the shared lock before it looks for others, so of several
            # users that stop at once exactly one comes last.
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._log(f"{self._name} in {self.directory} goes on: others use it")
        else:
            self._end_server(immediate=immediate)
        finally:
            os.close(users)
            self._released()

    def _released(self) -> None:  # noqa: B027  # most servers keep nothing open
        """Give up what was held open to use the server."""

    def _end_server(self, *, immediate: bool) -> None:
        for number, seconds in self._endings(immediate=immediate):
            deadline = time.monotonic() + seconds
            sent = False
            while time.monotonic() < deadline:
                if self._nobody_there():
                    if self._child is not None:
                        self._child.wait()
                        self._child = None
                    self._log(f"{self._name} in {self.directory} has ended")
                    return
                if not sent and (process := find_process(self._mark)):
                    send_signal(process, number)
                    sent = True
                time.sleep(FIRST_PAUSE_SECONDS)
        raise EmbeddedServerError(
            f"{self._name} in {self.directory} did not end; its lock "
            f"{self._path('server.lock')} is still held (fuser shows by whom)"
        )

    def _nobody_there(self) -> bool:
        lock = try_lock(self._path("server.lock"), fcntl.LOCK_EX)
        if lock is None:
            return False
        os.close(lock)
        return True
