"""Who is at the other end of a socket, as the kernel tells it."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Collection

from sensordrop.core.principal import Peer

CREDENTIALS = struct.Struct("iII")
"""`struct ucred` of unix(7): process, user, group."""
SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)
"""Python has no name for it; 59 on all machines that Debian's Python 3.11 wheels are made for."""
GROUPS_BYTES = 1024
"""The most that Python asks the kernel for: 256 groups. Whoever is in more is looked up by name."""


def peer_of(connection: socket.socket, *, behalf: str = "") -> Peer:
    """Tell who connected. What they were then counts, whatever they are now. Raises OSError."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user_id, group = CREDENTIALS.unpack(raw)
    user = _name_of(user_id)
    return Peer(
        user_id=user_id,
        user=user,
        groups={group, *_groups_of(connection, user, group)},
        behalf=behalf,
    )


def _groups_of(connection: socket.socket, user: str, group: int) -> Collection[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    except OSError:  # more groups than fit, or a kernel before 4.13
        return os.getgrouplist(user, group)
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"uid {user_id}"
