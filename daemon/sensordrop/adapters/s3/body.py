"""Bytes on their way: a piece of a file as a request body that proves itself while it is read."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, NoReturn

from sensordrop.adapters.s3.failures import failure, reading, reading_failure
from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.ports.life import StopFlag
from sensordrop.ports.transfer import Content, Throttle

BLOCK_BYTES = 1024 * 1024
"""How much is read at once: large enough to keep a disk busy, small enough to stop promptly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A range of a file and the digests of its bytes. Positions and sizes are bytes."""

    start: int
    size_bytes: int
    md5: bytes
    sha256: bytes


class PieceBody:
    """A piece of an open file as a body that can be sent, and rewound to be sent again.

    The bytes are hashed as they are handed out. If they are not the piece's, the last of them is
    never handed out, so a store never gets a whole request with wrong content. Where the store
    itself is known to refuse other bytes than the signed ones (`hashed` False), that is left to
    it. One thread only.

    Reading waits where a limit says so, but only once `begin_sending` was called: the library
    reads a body once more before, to sign it.

    The library wraps whatever is raised in here as if the network had failed; `broken` keeps the
    true reason.
    """

    def __init__(
        self,
        file: BinaryIO,
        piece: Piece,
        *,
        what: str,
        stop: StopFlag,
        throttle: Throttle | None = None,
        hashed: bool = True,
    ) -> None:
        self._file = file
        self._piece = piece
        self._what = what
        self._stop = stop
        self._throttle = throttle
        self._sending = False
        self._position = 0
        self._hashed = 0
        self._sha256 = hashlib.sha256() if hashed else None
        self.broken: FailureError | InterruptedAttemptError | None = None

    def read(self, amount: int | None = None) -> bytes:
        """Give the next bytes, b'' at the end.

        Raises FailureError (`changed`, or what the disk says) and InterruptedAttemptError.
        """
        if self._stop.is_set():
            self._break(InterruptedAttemptError())
        left = self._piece.size_bytes - self._position
        wanted = left if amount is None or amount < 0 else min(amount, left)
        if self._hashed != self._position:
            raise io.UnsupportedOperation("a piece is read from its start")
        if self._sending and amount is not None:
            wanted = self._let_through(wanted)
        block = self._block(wanted)
        self._position += len(block)
        self._hashed = self._position
        if self._sha256 is not None:
            self._sha256.update(block)
            at_end = self._position == self._piece.size_bytes
            if at_end and self._sha256.digest() != self._piece.sha256:
                self._break(FailureError(failure("changed", f"sending {self._what}")))
        return block

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; only from the start can be read again."""
        base = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._piece.size_bytes,
        }[whence]
        self._position = base + offset
        self._sending = False
        if self._position == 0:
            self._hashed = 0
            if self._sha256 is not None:
                self._sha256 = hashlib.sha256()
        return self._position

    def tell(self) -> int:
        """Give the position within the piece."""
        return self._position

    def begin_sending(self) -> None:
        """Say that what is read from here on goes out; rewinding ends that."""
        self._sending = True

    def _let_through(self, wanted: int) -> int:
        """Wait until some bytes may go out, and give how many."""
        try:
            return let_through(self._throttle, wanted, self._stop)
        except InterruptedAttemptError as stopped:
            self._break(stopped)

    def _block(self, wanted: int) -> bytes:
        if wanted == 0:
            return b""
        try:
            with reading(self._what):
                self._file.seek(self._piece.start + self._position)
                block = read_exactly(self._file, wanted)
        except FailureError as error:
            self._break(error)
        if len(block) < wanted:
            self._break(
                FailureError(failure("changed", f"sending {self._what}", "it became shorter"))
            )
        return block

    def _break(self, error: FailureError | InterruptedAttemptError) -> NoReturn:
        self.broken = error
        raise error


class opened:  # noqa: N801 — used like a function
    """Open a content; only the opening itself is classified, not what is done meanwhile."""

    def __init__(self, content: Content, what: str) -> None:
        self._manager = content.open()
        self._what = what

    def __enter__(self) -> BinaryIO:
        try:
            return self._manager.__enter__()
        except OSError as error:
            known = reading_failure(error, f"reading {self._what}")
            if known is None:
                raise
            raise FailureError(known) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._manager.__exit__(kind, error, traceback)


def let_through(throttle: Throttle | None, wanted: int, stop: StopFlag) -> int:
    """Wait until some bytes may go over the line, and give how many.

    Raises InterruptedAttemptError when `stop` is set meanwhile.
    """
    if wanted == 0 or throttle is None or not throttle.limited:
        return wanted
    turn = throttle.turn()
    try:
        while not (allowed := turn.take(wanted)):
            if stop.is_set():
                raise InterruptedAttemptError
            time.sleep(turn.wait_seconds())
    finally:
        turn.leave()
    return allowed


def read_exactly(file: BinaryIO, amount: int) -> bytes:
    """Read that many bytes, fewer only at the file's end. Raises OSError."""
    block = file.read(amount)
    while len(block) < amount:
        more = file.read(amount - len(block))
        if not more:
            break
        block += more
    return block


def measure(
    file: BinaryIO,
    *,
    start: int,
    size_bytes: int,
    what: str,
    stop: StopFlag,
    also: Callable[[bytes], None],
) -> Piece:
    """Hash a piece of an open file; `also` sees its bytes too, in order.

    Raises FailureError (`changed` if the file ends before the piece does) and
    InterruptedAttemptError.
    """
    md5 = hashlib.md5(usedforsecurity=False)
    sha256 = hashlib.sha256()
    left = size_bytes
    with reading(what):
        file.seek(start)
        while left:
            if stop.is_set():
                raise InterruptedAttemptError
            block = read_exactly(file, min(BLOCK_BYTES, left))
            if not block:
                raise FailureError(failure("changed", f"reading {what}", "it became shorter"))
            left -= len(block)
            md5.update(block)
            sha256.update(block)
            also(block)
    return Piece(start=start, size_bytes=size_bytes, md5=md5.digest(), sha256=sha256.digest())
