"""What a delivery's folder must show before its files are believed to be gone.

A folder that is missing, that does not answer, or that is empty on another file system says
nothing about the files that were in it: the disk is not there. And where more of the waiting
files are gone than is ordinary, a person has to say that they were removed on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

VANISH_FLOOR = 20
"""Fewer missing files than this are never asked about: somebody tidied up."""


HELD_YEAR = 9999
"""In the ledger a missing file that is held is tried next in this year: never, until it is back."""


def is_held(next_at: datetime | None) -> bool:
    """Tell by its next attempt whether a file that waits is held."""
    return next_at is not None and next_at.year >= HELD_YEAR


@dataclass(frozen=True, kw_only=True, slots=True)
class RootSeen:
    """What one look at a delivery's folder showed.

    `device` is the file system's number; None: there is no such folder. The same disk may come
    back with another number, and another card in the same slot has the same one. So `filesystem`
    names it ('' where that can't be told). It is looked up, with `empty`, where anything may have
    changed: else nothing has, and `looked_up` is false.
    """

    device: int | None
    looked_up: bool = False
    empty: bool = False
    filesystem: str = ""
    remote: bool = False
    """It is on a network, so far as that can be told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RootKnown:
    """What is known of the folder from before: of this run, or from the ledger."""

    device: int | None
    filesystem: str
    files_wait: bool
    """Some of its files are on the books and not stored yet."""
    accepted: bool
    """A person said that what is gone is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RootVerdict:
    """`offline` says in words why the folder says nothing about its files; None: it does.

    `exchanged`: another file system is there than before, with files on it.
    """

    offline: str | None = None
    exchanged: bool = False


def judge_root(seen: RootSeen, known: RootKnown) -> RootVerdict:
    """Judge a look at a delivery's folder by what is known of it."""
    if seen.device is None:
        return RootVerdict(offline="the folder is missing")
    if not seen.looked_up:
        return RootVerdict()
    if seen.filesystem and known.filesystem:
        other = seen.filesystem != known.filesystem
    else:
        other = known.device not in (None, seen.device)
    if seen.empty and not known.accepted:
        if other:
            return RootVerdict(
                offline="the folder is empty and on another file system than before "
                "(is the disk mounted?)"
            )
        if known.device is None and known.files_wait:
            return RootVerdict(
                offline="the folder is empty, but files of it wait to be stored "
                "(is the disk mounted?)"
            )
    return RootVerdict(exchanged=other)


@dataclass(frozen=True, kw_only=True, slots=True)
class VanishRule:
    """When missing files may be held to be gone without asking anybody.

    `share` is of all that waits; `exchanged`: another disk is in the folder, so the missing files
    may well be on the other one; `confirmed`: a person said that they are gone.
    """

    share: float
    exchanged: bool = False
    confirmed: bool = False

    def lets_vanish(self, missing: int, waiting: int) -> bool:
        """Tell whether so many missing files, of so many that wait, are held to be gone."""
        if self.confirmed:
            return True
        if self.exchanged:
            return False
        return missing < VANISH_FLOOR or missing <= self.share * waiting
