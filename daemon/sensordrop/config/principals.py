"""Who may ask and steer the daemon at its control socket: the key `control_principals`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sensordrop.config.kinds import Kind, NotExpectedError, text_of
from sensordrop.config.problem import did_you_mean
from sensordrop.core.principal import Grant, Role

MOST_GRANTS = 100
"""Each is looked up in the machine's users and groups when somebody asks."""
MOST_CLIENTS = 100
"""Of one grant."""
LONGEST_CLIENT = 200
"""Characters of a client's name, as the key `client` takes them."""
ALL = "all"
"""Instead of a list of clients. A client that is named so is written as a list."""
ROLES = (Role.VIEWER.value, Role.ADMIN.value)
KEYS = ("user", "group", "role", "clients")

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}\$?")
"""A user or a group, also one of a domain, or its number."""


@dataclass(frozen=True, slots=True)
class Grants(Kind):
    """What users and groups are let see and do, in their order."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = (
        f"a list of at most {MOST_GRANTS} mappings of user or group, role (viewer or admin) and "
        "clients (a list of their names, or all)"
    )

    def read(self, value: object) -> tuple[Grant, ...]:
        """Read them."""
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or len(value) > MOST_GRANTS:
            raise NotExpectedError
        grants = tuple(_grant(item) for item in value)
        named = [(grant.user, grant.group) for grant in grants]
        for grant in grants:
            if named.count((grant.user, grant.group)) > 1:
                raise NotExpectedError(f"{grant.whom} stands there twice: only one can hold")
        return grants

    def public(self, value: object) -> object:
        """Give them as they are written in a file."""
        if not isinstance(value, list | tuple):
            return value
        return [_written(item) if isinstance(item, Grant) else item for item in value]

    def default_text(self, value: object) -> str:
        """Write the default."""
        return "none" if not value else f"`{value}`"


def _grant(item: object) -> Grant:
    if isinstance(item, Grant):
        return item
    if not isinstance(item, Mapping):
        raise NotExpectedError
    for key in item:
        if key not in KEYS:
            raise NotExpectedError(did_you_mean(str(key), KEYS) or f"it takes {', '.join(KEYS)}")
    user, group = _account(item, "user"), _account(item, "group")
    if (user is None) == (group is None):
        raise NotExpectedError("each names either a user or a group")
    whom = user or group
    role = item.get("role")
    if role not in ROLES:
        raise NotExpectedError(f"the role of {whom} is {' or '.join(ROLES)}")
    if "clients" not in item:
        raise NotExpectedError(f"say which clients {whom} may see: a list of them, or {ALL}")
    return Grant(user=user, group=group, role=Role(role), clients=_clients(item["clients"]))


def _account(item: Mapping[object, object], key: str) -> str | None:
    if item.get(key) is None:
        return None
    name = text_of(item[key])
    if not _ACCOUNT.fullmatch(name):
        raise NotExpectedError(f"{key} takes the name of a {key}, or its number")
    return name


def _clients(value: object) -> tuple[str, ...] | None:
    if value == ALL:
        return None
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_CLIENTS:
        raise NotExpectedError(f"clients takes a list of 1 to {MOST_CLIENTS} names, or {ALL}")
    names = tuple(text_of(name) for name in value)
    if any(not name or len(name) > LONGEST_CLIENT for name in names):
        raise NotExpectedError(f"a client's name has 1 to {LONGEST_CLIENT} characters")
    return names


def _written(grant: Grant) -> dict[str, object]:
    whom = {"group": grant.group} if grant.user is None else {"user": grant.user}
    clients = ALL if grant.clients is None else list(grant.clients)
    return {**whom, "role": grant.role.value, "clients": clients}


def unknown_clients(grants: Sequence[Grant], clients: Iterable[str]) -> list[str]:
    """Give a line for each client that is named and that no delivery is of. Pure."""
    known = sorted(set(clients))
    lines = []
    for grant in grants:
        for name in grant.clients or ():
            if name not in known:
                meant = did_you_mean(name, known)
                line = f"{grant.whom} may see the client {name!r}, and no delivery is of it"
                lines.append(f"{line}: {meant}" if meant else line)
    return lines
