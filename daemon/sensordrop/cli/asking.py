"""What the verbs that answer questions about files, sessions and deliveries have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from sensordrop.config.problem import did_you_mean
from sensordrop.control.routes import MOST_LINES, USUAL_LINES
from sensordrop.core.keys import path_bytes, path_text
from sensordrop.core.story import OnDisk
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit

if TYPE_CHECKING:
    from sensordrop.cli.desk import Desk

Function = TypeVar("Function", bound=Callable[..., Any])


def page_options(function: Function) -> Function:
    """Add the options that say which page of a list is wanted."""
    for option in (
        click.option(
            "--limit",
            type=click.IntRange(1, MOST_LINES),
            default=USUAL_LINES,
            show_default=True,
            help="Lines of a page.",
        ),
        click.option(
            "--after", type=int, metavar="N", help="Go on after the page that ended with N."
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, kw_only=True)
class AskedPlace:
    """A delivery in which a file may be."""

    name: str
    local_directory: str


def asked_places(desk: Desk, delivery: str | None) -> list[AskedPlace]:
    """Give the deliveries that a verb is about: the one that is named, or all. Raises UsageError."""
    places = [
        AskedPlace(name=each["name"], local_directory=each["local_directory"])
        for each in desk.ask("deliveries")["deliveries"]
    ]
    if delivery is None:
        return places
    chosen = [place for place in places if place.name == delivery]
    if not chosen:
        raise no_delivery(delivery, [place.name for place in places])
    return chosen


def asked_file(
    desk: Desk, places: Sequence[AskedPlace], argument: str
) -> tuple[AskedPlace, bytes] | None:
    """Find which file of which delivery is meant; see `find_file`."""

    def knows(place: AskedPlace, relative: bytes) -> bool:
        answer = desk.ask("known", delivery=place.name, path=path_text(relative))
        return bool(answer["known"])

    return find_file(knows, places, argument)


def no_delivery(delivery: str, names: Sequence[str], where: str = "") -> click.UsageError:
    """Say that there is no such delivery, and which was meant."""
    meant = did_you_mean(delivery, names)
    return click.UsageError(
        f"there is no delivery {delivery!r}{where}"
        + (f" — {meant}" if meant else f"; there are: {', '.join(names) or 'none'}")
    )


class Folder(Protocol):
    """A delivery's folder, and its name."""

    @property
    def name(self) -> str:
        """The delivery's name."""
        ...

    @property
    def local_directory(self) -> str:
        """Where it is."""
        ...


Where = TypeVar("Where", bound=Folder)


def find_file(
    knows: Callable[[Where, bytes], bool], places: Sequence[Where], argument: str
) -> tuple[Where, bytes] | None:
    """Find which file of which delivery a path on the command line means; None if of none.

    `knows` tells whether a path is on a delivery's books, or ignored there.

    The path is absolute, or relative to the delivery's folder, in the text form of the ledger or
    as the disk has it; one that is relative to the working directory is taken too, where that
    lies in a delivery. Raises UsageError where several deliveries have such a file.
    """
    if Path(argument).is_absolute():
        return _below(places, Path(argument))
    relative = os.fsencode(os.path.normpath(argument))
    forms = dict.fromkeys((relative, _unescaped(relative)))
    found = [
        (place, form)
        for place in places
        for form in forms
        if knows(place, form) or _is_file(place, form)
    ]
    if not found:
        return _below(places, Path(argument))
    if len({(place.name, form) for place, form in found}) > 1:
        names = ", ".join(sorted({place.name for place, _ in found}))
        raise click.UsageError(
            f"{printable(path_text(relative))} is a file of several deliveries ({names}): "
            "say which with --delivery"
        )
    return found[0]


def look_on_disk(place: Folder, path: bytes) -> OnDisk:
    """Look at a file in its delivery's folder, if that is on this machine."""
    from sensordrop.adapters.source import FolderSource

    source = FolderSource(place.local_directory)
    if source.device() is None:
        return OnDisk(problem=f"the folder {place.local_directory} is not there on this machine")
    try:
        sighting = source.look(path)
    except OSError as error:
        return OnDisk(problem=f"the file can't be looked at: {error.strerror}")
    return OnDisk(fingerprint=sighting.fingerprint if sighting else None)


def not_found(argument: str, places: Sequence[Folder]) -> None:
    """Say that nothing is known of a path, and where it was looked for."""
    where = ", ".join(place.local_directory for place in places) or "no delivery at all"
    click.echo(
        f"{printable(argument)}: neither on the books nor on disk (looked in: {printable(where)}). "
        "Give the path as it is below the delivery's folder, or absolute.",
        err=True,
    )


def ended(code: Exit) -> None:
    """End the program where it did not end well."""
    if code is not Exit.DONE:
        sys.exit(code)


def iso(instant: datetime | None) -> str | None:
    """Write an instant for programs."""
    return None if instant is None else instant.isoformat(timespec="milliseconds")


def clock(instant: datetime | str | None, zone: tzinfo) -> str:
    """Write an instant (or its ISO 8601) for people, to the second."""
    if isinstance(instant, str):
        instant = datetime.fromisoformat(instant)
    return "" if instant is None else instant.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def counted(number: int, noun: str) -> str:
    """Write how many there are: 1 file, 1,200 files."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_words(size_bytes: int) -> str:
    """Write a size for people."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size_bytes} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"


def _below(places: Sequence[Where], file: Path) -> tuple[Where, bytes] | None:
    """Find the delivery in whose folder a file lies, by its name or by where links lead."""
    absolute = Path(os.path.normpath(Path.cwd() / file))
    for candidate in (absolute, absolute.parent.resolve() / absolute.name):
        for place in places:
            for root in (Path(place.local_directory), Path(place.local_directory).resolve()):
                if candidate != root and candidate.is_relative_to(root):
                    return place, os.fsencode(candidate.relative_to(root))
    return None


def _is_file(place: Folder, relative: bytes) -> bool:
    return look_on_disk(place, relative).fingerprint is not None


def _unescaped(path: bytes) -> bytes:
    try:
        return path_bytes(path.decode("utf-8"))
    except UnicodeDecodeError:  # not in text form: exact bytes of the disk
        return path
