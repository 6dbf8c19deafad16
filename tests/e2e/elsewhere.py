"""Plays another system, as far as this one can: `python elsewhere.py macos|windows VERB …`.

What macOS or Windows lack is taken away before the first line of the program is read; what is
left of this system beneath (libraries in C, the file system's rules) is still Linux.
"""

from __future__ import annotations

import builtins
import fcntl
import io
import os
import select
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

NOT_ON_MACOS = {
    os: ("O_PATH", "pipe2", "memfd_create", "sched_getaffinity", "posix_fadvise"),
    fcntl: ("F_SETLEASE", "F_GETLEASE", "F_ADD_SEALS"),
    socket: ("SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PEERCRED"),
    signal: ("SIGPWR", "SIGSTKFLT"),
    select: ("epoll", "EPOLLIN", "EPOLLOUT"),
}
NOT_ON_WINDOWS = {
    os: (
        "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_SYNC", "pread",
        "preadv", "pwrite", "geteuid", "getuid", "getegid", "getgid", "getgroups", "getgrouplist",
        "statvfs", "fstatvfs", "killpg", "setsid", "getpgid", "fchmod", "fchown", "chown", "lchown",
        "mkfifo", "mknod", "fork", "uname", "sysconf", "nice", "getloadavg", "fwalk", "sendfile",
    ),
    socket: ("AF_UNIX",),
    signal: ("SIGHUP", "SIGIO", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM"),
    select: ("poll", "POLLIN", "POLLPRI", "POLLERR"),
}  # fmt: skip
MODULES_NOT_ON_WINDOWS = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog")


class NoInotify:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.startswith("watchdog.observers.inotify"):
            raise ModuleNotFoundError(name)


def without_proc(function: Callable[..., Any], *, below_descriptors: bool) -> Callable[..., Any]:
    """Give a function of the system that sees nothing below /proc."""

    def looked(path: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(path, str | bytes | os.PathLike):
            text = os.fsdecode(path)
            if text == "/proc" or text.startswith("/proc/"):
                raise FileNotFoundError(2, "No such file or directory", text)
        elif not below_descriptors and function in (os_scandir, os_stat):
            raise TypeError("a path, not a number")
        if named.get("dir_fd") is not None and not below_descriptors:
            raise NotImplementedError("dir_fd is unavailable on this platform")
        return function(path, *arguments, **named)

    for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if function in able:
            able.add(looked)
    return looked


def take_away(missing: dict[Any, tuple[str, ...]]) -> None:
    for module, names in missing.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Give two connected sockets, as Python makes them on Windows."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


os_scandir, os_stat = os.scandir, os.stat


def play(system: str) -> None:
    windows = system == "windows"
    for name in ("open", "stat", "lstat", "scandir", "listdir", "access", "readlink"):
        seen = without_proc(getattr(os, name), below_descriptors=not windows)
        setattr(os, name, seen)
    builtins.open = io.open = without_proc(io.open, below_descriptors=True)
    take_away(NOT_ON_MACOS)
    # Theirs are kqueue and select; both know a closed descriptor no more than these do.
    selectors.DefaultSelector = selectors.SelectSelector if windows else selectors.PollSelector  # type: ignore[misc]
    sys.meta_path.insert(0, NoInotify())
    if windows:
        take_away(NOT_ON_WINDOWS)
        socket.socketpair = loopback_pair  # type: ignore[assignment]
        os.supports_dir_fd.clear()
        os.supports_fd.clear()
        for name in MODULES_NOT_ON_WINDOWS:
            sys.modules[name] = None  # type: ignore[assignment]


if __name__ == "__main__":
    play(sys.argv.pop(1))
    from sensordrop.cli.app import main

    main()
