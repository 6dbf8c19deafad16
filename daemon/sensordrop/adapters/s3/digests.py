"""ETags and checksums: what form a store's answer has, and whether it is that of our bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sensordrop.adapters.s3.failures import failure
from sensordrop.core.failure import FailureError
from sensordrop.core.model import StoreCheck

_MD5_ETAG = re.compile(r"[0-9a-fA-F]{32}")
_PARTS_ETAG = re.compile(r"([0-9a-fA-F]{32})-([0-9]{1,5})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a store said of bytes that it took.

    `etag` is without quotes. `opaque_etag`: the object is encrypted with a key whose use makes
    the ETag something else than a digest (KMS, customer keys).
    """

    etag: str
    opaque_etag: bool = False
    version_id: str | None = None
    checksum_sha256: str | None = None


def bare_etag(header: str) -> str:
    """Take the quotes and a proxy's weak mark off an ETag."""
    return header.removeprefix("W/").strip('"')


def etag_md5(etag: str) -> bytes | None:
    """Give the MD5 that a plain ETag is, or None if it has another form."""
    return bytes.fromhex(etag) if _MD5_ETAG.fullmatch(etag) else None


def etag_parts(etag: str) -> int | None:
    """Give the number of parts that a multipart ETag names, or None if it has another form."""
    match = _PARTS_ETAG.fullmatch(etag)
    return int(match.group(2)) if match else None


def multipart_etag(part_md5s: Sequence[bytes]) -> str:
    """Give the ETag of an object made of these parts: the MD5 of their MD5s, and their number."""
    joined = hashlib.md5(b"".join(part_md5s), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(part_md5s)}"


def full_object_sha256(checksum: str | None) -> bytes | None:
    """Read a store's own SHA-256 of a whole object. Those made of parts' digests are none."""
    if checksum is None or "-" in checksum:
        return None
    try:
        digest = base64.b64decode(checksum, validate=True)
    except binascii.Error:
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None


def in_base64(digest: bytes) -> str:
    """Write a digest the way that S3's headers have it."""
    return base64.b64encode(digest).decode("ascii")


def verify(
    answer: Answer,
    *,
    md5: bytes | None,
    sha256: bytes | None,
    part_md5s: Sequence[bytes] = (),
    checked: StoreCheck | None,
    tried: str,
) -> StoreCheck:
    """Compare what a store answered with what was sent, and say what the store verified.

    `md5` None: nobody computed it, because what the store checks is known. `sha256` None: the
    store's checksum is of another kind and is not compared. `part_md5s` are those of a multipart
    upload; its object may carry either form of ETag. `checked` is what the store is known to
    check itself. Raises FailureError (`checksum-mismatch`) on any difference.
    """
    kept = full_object_sha256(answer.checksum_sha256)
    if sha256 is not None and kept is not None and kept != sha256:
        raise FailureError(
            failure("checksum-mismatch", tried, f"SHA-256 {kept.hex()}, ours is {sha256.hex()}")
        )
    compared = md5 is not None and _compare_etag(answer, md5, part_md5s, tried)
    if checked is not None:
        return checked
    # That the store checked anything was not seen; that it answered the MD5 of our bytes was.
    return StoreCheck.ETAG if compared else StoreCheck.NONE


def _compare_etag(
    answer: Answer, md5: bytes | None, part_md5s: Sequence[bytes], tried: str
) -> bool:
    """Tell whether the ETag could be compared. Raises FailureError if it is not ours."""
    if answer.opaque_etag:
        return False
    if md5 is not None and etag_md5(answer.etag) is not None:
        expected = md5.hex()
    elif part_md5s and etag_parts(answer.etag) is not None:
        expected = multipart_etag(part_md5s)
    else:
        return False
    if answer.etag.lower() != expected:
        raise FailureError(
            failure("checksum-mismatch", tried, f"ETag {answer.etag}, ours is {expected}")
        )
    return True
