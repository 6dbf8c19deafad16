"""Who is at the other end of a socket, as the kernel tells it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Sequence
from contextlib import suppress

from sensordrop.core.principal import Grant, KnownGrant, Peer

with suppress(ModuleNotFoundError):  # Windows has none, and no daemon of ours
    import grp
    import pwd

CREDENTIALS = struct.Struct("iII")
"""`struct ucred` of unix(7): process, user, group."""
SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)
"""Python has no name for it; 59 on all machines that Debian's Python 3.11 wheels are made for."""
GROUPS_BYTES = 1024
"""The most that Python asks the kernel for: 256 groups. Whoever is in more is looked up by name."""


def peer_of(connection: socket.socket, *, behalf: str = "") -> Peer:
    """Tell who connected. What they were then counts, whatever they are now. Raises OSError.

    Blocks where the machine asks a directory server for names.
    """
    user_id, group = _credentials(connection)
    user = _name_of(user_id)
    try:
        groups = _groups_of(connection)
    except OSError:  # more groups than fit, or a kernel before 4.13
        groups = os.getgrouplist(user, group)
    return Peer(user_id=user_id, user=user, groups={group, *groups}, behalf=behalf)


def nameless_peer_of(connection: socket.socket) -> Peer:
    """Tell who connected without a name, and so without waiting. Raises OSError."""
    user_id, group = _credentials(connection)
    try:
        groups = _groups_of(connection)
    except OSError:
        groups = ()  # see `peer_of`: whoever is in so many counts for less here
    return Peer(user_id=user_id, user=str(user_id), groups={group, *groups})


def known_grants(grants: Sequence[Grant]) -> tuple[list[KnownGrant], list[str]]:
    """Look up the numbers of those who are named, and name those that this machine does not know.

    Blocks as `peer_of` does.
    """
    known, unknown = [], []
    for grant in grants:
        try:
            if grant.user is not None:
                known.append(KnownGrant(grant=grant, user_id=_user_id(grant.user)))
            elif grant.group is not None:
                known.append(KnownGrant(grant=grant, group_id=_group_id(grant.group)))
        except KeyError:
            unknown.append(grant.whom)
    return known, unknown


def _user_id(user: str) -> int:
    return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid


def _group_id(group: str) -> int:
    return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid


def _credentials(connection: socket.socket) -> tuple[int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user_id, group = CREDENTIALS.unpack(raw)
    return user_id, group


def _groups_of(connection: socket.socket) -> Collection[int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _name_of(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"uid {user_id}"
