"""Who asks, and what they may do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

ROOT = 0


class Role(StrEnum):
    """What somebody may do; a later one may do all that the ones before it may."""

    STRANGER = "stranger"
    """Nothing."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What the configuration lets a user, or the members of a group, see and do."""

    user: str | None = None
    group: str | None = None
    """One of the two is named, by its name or number."""
    role: Role
    clients: tuple[str, ...] | None
    """See `Principal.clients`."""

    @property
    def whom(self) -> str:
        """Whom it is for, in words."""
        return f"group {self.group}" if self.user is None else f"user {self.user}"


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownGrant:
    """A grant with the numbers that the kernel knows a user or a group by."""

    grant: Grant
    user_id: int | None = None
    group_id: int | None = None

    def fits(self, peer: Peer) -> bool:
        """Tell whether it is for this peer."""
        return peer.user_id == self.user_id or self.group_id in peer.groups


class Rank(IntEnum):
    """Whose connections give way to whose, where there is no room for all."""

    ANYBODY = 0
    CONTROLLER = 1
    """A member of the group that controls."""
    TRUSTED = 2
    """Root and the daemon's own user."""


def rank_of(peer: Peer, *, own_user_id: int, group: int | None) -> Rank:
    """Say for how much a peer counts. Needs no names, so that no directory server is waited for."""
    if peer.user_id in (ROOT, own_user_id):
        return Rank.TRUSTED
    return Rank.CONTROLLER if group is not None and group in peer.groups else Rank.ANYBODY


def principal_of(
    peer: Peer,
    *,
    host: str,
    own_user_id: int,
    group: int | None,
    grants: Sequence[KnownGrant] = (),
    named_only: bool = False,
) -> Principal:
    """Say who a peer is.

    Root and the daemon's own user are admins of everything, whatever is configured; only they are
    believed on whose behalf they ask. For others the first grant that fits holds. Whom none fits is
    an admin if in the group, else a viewer; with `named_only` a stranger.
    """
    rank = rank_of(peer, own_user_id=own_user_id, group=group)
    if rank is Rank.TRUSTED:
        return Principal(name=f"{peer.behalf or peer.user}@{host}", role=Role.ADMIN)
    name = f"{peer.user}@{host}"
    for known in grants:
        if known.fits(peer):
            return Principal(name=name, role=known.grant.role, clients=known.grant.clients)
    if rank is Rank.CONTROLLER:
        return Principal(name=name, role=Role.ADMIN)
    return Principal(name=name, role=Role.STRANGER if named_only else Role.VIEWER)
