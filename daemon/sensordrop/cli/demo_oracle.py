"""The demo's second opinion: what lies in the drop folder, and what the bucket really holds.

It shares no code with the daemon's finder, hashing and uploading. Only the rule of what is junk
is the daemon's own, because that is a matter of decision, not of fact.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from sensordrop.core.model import EntryType
from sensordrop.core.selection import Selection

if TYPE_CHECKING:
    from sensordrop.adapters.local_s3 import LocalS3

READERS = 4
"""Files or objects that are read at once."""
WINDOW = 64
"""Reads that are waited for together: so often the progress is shown."""
BLOCK_BYTES = 1024 * 1024
OWN_PREFIX = "_sensordrop/"
"""Objects of the program's own, beside the files of deliveries."""

Item = TypeVar("Item")
Found = TypeVar("Found")
Tick = Callable[[int, int], None]
"""Called now and then with how many of how many are done. May raise to break the work off."""


class OracleError(Exception):
    """Something can't be read, so nothing can be said about it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """What `lstat` says of a file: a file that was written since has another one."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """All files below a folder, by path: those that should be stored, and those left aside."""

    files: Mapping[bytes, Version]
    ignored: Mapping[bytes, str]
    """Why each of them is not to be stored."""

    @property
    def size_bytes(self) -> int:
        """The files' sizes together."""
        return sum(version.size_bytes for version in self.files.values())

    @property
    def sensors(self) -> list[str]:
        """The folders directly under the root that hold files."""
        return sorted({text_of(path.split(b"/")[0]) for path in self.files if b"/" in path})

    def changes_since(self, before: Listing) -> dict[bytes, str]:
        """Say which files were added, removed or changed, compared with a listing before."""
        changes = dict.fromkeys(before.files.keys() - self.files.keys(), "removed")
        changes |= dict.fromkeys(self.files.keys() - before.files.keys(), "added")
        for path in self.files.keys() & before.files.keys():
            if self.files[path] != before.files[path]:
                changes[path] = "changed"
        return changes


@dataclass(frozen=True, kw_only=True, slots=True)
class Objects:
    """What the bucket gave, by key."""

    digests: Mapping[str, bytes]
    """The SHA-256 of each object that is there."""
    unreadable: Mapping[str, str]
    """Objects that the server knows and did not give, each with what it answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How the bucket stands against the folder. Names are paths as text, or keys for `extra`."""

    right: Mapping[str, int]
    """Keys that hold exactly their file's bytes, with their sizes."""
    missing: Sequence[str]
    different: Sequence[str]
    extra: Sequence[str]
    """Objects that nobody dropped."""


def text_of(path: bytes) -> str:
    r"""Write a path as text: bytes that are not UTF-8 as `\xNN`, what looks so as `\x5cxNN`."""
    unambiguous = re.sub(rb"\\(?=x[0-9a-fA-F]{2})", rb"\\x5c", path)
    return unambiguous.decode("utf-8", "backslashreplace")


def key_of(prefix: str, path: bytes) -> str:
    """Give the key that a file is to be stored under."""
    return f"{prefix}/{text_of(path)}"


def list_folder(root: Path) -> Listing:
    """List a folder without following links. Blocks on the disk.

    Raises OSError for a folder that can't be read: unreadable is not empty.
    """
    selection = Selection()
    files: dict[bytes, Version] = {}
    ignored: dict[bytes, str] = {}
    for path, status in _entries(os.fsencode(root)):
        kind = EntryType.FILE if stat.S_ISREG(status.st_mode) else EntryType.UNKNOWN
        if stat.S_ISLNK(status.st_mode):
            kind = EntryType.LINK
        reason = selection.ignore_reason(text_of(path), kind)
        if reason is not None:
            ignored[path] = reason
        else:
            files[path] = Version(
                size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns
            )
    return Listing(files=files, ignored=ignored)


def _entries(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    for folder, _folders, names in os.walk(root, onerror=_raise):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118  # names are bytes
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue  # it went away meanwhile, so it is not in the folder
            yield os.path.relpath(path, root), status


def _raise(error: OSError) -> None:
    raise error


# --- the bucket ---------------------------------------------------------------------------


class Bucket:
    """A bucket of the local S3 server, read over HTTP."""

    def __init__(self, server: LocalS3, name: str) -> None:
        """Connect to a running server."""
        import boto3
        from botocore.config import Config

        self._name = name
        # Everything is said here: what the user's own AWS settings say is about other places.
        self._client = boto3.Session(
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name="us-east-1",
        ).client(
            "s3",
            endpoint_url=server.endpoint_url,
            config=Config(
                proxies={},
                max_pool_connections=READERS,
                # The bytes are hashed here. botocore 1.44 fails with an AttributeError where it is
                # to check those of a refusal (5xx) that names a checksum, as rclone's do.
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def listed(self) -> list[str]:
        """List the keys of all objects but the program's own."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name)
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return [key for key in keys if not key.startswith(OWN_PREFIX)]

    def digest(self, key: str) -> bytes | str | None:
        """Read an object and give the SHA-256 of its bytes, or None if there is no such object.

        Gives the server's words where it answered something else than the object: rclone lists for
        some seconds what is gone from its disk, and answers 500 to who asks for it.
        """
        from botocore.exceptions import ClientError

        try:
            body: Any = self._client.get_object(Bucket=self._name, Key=key)["Body"]
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return None if status == HTTPStatus.NOT_FOUND else str(error)
        with body:
            return _digest(body)


def read_bucket(server: LocalS3, name: str, wanted: Iterable[str], tick: Tick) -> Objects:
    """Read through S3 the objects under the wanted keys, and all others that are listed.

    Raises OracleError.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    keys = set(wanted)
    known = {folded(key) for key in keys}
    try:
        bucket = Bucket(server, name)
        keys |= {key for key in bucket.listed() if folded(key) not in known}
        found = _digests(sorted(keys), bucket.digest, tick)
    except (BotoCoreError, ClientError) as error:
        raise OracleError(f"bucket {name} can't be read: {error}") from error
    return Objects(
        digests={key: digest for key, digest in found.items() if isinstance(digest, bytes)},
        unreadable={key: words for key, words in found.items() if isinstance(words, str)},
    )


def folded(key: str) -> str:
    """Give what is equal for a key, for how rclone lists it, and for how it names the file.

    It lists control characters as their symbols (U+2400 and on) with U+201B before what could be
    taken for such a symbol, and it may take a symbol in a key for the character itself.
    """
    return key.translate(_FOLDING)


_FOLDING = {0x201B: None, 0x7F: 0x2421} | {code: 0x2400 + code for code in range(0x20)}


def disturbed_on_disk(folder: Path, objects: Mapping[str, bytes], tick: Tick) -> set[str]:
    """Name the keys whose plain files in a bucket's folder are not what S3 gave.

    Files that S3 did not give are named too. Raises OracleError.
    """
    root = os.fsencode(folder)
    files = {path.decode("utf-8", "backslashreplace"): path for path, _status in _entries(root)}
    plain = _digests(
        sorted(name for name in files if not name.startswith(OWN_PREFIX)),
        lambda name: _digest_of_file(root + b"/" + files[name]),
        tick,
    )
    on_disk, through_s3 = _by_folded(plain), _by_folded(objects)
    return {
        name
        for name in plain.keys() | objects.keys()
        if on_disk.get(folded(name)) != through_s3.get(folded(name))
    }


def _by_folded(digests: Mapping[str, bytes]) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for name, digest in digests.items():
        found.setdefault(folded(name), set()).add(digest)
    return found


# --- comparing ----------------------------------------------------------------------------


def compare(
    root: Path,
    listing: Listing,
    objects: Mapping[str, bytes],
    *,
    prefix: str,
    changed: AbstractSet[bytes],
    tick: Tick,
) -> Comparison:
    """Hash every file and hold it against the object under its key.

    `changed` are files that were written, or removed, while the daemon ran: their older versions
    may be in the bucket too. Raises OracleError for a file that can't be read.
    """
    digests = _digests(
        sorted(listing.files),
        lambda path: _digest_of_file(os.fsencode(root) + b"/" + path),
        tick,
    )
    right: dict[str, int] = {}
    missing: list[str] = []
    different: list[str] = []
    for path, digest in digests.items():
        key = key_of(prefix, path)
        copy = _copy_key(key, digest)
        if objects.get(key) == digest:
            right[key] = listing.files[path].size_bytes
        elif objects.get(copy) == digest:
            right[copy] = listing.files[path].size_bytes
        else:
            (different if key in objects else missing).append(text_of(path))
    known = right.keys() | {key_of(prefix, path) for path in {*listing.files, *changed}}
    known |= _older_versions({key_of(prefix, path) for path in changed}, objects)
    return Comparison(
        right=right, missing=missing, different=different, extra=sorted(objects.keys() - known)
    )


def _copy_key(key: str, digest: bytes) -> str:
    """Name the place beside the key where bytes go when the key holds others."""
    folder, name = os.path.split(key)
    stem, extension = os.path.splitext(name)  # noqa: PTH122  # keys are no paths
    return f"{folder}/{stem}~{digest.hex()[:16]}{extension}"


def _older_versions(keys: AbstractSet[str], objects: Mapping[str, bytes]) -> set[str]:
    return {
        key
        for key, digest in objects.items()
        for plain in (key.replace(f"~{digest.hex()[:16]}", ""),)
        if plain != key and plain in keys
    }


def _digests(
    waiting: Sequence[Item], digest: Callable[[Item], Found], tick: Tick
) -> dict[Item, Found]:
    found: dict[Item, Found] = {}
    todo = iter(waiting)
    with ThreadPoolExecutor(READERS) as readers:
        while window := list(islice(todo, WINDOW)):
            found |= zip(window, readers.map(digest, window), strict=True)
            tick(len(found), len(waiting))
    return found


def _digest_of_file(path: bytes) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # bytes
            return _digest(file)
    except OSError as error:
        raise OracleError(f"{text_of(path)} can't be read: {error.strerror}") from error


def _digest(source: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    while block := source.read(BLOCK_BYTES):
        digest.update(block)
    return digest.digest()
