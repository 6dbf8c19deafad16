"""Mistakes that only show when deliveries are held against each other and against the daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sensordrop.config.models import DaemonConfig
from sensordrop.config.problem import Problem, ProblemCode

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where a delivery's objects go."""

    endpoint_url: str | None
    bucket_name: str
    s3_prefix: str
    shares_prefix: bool

    def __str__(self) -> str:
        return f"{self.bucket_name}/{self.s3_prefix}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """What of a delivery can collide, as far as it is known: None where it is itself a mistake."""

    file: str
    name: str | None
    folder: Path | None
    destination: Destination | None
    target: Path | None = None
    """Where its stored files are moved to."""


def placed(settings: Mapping[str, Any], wrong: AbstractSet[str], file: str) -> Placed:
    """Say what is known of a delivery by its valid settings and the keys that are wrong.

    A disabled delivery has no folder and no destination to collide with.
    """
    idle = "enabled" in wrong or not settings.get("enabled", True)
    folder = settings.get("local_directory")
    of_destination = {"endpoint_url", "bucket_name", "s3_prefix", "shares_prefix"}
    kind, _, target = str(settings.get("after_verified", "")).partition(":")
    unknown = idle or wrong & of_destination or "bucket_name" not in settings
    return Placed(
        file=file,
        name=settings.get("name"),
        folder=None if idle else folder,
        target=Path(target) if kind == "move" and not idle else None,
        destination=None
        if unknown
        else Destination(
            endpoint_url=settings.get("endpoint_url"),
            bucket_name=settings["bucket_name"],
            s3_prefix=settings.get("s3_prefix", ""),
            shares_prefix=settings.get("shares_prefix", False),
        ),
    )


def collisions(daemon: DaemonConfig, all_placed: Sequence[Placed]) -> Iterator[Problem]:
    """Find equal names, equal or nested folders, equal or nested destinations.

    Links in the folders' paths are followed, which blocks on the disk; a folder need not exist.
    """
    yield from _same_names(all_placed)
    folders = [
        _Folder(file=item.file, shown=str(item.folder), real=_real(item.folder))
        for item in all_placed
        if item.folder is not None
    ]
    yield from _same_folders(folders)
    yield from _moved_into(all_placed, folders)
    yield from _around_the_state(daemon, folders)
    yield from _same_destinations(
        [(item.file, item.destination) for item in all_placed if item.destination is not None]
    )


def _same_names(all_placed: Sequence[Placed]) -> Iterator[Problem]:
    owners: dict[str, Placed] = {}
    for item in all_placed:
        if item.name is None:
            continue
        owner = owners.setdefault(item.name, item)
        if owner is not item:
            yield Problem(
                file=item.file,
                key="name",
                value=item.name,
                what=f"{item.name!r} is the name of the delivery in {owner.file} too",
                expected="a name of its own",
                suggestion="give one of them another name",
                code=ProblemCode.CONFLICT,
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    file: str
    shown: str
    real: Path


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _same_folders(folders: Sequence[_Folder]) -> Iterator[Problem]:
    owners: dict[Path, _Folder] = {}
    for folder in folders:
        owner = owners.setdefault(folder.real, folder)
        if owner is not folder:
            yield _folder_problem(folder, owner, "is")
    for folder in folders:
        for parent in folder.real.parents:
            if parent in owners:
                yield _folder_problem(folder, owners[parent], "lies inside")


def _folder_problem(folder: _Folder, owner: _Folder, relation: str) -> Problem:
    return Problem(
        file=folder.file,
        key="local_directory",
        value=folder.shown,
        what=f"{folder.shown!r} {relation} the folder of the delivery in {owner.file} "
        f"({owner.shown!r})",
        expected="a folder of its own",
        suggestion="give each delivery a folder beside the others, or disable one",
        code=ProblemCode.CONFLICT,
    )


def _moved_into(all_placed: Sequence[Placed], folders: Sequence[_Folder]) -> Iterator[Problem]:
    """Find files that would be moved from one delivery into another: it would store them again."""
    for item in all_placed:
        for folder in folders if item.target is not None else ():
            assert item.target is not None
            if item.file != folder.file and _real(item.target).is_relative_to(folder.real):
                yield Problem(
                    file=item.file,
                    key="after_verified",
                    value=f"move:{item.target}",
                    what=f"'{item.target}' is or lies inside the folder of the delivery in "
                    f"{folder.file} ({folder.shown!r})",
                    expected="a folder that no delivery watches",
                    suggestion="move files to a folder beside all drop folders",
                    code=ProblemCode.CONFLICT,
                )


def _around_the_state(daemon: DaemonConfig, folders: Sequence[_Folder]) -> Iterator[Problem]:
    state = _real(daemon.state_directory)
    for folder in folders:
        if state.is_relative_to(folder.real):
            relation = "holds the state directory"
        elif folder.real.is_relative_to(state):
            relation = "lies inside the state directory"
        else:
            continue
        yield Problem(
            file=folder.file,
            key="local_directory",
            value=folder.shown,
            what=f"{folder.shown!r} {relation} ({str(daemon.state_directory)!r})",
            expected="a folder apart from the state directory",
            suggestion="move one of them: state_directory stands in sensordrop.yaml",
            code=ProblemCode.CONFLICT,
        )


Place = tuple[str, ...]
"""Endpoint, bucket, and the components of the prefix."""


def _place(destination: Destination) -> Place:
    endpoint = ""
    if destination.endpoint_url is not None:
        url = urlsplit(destination.endpoint_url)
        endpoint = f"{url.scheme}://{url.hostname}:{url.port or _PORTS[url.scheme]}{url.path}"
    prefix = destination.s3_prefix.split("/") if destination.s3_prefix else []
    return (endpoint, destination.bucket_name, *prefix)


Sent = tuple[str, Destination]
"""A delivery's file and destination."""


def _same_destinations(sent: Sequence[Sent]) -> Iterator[Problem]:
    owners: dict[Place, Sent] = {}
    for item in sent:
        owner = owners.setdefault(_place(item[1]), item)
        if owner is not item:
            yield from _destination_problem(item, owner, "is")
    for item in sent:
        place = _place(item[1])
        for length in range(2, len(place)):
            if place[:length] in owners:
                yield from _destination_problem(item, owners[place[:length]], "lies inside")


def _destination_problem(item: Sent, owner: Sent, relation: str) -> Iterator[Problem]:
    silent = [file for file, destination in (owner, item) if not destination.shares_prefix]
    if not silent:
        return
    yield Problem(
        file=item[0],
        key="s3_prefix",
        value=item[1].s3_prefix,
        what=f"{str(item[1])!r} {relation} the destination of the delivery in {owner[0]} "
        f"({str(owner[1])!r})",
        expected="a bucket and prefix of its own, or shares_prefix: true in both",
        suggestion="choose another prefix, or say 'shares_prefix: true' in " + " and ".join(silent),
        code=ProblemCode.CONFLICT,
    )
