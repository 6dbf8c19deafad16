"""The sockets that libcurl wants to hear of, and what the system says of them.

libcurl's words for what may be done on a socket are its own (`pycurl.POLL_…`, `CSELECT_…`).
"""

from __future__ import annotations

import select
import selectors
from contextlib import suppress
from typing import Any, Protocol

import pycurl


class Sockets(Protocol):
    """Belongs to one thread."""

    def watch(self, what: int, descriptor: int, _multi: Any = None, _data: Any = None) -> None:
        """Take note of what libcurl waits for on a socket."""
        ...

    def ready(self, seconds: float) -> list[tuple[int, int]]:
        """Wait at most so long; give the sockets on which something may be done, and what."""
        ...

    def close(self) -> None:
        """Let go of all."""
        ...


def make_sockets() -> Sockets:
    """Give what suits this system."""
    return EpollSockets() if hasattr(select, "epoll") else PortableSockets()


class EpollSockets:
    """`Sockets` by epoll(7), which only Linux has."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wanted: dict[int, int] = {}
        self._events = {
            pycurl.POLL_NONE: 0,
            pycurl.POLL_IN: select.EPOLLIN,
            pycurl.POLL_OUT: select.EPOLLOUT,
            pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
        }

    def watch(self, what: int, descriptor: int, _multi: Any = None, _data: Any = None) -> None:
        """Take note of what libcurl waits for on a socket.

        Between two requests on a connection it waits for nothing. The system is not told of that:
        most of the time the next request comes at once, and each telling costs a call.
        """
        if what == pycurl.POLL_REMOVE:
            self._wanted.pop(descriptor, None)
            return
        mask = self._events[what]
        self._wanted[descriptor] = mask
        try:
            self._epoll.modify(descriptor, mask)
        except FileNotFoundError:  # a new socket; a closed one was forgotten by the system
            self._epoll.register(descriptor, mask)

    def ready(self, seconds: float) -> list[tuple[int, int]]:
        """Wait at most so long; give the sockets on which something may be done, and what."""
        found = []
        for descriptor, events in self._epoll.poll(seconds):
            if descriptor not in self._wanted:
                self._epoll.unregister(descriptor)  # the other side closed what lay idle
                continue
            bits = pycurl.CSELECT_IN if events & ~select.EPOLLOUT else 0
            found.append(
                (descriptor, bits | (pycurl.CSELECT_OUT if events & ~select.EPOLLIN else 0))
            )
        return found

    def close(self) -> None:
        """Let go of all."""
        self._epoll.close()


class PortableSockets:
    """`Sockets` by whatever the system has: kqueue, poll, or select."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, what: int, descriptor: int, _multi: Any = None, _data: Any = None) -> None:
        """Take note of what libcurl waits for on a socket."""
        wanted = 0
        if what in (pycurl.POLL_IN, pycurl.POLL_INOUT):
            wanted |= selectors.EVENT_READ
        if what in (pycurl.POLL_OUT, pycurl.POLL_INOUT):
            wanted |= selectors.EVENT_WRITE
        # A number may be another socket's by now, and a closed one is forgotten by some systems.
        with suppress(KeyError, ValueError, OSError):
            self._selector.unregister(descriptor)
        if wanted:
            self._selector.register(descriptor, wanted)

    def ready(self, seconds: float) -> list[tuple[int, int]]:
        """Wait at most so long; give the sockets on which something may be done, and what."""
        return [
            (
                key.fd,
                (pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0)
                | (pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0),
            )
            for key, events in self._selector.select(seconds)
        ]

    def close(self) -> None:
        """Let go of all."""
        self._selector.close()
