"""What the parts of one file are: their digests, and their bytes on the way to the store."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

import pycurl

from sensordrop.adapters.s3.body import Piece, PieceBody, measure, opened, read_exactly
from sensordrop.adapters.s3.failures import failure, reading
from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.ports.life import StopFlag
from sensordrop.ports.transfer import Content


class LaneBody(PieceBody):
    """A piece as libcurl reads it: what goes wrong ends the transfer, `broken` keeps why."""

    def read(self, amount: int | None = None) -> bytes:
        """Give the next bytes, b'' at the end; libcurl's word for "break off" if it can't."""
        try:
            return super().read(amount)
        except (FailureError, InterruptedAttemptError):
            return pycurl.READFUNC_ABORT  # type: ignore[return-value]


def pieces_of(content: Content, part_bytes: int, *, what: str, stop: StopFlag) -> list[Piece]:
    """Give the pieces of a content with their digests.

    They were planned for when the file was hashed; where they were not, the file is read once
    more and must still be the same. Raises FailureError and InterruptedAttemptError.
    """
    known = content.pieces
    if known is None or known.piece_bytes != part_bytes:
        return _measured(content, part_bytes, what=what, stop=stop)
    md5s = known.md5s or [b""] * len(known.sha256s)
    return [
        Piece(
            start=index * part_bytes,
            size_bytes=min(part_bytes, content.size_bytes - index * part_bytes),
            md5=md5,
            sha256=sha256,
        )
        for index, (sha256, md5) in enumerate(zip(known.sha256s, md5s, strict=True))
    ]


def _measured(content: Content, part_bytes: int, *, what: str, stop: StopFlag) -> list[Piece]:
    whole = hashlib.sha256()
    with opened(content, what) as file:
        found = [
            measure(
                file,
                start=start,
                size_bytes=min(part_bytes, content.size_bytes - start),
                what=what,
                stop=stop,
                also=whole.update,
            )
            for start in range(0, content.size_bytes, part_bytes)
        ]
    if whole.digest() != content.sha256:
        raise FailureError(failure("changed", f"sending {what}"))
    return found


def check_length(file: BinaryIO, size_bytes: int, what: str) -> None:
    """See that a file did not become longer than what was sent of it. Raises FailureError."""
    with reading(what):
        file.seek(size_bytes)
        longer = bool(read_exactly(file, 1))
    if longer:
        raise FailureError(failure("changed", f"sending {what}", "it became longer"))
