"""Tells systemd how the daemon is: ready, at work, alive, about to end (sd_notify(3)).

The protocol is one datagram of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names; it is
part of systemd's stable interface and made to be spoken without its library. Where nobody listens
(no such variable) every call does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

import structlog

LONGEST_STATUS = 300
"""Characters of a status line: `systemctl status` shows one line."""

SIGNS_PER_PERIOD = 4
"""Signs of life in the time after which the watchdog bites: three may be late."""

_log = structlog.get_logger()


class NotifySocket:
    """The socket of the service manager, a `ports.ServiceManager`. Thread-safe; nothing blocks.

    What can't be sent is told once in the log and dropped: the next message says more than a late
    one, and no upload must wait for a manager that is busy.
    """

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self._address = None if address is None else _socket_name(address)
        self._told = False
        self._is_ready = self._reloads = False
        self._status = ""
        self._alive_due = 0.0
        self.watchdog_seconds = watchdog_seconds
        """Seconds without a sign of life after which the manager ends us; None: never."""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> NotifySocket:
        """Take the variables of sd_notify(3) and sd_watchdog_enabled(3) out of the environment.

        They are removed, so that `find` and an embedded PostgreSQL don't speak in our name.
        """
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", str(os.getpid()))
        watchdog = microseconds.isdigit() and meant == str(os.getpid())
        return cls(address, int(microseconds) / 1_000_000 if watchdog else None)

    @property
    def listens(self) -> bool:
        """Tell whether a service manager wants to hear."""
        return self._address is not None

    def ready(self) -> None:
        """Say that the start is complete."""
        self._is_ready = True
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that another configuration is being taken up. While it starts, that is not news."""
        if self._is_ready:
            self._reloads = True
            # The kernel's clock, in microseconds, tells systemd which reload is meant (from 253 on).
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def reloaded(self) -> None:
        """Say that this is over, however it ended."""
        if self._reloads:
            self._reloads = False
            self._send("READY=1")

    def status(self, text: str) -> None:
        """Give the line that `systemctl status` shows. Sent only if it is another one."""
        line = text.replace("\n", " ")[:LONGEST_STATUS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Feed the watchdog. May be called much more often than it is hungry."""
        now = time.monotonic()
        if self.watchdog_seconds is not None and now >= self._alive_due:
            self._alive_due = now + self.watchdog_seconds / SIGNS_PER_PERIOD
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the daemon is about to end in order."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._told:
                self._told = True
                _log.warning(
                    "service_manager_not_reached",
                    problem=f"{message.partition('=')[0]} could not be sent to NOTIFY_SOCKET: {error}",
                    hint="uploads go on; systemd may think that the daemon hangs",
                )


def _socket_name(address: str) -> str:
    """Give the name as the socket call wants it: `@` stands for the abstract name space."""
    return "\0" + address[1:] if address.startswith("@") else address
