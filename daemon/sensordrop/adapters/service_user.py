"""Root as the service's user: who asks as root must see what the service sees.

Root may read every card and is nobody to a PostgreSQL that knows its users by name. So what
`sensordrop doctor` says of the service is found out as its user, and a ledger that turns root away
is asked as that user.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from sensordrop.adapters.processes import is_root
from sensordrop.adapters.unit import sandbox_of_unit
from sensordrop.core.sandbox import Sandbox

with suppress(ModuleNotFoundError):  # Windows has none, and no service of ours
    import grp
    import pwd

_SETRESUID = {"x86_64": 117, "aarch64": 147}
"""The system call's number (the kernel's unistd.h), for the machines that the package is for."""
_KEEP = -1
"""What setresuid(2) takes for: leave this one."""


def service_account(user: str) -> pwd.struct_passwd | None:
    """Give the account of the service's user; None where there is none, or it is root."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return None
    return account if account.pw_uid != 0 else None


def stand_in_for_root() -> int | None:
    """Give the id of the service's user where root asks and another user's unit is installed.

    Blocks for some milliseconds: the service manager is asked.
    """
    if not is_root() or platform.machine() not in _SETRESUID:
        return None
    sandbox = sandbox_of_unit()
    account = None if sandbox is None else service_account(sandbox.user)
    return None if account is None else account.pw_uid


@contextmanager
def as_service(sandbox: Sandbox | None) -> Iterator[None]:
    """Run a block with the rights of the service's user and all its groups.

    Where nobody but oneself can be asked (one is not root, or there is no such user) it runs as
    whoever asks. For the whole process, so only while it has one thread.
    """
    account = None if sandbox is None or not is_root() else service_account(sandbox.user)
    if sandbox is None or account is None:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    own = os.getgrouplist(account.pw_name, account.pw_gid)
    try:
        os.setgroups([*own, *_group_ids(sandbox.groups)])
        os.setegid(account.pw_gid)
        os.seteuid(account.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _group_ids(names: Sequence[str]) -> list[int]:
    """Give the groups that exist: with one that does not, systemd starts nothing anyway."""
    found = []
    for name in names:
        with suppress(KeyError):
            found.append(grp.getgrnam(name).gr_gid)
    return found


@contextmanager
def thread_as(uid: int) -> Iterator[None]:
    """Run a block of the calling thread, which is root's, with another user's id.

    The C library's calls would change it for all threads, and those read files that are root's
    alone; the kernel's own is for one. Raises OSError where it may not.
    """
    _set_effective(uid)
    try:
        yield
    finally:
        _set_effective(0)


def _set_effective(uid: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(_SETRESUID[platform.machine()], _KEEP, uid, _KEEP) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: becoming user id {uid}")
