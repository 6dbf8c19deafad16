"""The quick way for small files: one signed request each, driven by somebody else's lane.

Whatever is not the plain case (a key that is taken, a store that does not understand the
condition) is left to the slow way.
"""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO

from sensordrop.adapters.s3.body import opened, read_exactly
from sensordrop.adapters.s3.client import S3Settings
from sensordrop.adapters.s3.digests import in_base64, verify
from sensordrop.adapters.s3.failures import failure, reading
from sensordrop.adapters.s3.options import SHA256_HEADER, content_type, options_for
from sensordrop.adapters.s3.proof import Proof
from sensordrop.adapters.s3.wire import Wire, answered, keeping_headers, not_understood, taken
from sensordrop.core.failure import FailureError
from sensordrop.core.lifecycle import Stored
from sensordrop.core.model import Receipt
from sensordrop.ports.transfer import Content, HttpAnswer, QuickSteps

QUICK_LIMIT_BYTES = 4 * 1024 * 1024
"""Larger contents go the slow way, which sends them from the disk."""


class QuickWay:
    """Makes the requests of small puts. Safe from every thread."""

    def __init__(self, settings: S3Settings, wire: Wire) -> None:
        self._settings = settings
        self._wire = wire
        self._kept: dict[str, dict[str, str]] = {}

    def steps(
        self,
        content: Content,
        object_key: str,
        *,
        proof: Proof,
        sends_checksums: bool,
        look_first: bool,
        look: bool = False,
        condition: bool,
    ) -> QuickSteps:
        """Give the requests that store a content under a free key; None is the slow way's.

        `condition`: the store understands "only if nothing is there". `look_first`: whether it
        also honours that is not known, so a look comes before the put. `look`: it honours that,
        and a look only saves the sending; whatever it is answered but "there", the put decides.
        """
        tried = self._wire.tried("storing", object_key)
        signed = content.sha256.hex()
        if look_first or look:
            looked = yield self._wire.request("HEAD", object_key, {})
            if look_first:
                self._raise_unless_told(looked, tried)
            if looked.status == 200 or (look_first and looked.status != 404):
                return None
        md5 = content.md5 if proof.needs_md5 else None
        headers = self._kept_with(object_key, signed)
        if condition:
            headers["if-none-match"] = "*"
        if proof.sends_content_md5 and md5 is not None:
            headers["content-md5"] = in_base64(md5)
        if sends_checksums:
            headers |= _checksum(content.sha256)
        answer = yield self._wire.request(
            "PUT",
            object_key,
            headers,
            payload_sha256=signed,
            body=_as_hashed(content, f"the file for {object_key}"),
            size_bytes=content.size_bytes,
        )
        self._wire.raise_trouble(answer, tried)
        if answer.status != 200:
            if not (taken(answer) or not_understood(answer)):
                self._wire.raise_refusal(answer, tried)
            return None  # also for redirects and the like: the library knows what to do with them
        told = answered(answer, tried)
        check = verify(told, md5=md5, sha256=content.sha256, checked=proof.checked, tried=tried)
        receipt = Receipt(
            object_key=object_key,
            sha256=content.sha256,
            etag=told.etag,
            version_id=told.version_id,
            checksum_sha256=told.checksum_sha256,
            store_check=check,
        )
        return Stored(receipt=receipt)

    def _raise_unless_told(self, looked: HttpAnswer, tried: str) -> None:
        self._wire.raise_trouble(looked, tried)
        if looked.status >= 500:
            self._wire.raise_refusal(looked, tried)

    def _kept_with(self, object_key: str, sha256_hex: str) -> dict[str, str]:
        """Give the headers that say how an object is to be kept.

        All but the digest are the same for all objects of a media type, of which there are few.
        """
        kind = content_type(object_key)
        known = self._kept.get(kind)
        if known is None:
            options = options_for(self._settings, object_key, b"")
            known = self._kept[kind] = keeping_headers(options)
        return {**known, SHA256_HEADER: sha256_hex}


def _checksum(sha256: bytes) -> dict[str, str]:
    return {
        "x-amz-checksum-sha256": in_base64(sha256),
        "x-amz-sdk-checksum-algorithm": "SHA256",
    }


def _as_hashed(content: Content, what: str) -> BinaryIO:
    """Give the bytes that were hashed: those in memory, or the file's if they are still the same.

    Raises FailureError.
    """
    if content.memory is not None:
        return io.BytesIO(content.memory)
    with opened(content, what) as file, reading(what):
        block = read_exactly(file, content.size_bytes)
    if hashlib.sha256(block).digest() != content.sha256:
        raise FailureError(failure("changed", f"sending {what}"))
    return io.BytesIO(block)
