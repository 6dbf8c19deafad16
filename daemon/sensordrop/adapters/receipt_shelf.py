"""Receipts as they are kept: a folder each in the state directory, whole or not there at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sensordrop.adapters.processes import is_root, open_private, sync_folder
from sensordrop.adapters.receipt_key import ReceiptKey
from sensordrop.core.receipt import Accounted
from sensordrop.core.receipt_form import (
    BAG_INFO,
    DOCUMENT,
    FILES,
    MANIFEST,
    PAGE,
    SIGNATURE,
    bag_info,
    digest_of,
    file_line,
    manifest_line,
)
from sensordrop.ports.receipts import FinishedReceipt

with suppress(ModuleNotFoundError):  # Windows has none
    import fcntl

NAME_CHARACTERS = 120
"""As long may a receipt's folder be named: others put something before and after it."""

Render = Callable[[Mapping[str, Any]], str]
"""Makes the page that people read from a receipt's document."""


class ReceiptShelf:
    """The receipts of a state directory."""

    def __init__(self, state: Path, key: ReceiptKey, render: Render) -> None:
        self._folder = state / "receipts"
        self._key = key
        self._render = render

    def begin(self, name: str) -> ShelvedReceipt:
        """Begin a receipt; what is in its name that a folder's name should not hold is replaced.

        Raises OSError.
        """
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:NAME_CHARACTERS]
        _folder(self._folder)
        with _held(self._folder):
            _tidy(self._folder)
            return ShelvedReceipt(self._folder, plain, self._key, self._render)


class ShelvedReceipt:
    """One receipt while it is written. Implements `ports.ReceiptWriter`.

    As long as it is written its folder is locked: what is hidden and not locked was left behind
    by a program that was killed.
    """

    def __init__(self, shelf: Path, name: str, key: ReceiptKey, render: Render) -> None:
        self._shelf = shelf
        self._name = name
        self._key = key
        self._render = render
        self._at = shelf / f".{name}.{secrets.token_hex(4)}"
        _folder(self._at)
        self._lock = os.open(self._at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._manifest = _Hashed(self._at / MANIFEST)
        self._files = _Hashed(self._at / FILES)

    def add(self, accounted: Accounted) -> None:
        """Write down one file."""
        line = manifest_line(accounted)
        if line is not None:
            self._manifest.write(line)
        self._files.write(file_line(accounted))

    def finish(self, document: Mapping[str, Any]) -> FinishedReceipt:
        """Sign the receipt and put it on the shelf."""
        stored = document["counts"]["stored"]
        whole = {
            **document,
            "manifest": self._manifest.close(),
            "files": self._files.close(),
            "public_key": self._key.public,
        }
        whole[SIGNATURE] = self._key.sign(whole)
        digest = digest_of(whole)
        info = bag_info(
            size_bytes=stored["bytes"], files=stored["files"], made_at=document["made_at"]
        )
        _write(self._at / BAG_INFO, info)
        _write(self._at / PAGE, self._render(whole))
        text = json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
        _write(self._at / DOCUMENT, text)
        sync_folder(self._at)
        final = self._shelf / f"{self._name}-{digest[:8]}"
        self._at.replace(final)
        sync_folder(self._shelf)
        self._let_go()
        names = (MANIFEST, FILES, BAG_INFO, PAGE, DOCUMENT)
        return FinishedReceipt(document=whole, digest=digest, folder=str(final), files=names)

    def discard(self) -> None:
        """Forget what was written."""
        for part in (self._manifest, self._files):
            part.drop()
        shutil.rmtree(self._at, ignore_errors=True)
        self._let_go()

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class _Hashed:
    """A text file whose SHA-256 is known when it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._file: IO[bytes] = _opened(path)

    def write(self, line: str) -> None:
        raw = line.encode("utf-8")
        self._sha256.update(raw)
        self._size_bytes += len(raw)
        self._file.write(raw)

    def close(self) -> dict[str, Any]:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return {
            "name": self._path.name,
            "sha256": self._sha256.hexdigest(),
            "bytes": self._size_bytes,
        }

    def drop(self) -> None:
        """Close it whatever becomes of it: on a full disk even that fails."""
        with suppress(OSError):
            self._file.close()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep others from tidying up while a receipt's folder is made, and is not locked yet."""
    if "fcntl" not in globals():
        raise OSError(errno.ENOTSUP, "receipts take locks of folders, which this system has not")
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _tidy(shelf: Path) -> None:
    """Remove what receipts left behind that were killed while they were written."""
    for each in shelf.glob(".*"):
        try:
            lock = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # no folder, put on the shelf just now, or another user's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(each, ignore_errors=True)
        except BlockingIOError:
            continue  # somebody writes it
        finally:
            os.close(lock)


def _opened(path: Path) -> IO[bytes]:
    return open(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb")  # noqa: PTH123


def _write(path: Path, text: str) -> None:
    with _opened(path) as file:
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _folder(path: Path) -> None:
    """Make a folder; one that root makes in another's folder is given to its owner."""
    if path.is_dir():
        return
    path.mkdir(parents=True, mode=0o700)
    above = path.parent.stat()
    if is_root() and above.st_uid != 0:
        os.chown(path, above.st_uid, above.st_gid)
