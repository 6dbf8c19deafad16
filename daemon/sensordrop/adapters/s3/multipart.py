"""Large files in parts: one part after the other, in constant memory, each proven as it goes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

import structlog

from sensordrop.adapters.s3.body import PieceBody, measure, opened, read_exactly
from sensordrop.adapters.s3.bucket import Bucket, SentPart
from sensordrop.adapters.s3.client import MIB
from sensordrop.adapters.s3.digests import Answer, multipart_etag, verify
from sensordrop.adapters.s3.failures import failure, reading
from sensordrop.adapters.s3.options import ObjectOptions
from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.core.model import StoreCheck
from sensordrop.ports import Content, StopFlag

PARTS_LIMIT = 10_000
"""S3's limit of parts in one upload (Amazon S3 User Guide, "Multipart upload limits")."""
OBJECT_LIMIT_BYTES = 5 * 1024**4
"""The largest file that is sent: 5 TiB."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class SentInParts:
    """A finished multipart upload: the store's answer, and what the store verified."""

    answer: Answer
    store_check: StoreCheck


def part_bytes(size_bytes: int, minimum_bytes: int) -> int:
    """Give the part size for a file: the minimum, or whole MiB so that the parts are enough."""
    needed = -(-size_bytes // PARTS_LIMIT)
    return max(minimum_bytes, -(-needed // MIB) * MIB)


def put_in_parts(
    bucket: Bucket,
    content: Content,
    object_key: str,
    options: ObjectOptions,
    *,
    minimum_part_bytes: int,
    stop: StopFlag,
) -> SentInParts | None:
    """Store a large file; None if the key was taken meanwhile.

    Nothing appears under the key before all of it was sent, hashed again and found equal to the
    content. Whatever goes wrong before that, the upload is aborted. Raises FailureError and
    InterruptedAttemptError.
    """
    upload_id = bucket.create_upload(object_key, options)
    completed = False
    try:
        parts = _send(
            bucket,
            content,
            object_key,
            upload_id=upload_id,
            size=part_bytes(content.size_bytes, minimum_part_bytes),
            stop=stop,
        )
        if stop.is_set():
            raise InterruptedAttemptError
        answer = bucket.complete(object_key, upload_id, parts)
        completed = answer is not None
    finally:
        if not completed:
            _abort(bucket, object_key, upload_id)
    if answer is None:
        return None
    check = verify(
        answer,
        md5=content.md5,
        sha256=None,  # the store's checksum of a multipart object is one of its parts' checksums
        part_md5s=[part.piece.md5 for part in parts],
        amazon=bucket.amazon,
        tried=bucket.tried("storing", object_key),
    )
    return SentInParts(answer=answer, store_check=check)


def etag_in_parts(content: Content, size: int, *, what: str, stop: StopFlag) -> str:
    """Give the multipart ETag that the file would have in parts of `size` bytes.

    Reads the file. Raises FailureError and InterruptedAttemptError.
    """
    md5s = []
    with opened(content, what) as file:
        for start in range(0, content.size_bytes, size):
            length = min(size, content.size_bytes - start)
            piece = measure(
                file, start=start, size_bytes=length, what=what, stop=stop, also=_ignore
            )
            md5s.append(piece.md5)
    return multipart_etag(md5s)


def _ignore(_block: bytes) -> None:
    """Do nothing: nobody else wants the bytes."""


def _send(
    bucket: Bucket,
    content: Content,
    object_key: str,
    *,
    upload_id: str,
    size: int,
    stop: StopFlag,
) -> list[SentPart]:
    what = f"the file for {object_key}"
    whole = hashlib.sha256()
    parts: list[SentPart] = []
    with opened(content, what) as file:
        for number, start in enumerate(range(0, content.size_bytes, size), start=1):
            piece = measure(
                file,
                start=start,
                size_bytes=min(size, content.size_bytes - start),
                what=what,
                stop=stop,
                also=whole.update,
            )
            body = PieceBody(file, piece, what=what, stop=stop)
            answer = bucket.put_part(object_key, upload_id, number, body, piece)
            verify(
                answer,
                md5=piece.md5,
                sha256=piece.sha256,
                amazon=bucket.amazon,
                tried=bucket.tried(f"sending part {number} of", object_key),
            )
            parts.append(SentPart(number=number, etag=answer.etag, piece=piece))
        _check_whole(file, content, whole.digest(), what)
    return parts


def _check_whole(file: BinaryIO, content: Content, sha256: bytes, what: str) -> None:
    if sha256 != content.sha256:
        raise FailureError(failure("changed", f"sending {what}"))
    with reading(what):
        file.seek(content.size_bytes)
        longer = bool(read_exactly(file, 1))
    if longer:
        raise FailureError(failure("changed", f"sending {what}", "it became longer"))


def _abort(bucket: Bucket, object_key: str, upload_id: str) -> None:
    try:
        bucket.abort(object_key, upload_id)
    except FailureError as error:
        # What ended the upload is being raised; this must not hide it. The parts cost money
        # until they are gone, so the operator is told what to do.
        log.warning(
            "multipart_abort_failed",
            object_key=object_key,
            upload_id=upload_id,
            error_class=error.failure.error_class,
            error=error.failure.message,
            hint="a lifecycle rule that aborts incomplete multipart uploads clears them away",
        )
