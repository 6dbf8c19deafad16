"""Who asks, and what they may do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

ROOT = 0


class Role(StrEnum):
    """What somebody may do; a later one may do all that the ones before it may."""

    VIEWER = "viewer"
    """Look."""
    ADMIN = "admin"
    """Look, and change what is set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Somebody who asks for an operation."""

    name: str
    """As it is written down with what they set: `anna@field-office`."""
    role: Role
    clients: Sequence[str] | None = None
    """The clients whose deliveries they may see and set; None: all, and the station itself."""

    def may(self, needed: Role) -> bool:
        """Tell whether an operation that needs a role is open to them."""
        order = list(Role)
        return order.index(self.role) >= order.index(needed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """The process at the other end of a socket, as the kernel tells it."""

    user_id: int
    user: str
    groups: Collection[int]
    """Its own group and all its others, by number."""
    behalf: str = ""
    """For whom it says that it asks, as sudo does."""


def principal_of(peer: Peer, *, host: str, own_user_id: int, group: int | None) -> Principal:
    """Say who a peer is: root, the daemon's own user and the group's members are admins, others
    viewers. Only root and the daemon's own user are believed on whose behalf they ask.
    """
    trusted = peer.user_id in (ROOT, own_user_id)
    admin = trusted or (group is not None and group in peer.groups)
    name = peer.behalf if trusted and peer.behalf else peer.user
    return Principal(name=f"{name}@{host}", role=Role.ADMIN if admin else Role.VIEWER)
