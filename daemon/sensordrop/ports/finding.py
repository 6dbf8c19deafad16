"""Listing folders: what a finder gives, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sensordrop.ports.life import StopFlag


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingReport:
    """How a listing ended. Complete means: every folder was read, without any error."""

    files: int
    folders: int
    complete: bool
    problem: str | None = None
    """Why it is not complete: the first errors, in words, with the paths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingChunk:
    """A piece of a listing, ready to be copied into the ledger.

    `rows` are whole lines in PostgreSQL's COPY text format, six columns, each line ended by a
    newline: entry type (one letter of `EntryType`), size in bytes, modification time and change
    time in seconds with fraction, path (bytea in escape format), and the path as text where it
    differs from the path's bytes read as UTF-8, else the empty string.
    """

    rows: bytes
    entries: int


class Finder(Protocol):
    """Lists a delivery's folder. Both implementations give the same answer on the same tree.

    Entries are everything under the root that is not a folder: regular files, links, pipes,
    sockets, devices. Links are never followed (the root itself may be one). A folder that can't
    be read makes the listing incomplete; a folder with a junk name (`JUNK_FOLDERS`) that can't
    be read is itself one entry of type folder, and no error.
    """

    def list(
        self,
        root: str,
        stop: StopFlag,
        progress: Callable[[int], None],
        *,
        strict: bool = False,
    ) -> Iterator[ListingChunk]:
        """Yield the listing in pieces of bounded size; afterwards `report` tells how it ended.

        A name that its folder has and that is not there when it is looked at is left out: it was
        removed just now. On a damaged card such a name stays, and nobody can say what it holds, so
        that with `strict` the listing is not complete then.

        Blocks on the disk; memory does not grow with the number of files. `progress` is called
        with the number of entries so far, at least every 10,000. Ends early when `stop` is set,
        and the listing is then not complete. Never raises for what is wrong with the folder:
        that is in the report. One listing at a time per object.
        """
        ...

    @property
    def report(self) -> ListingReport:
        """How the last listing ended. Only valid after its iterator was exhausted."""
        ...
