"""Where the control socket is, how it is taken, and how it is connected to."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sensordrop.config import DaemonConfig, masked

with suppress(ModuleNotFoundError):  # Windows has none, and no daemon of ours
    import fcntl
    import grp

NAME = "control.sock"
SYSTEM_SOCKET = Path("/run/sensordrop") / NAME
"""Where the package's daemon has it: the state directory is for its own eyes."""
GROUP = "sensordrop"
"""Who may control where nothing is configured, if there is such a group."""
FOLDER_MODE = 0o755
LOCK_SECONDS = 5.0
"""How long another daemon may take to see whether the same socket is free."""
LOCK_TURN_SECONDS = 0.05


class NotOursToGiveError(Exception):
    """The socket can't be handed to a group: this process, or its sandbox, may not."""


def socket_path(config: DaemonConfig) -> Path:
    """Give where a configured daemon has its control socket."""
    if config.control_socket is not None:
        return config.control_socket
    if config.state_directory == DaemonConfig().state_directory:
        return SYSTEM_SOCKET
    return config.state_directory / NAME


def ledger_name(config: DaemonConfig) -> str:
    """Name a configuration's ledger, without its password: two that are equal are one."""
    if config.database == "embedded":
        return f"embedded in {config.state_directory}"
    return masked(config.database)


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Give a name for a socket that is short enough for the kernel, whatever its path.

    A socket's name has 107 bytes at most (unix(7)); through its folder's descriptor, only the
    last part of the path counts. Raises OSError.
    """
    if not hasattr(os, "O_PATH"):  # not Linux: the name must do as it is
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path, *, timeout_seconds: float) -> socket.socket:
    """Connect to a control socket. Raises OSError."""
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no unix sockets")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_seconds)
        with short_name(path) as name:
            connection.connect(name)
    except BaseException:
        connection.close()
        raise
    return connection


FilePlace = tuple[int, int]
"""The file system and the number of a file. While a socket is open no other file gets its number."""


def place_of(path: Path) -> FilePlace | None:
    """Say which file has a name; None: none, or none that this process may see."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def listen(
    path: Path, *, mode: int, group: int | None, backlog: int
) -> tuple[socket.socket, FilePlace]:
    """Take the socket and listen; what a dead daemon left is replaced, what lives never is.

    Who may connect is settled before anybody can. Blocks for a moment while another daemon looks
    at the same folder. Raises NotOursToGiveError, and OSError: EADDRINUSE where somebody answers there, EEXIST where
    something else than a socket is there.
    """
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _alone_in(path.parent), short_name(path) as name:
            _clear(path)
            listening.bind(name)
            if group is not None and path.lstat().st_gid != group:
                _hand_to(path, group)
            path.chmod(mode)
            listening.listen(backlog)
            found = path.lstat()
    except BaseException:
        listening.close()
        raise
    return listening, (found.st_dev, found.st_ino)


def _hand_to(path: Path, group: int) -> None:
    try:
        os.chown(path, -1, group)
    except PermissionError as error:
        path.unlink()
        raise NotOursToGiveError(
            f"this process may not hand its socket to the group with number {group}"
        ) from error


def leave(path: Path, place: FilePlace) -> None:
    """Remove our socket at the end, unless somebody else's is there by now. Never raises OSError."""
    try:
        if place_of(path) == place:
            path.unlink()
    except OSError:
        return  # gone with its folder, or not ours to remove: the next start replaces it


def controlling_group(name: str | None) -> tuple[int | None, str | None]:
    """Find the group whose members may control, and what is wrong with it, if something is.

    Without a name it is `sensordrop`, if there is one that this process may hand a socket to.
    """
    wanted = name or GROUP
    try:
        number = grp.getgrnam(wanted).gr_gid
    except KeyError:
        return None, f"there is no group {wanted!r}" if name else None
    if os.geteuid() != 0 and number not in (os.getegid(), *os.getgroups()):
        return None, f"this process is not in the group {wanted!r}" if name else None
    return number, None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other daemons from looking for a free socket in a folder meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        give_up = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(LOCK_TURN_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _clear(path: Path) -> None:
    """See that the name is free, and remove a socket at which nobody answers."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "something else than a socket is there", str(path))
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)) as s:
            s.setblocking(False)
            with short_name(path) as name:
                s.connect(name)
    except ConnectionRefusedError:
        path.unlink()  # its daemon is dead
        return
    except BlockingIOError:
        pass  # somebody listens there, with more to do than there is room for
    raise OSError(errno.EADDRINUSE, "another program answers there", str(path))
