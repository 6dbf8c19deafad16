"""Asks a store what it really does, with a few small puts under one key of our own.

Compatible stores differ in what they check and what they only accept, and none says so. What
can't be asked (no right to write there, no answer in time) stays unknown, and then nothing is
built on it: a probe never makes a delivery fail.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from sensordrop.adapters.s3.client import PROBE_TIMEOUT_SECONDS, S3Settings
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.s3.digests import in_base64
from sensordrop.adapters.s3.failures import (
    BY_CLASS,
    classified,
    code_of,
    needed,
    printable,
    status_of,
)
from sensordrop.adapters.s3.options import DEFAULT_CONTENT_TYPE
from sensordrop.adapters.s3.proof import Capabilities
from sensordrop.adapters.s3.wire import Wire, client_error
from sensordrop.core.failure import FailureError
from sensordrop.ports.transfer import HttpAnswer, HttpRequest

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PROBE_KEY = "_sensordrop/probe"
"""Always the same key, so that where deleting is denied one small object stays, and no more."""
SHARED_SECONDS = 60.0
"""Deliveries to the same bucket share what one of them saw for so long: at a start, all ask."""

_BODY = b"sensordrop asks what this store checks.\n"
_OTHER = b"These bytes are not those that were told"
"""Of the same length, so that nothing but the digest tells them apart."""

_DIGEST_REFUSED = (*BY_CLASS["checksum-mismatch"].codes, "SignatureDoesNotMatch")
"""Words for a body that is not what was promised; some stores hash it for the signature."""
_NOT_UNDERSTOOD = ("NotImplemented", "InvalidArgument")


def probe_capabilities(settings: S3Settings, client: S3Client) -> Capabilities:
    """Ask the store. Each request is tried once and given some seconds. Raises nothing classified.

    `client` has short time-outs. Leaves nothing behind where it may delete.
    """
    prober = _Prober(settings, client)
    try:
        return prober.run()
    finally:
        prober.close()


class CapabilityBook:
    """What was seen of each store lately, shared by all deliveries. Safe from every thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._turns: dict[object, threading.Lock] = {}
        self._seen: dict[object, tuple[float, Capabilities]] = {}

    def look_up(self, place: object, ask: Callable[[], Capabilities]) -> Capabilities:
        """Give what was seen lately at a place, or ask. Two never ask at one place at a time."""
        with self._lock:
            turn = self._turns.setdefault(place, threading.Lock())
        with turn:
            known = self._seen.get(place)
            if known is not None and self._clock() - known[0] < SHARED_SECONDS:
                return known[1]
            seen = ask()
            self._seen[place] = (self._clock(), seen)
            return seen


class _Prober:
    def __init__(self, settings: S3Settings, client: S3Client) -> None:
        self._settings = settings
        self._client = client
        self._wire = Wire(settings)
        self._lane = CurlLane(
            LaneSettings(
                most_connections=1,
                connect_seconds=PROBE_TIMEOUT_SECONDS,
                stall_seconds=PROBE_TIMEOUT_SECONDS,
            )
        )

    def run(self) -> Capabilities:
        try:
            plain = self._put({})
            if plain.status != 200:
                return Capabilities(problem=f"a put to {PROBE_KEY} was answered {_said(plain)}")
            seen = Capabilities(
                conditional_put=_refused_condition(self._put({"if-none-match": "*"})),
                conditional_complete=self._conditional_complete(),
                checks_payload_hash=self._refuses(lambda: self._put({}, body=_OTHER)),
                checks_content_md5=self._refuses(lambda: self._put({"content-md5": _md5(_OTHER)})),
            )
        except FailureError as error:
            return Capabilities(problem=error.failure.message)
        self._delete()
        return seen

    def close(self) -> None:
        self._lane.close()

    def _refuses(self, contradict: Callable[[], HttpAnswer]) -> bool | None:
        """Tell whether bytes that contradict their digest are refused, and right ones are not.

        Nobody else looks at the bytes where that is so. A single refusal may be any request's
        trouble in a store or proxy that is not well, so it must come twice, around a put that is
        right and accepted; else nothing is known.
        """
        refused = _refused_digest(contradict())
        if not refused:
            return refused
        proven = self._put({}).status == 200 and _refused_digest(contradict())
        return True if proven else None

    def _put(self, headers: Mapping[str, str], *, body: bytes = _BODY) -> HttpAnswer:
        """Put some bytes under the digest of `_BODY`, rightly signed."""
        sent = {"content-type": DEFAULT_CONTENT_TYPE, **self._demanded(), **headers}
        digest = hashlib.sha256(_BODY).hexdigest()
        request = self._wire.request(
            "PUT",
            PROBE_KEY,
            sent,
            payload_sha256=digest,
            body=io.BytesIO(body),
            size_bytes=len(body),
        )
        return self._answer(request)

    def _demanded(self) -> dict[str, str]:
        """Give what the bucket's policy may demand of every put. No class and no tags: those
        cost something.
        """
        settings = self._settings
        chosen = {
            "x-amz-acl": settings.acl,
            "x-amz-server-side-encryption": settings.sse,
            "x-amz-server-side-encryption-aws-kms-key-id": settings.kms_key_id,
        }
        return {name: value for name, value in chosen.items() if value is not None}

    def _answer(self, request: HttpRequest) -> HttpAnswer:
        self._lane.start(0, request)
        give_up = time.monotonic() + PROBE_TIMEOUT_SECONDS
        while (left := give_up - time.monotonic()) > 0:
            for _, answer in self._lane.step(left):
                return answer
        self._lane.abandon()
        return HttpAnswer(status=0, headers={}, body=b"", trouble=(0, "nothing in time"))

    def _conditional_complete(self) -> bool | None:
        """Complete an upload in parts to the key that is taken."""
        asking = "asking for a conditional completion"
        with suppress(FailureError), classified(asking):
            upload = self._client.create_multipart_upload(**self._where, **self._encryption())
            try:
                return self._complete(needed(upload, "UploadId", asking))
            except ClientError as error:
                return _condition_word(status_of(error), code_of(error))
        return None

    def _complete(self, upload_id: str) -> bool:
        """Complete an upload; False if the store did so. Raises ClientError if it did not."""
        whole: dict[str, Any] = {**self._where, "UploadId": upload_id}
        try:
            part = self._client.upload_part(**whole, PartNumber=1, Body=_BODY)
            etag = needed(part, "ETag", "sending a part of a probe")
            parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            self._client.complete_multipart_upload(**whole, MultipartUpload=parts, IfNoneMatch="*")
        except (ClientError, FailureError):
            with suppress(FailureError), classified("aborting the upload of a probe"):
                self._client.abort_multipart_upload(**whole)
            raise
        return False

    @property
    def _where(self) -> dict[str, Any]:
        return {"Bucket": self._settings.bucket_name, "Key": PROBE_KEY}

    def _encryption(self) -> dict[str, Any]:
        named = {
            "ServerSideEncryption": self._settings.sse,
            "SSEKMSKeyId": self._settings.kms_key_id,
            "ACL": self._settings.acl,
        }
        return {name: value for name, value in named.items() if value is not None}

    def _delete(self) -> None:
        # Where deleting is denied, some forty bytes stay under the key; the next probe uses it.
        with suppress(FailureError), classified(f"deleting {PROBE_KEY}"):
            self._client.delete_object(**self._where)


def _refused_condition(answer: HttpAnswer) -> bool | None:
    return False if answer.status == 200 else _condition_word(answer.status, _code(answer))


def _condition_word(status: int, code: str) -> bool | None:
    """Tell what an answer to a put under a condition that does not hold says of the store."""
    if status == 412:
        return True
    return False if status == 501 or code in _NOT_UNDERSTOOD else None


def _refused_digest(answer: HttpAnswer) -> bool | None:
    if answer.status == 200:
        return False
    return True if 400 <= answer.status < 500 and _code(answer) in _DIGEST_REFUSED else None


def _code(answer: HttpAnswer) -> str:
    return code_of(client_error(answer))


def _said(answer: HttpAnswer) -> str:
    if answer.trouble is not None:
        return f"not at all ({printable(answer.trouble[1])})"
    code = _code(answer)
    return (
        f"{answer.status}" if code == str(answer.status) else f"{answer.status} {printable(code)}"
    )


def _md5(data: bytes) -> str:
    return in_base64(hashlib.md5(data, usedforsecurity=False).digest())
