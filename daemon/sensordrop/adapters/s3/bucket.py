"""The requests that boto3 makes on one bucket: one method each, tried once, errors classified."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from sensordrop.adapters.s3.body import BLOCK_BYTES, Piece, PieceBody, let_through
from sensordrop.adapters.s3.client import S3Settings, is_amazon, make_client, make_session, shown
from sensordrop.adapters.s3.digests import Answer, bare_etag, in_base64
from sensordrop.adapters.s3.failures import (
    NEW_CREDENTIALS_MAY_HELP,
    classified,
    code_of,
    failure,
    needed,
    status_of,
)
from sensordrop.adapters.s3.ladder import ObjectFacts
from sensordrop.adapters.s3.options import SHA256_METADATA, ObjectOptions
from sensordrop.adapters.s3.proof import AMAZON, UNKNOWN, Capabilities, Proof, proof_of
from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.ports.life import StopFlag
from sensordrop.ports.storing import LandedPart
from sensordrop.ports.transfer import Throttle

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class _Condition:
    """Whether the store is still believed to understand `If-None-Match: *` on one request."""

    def __init__(self) -> None:
        self.understood = True


class Bucket:
    """One bucket through boto3. Safe from many threads; the client is made at the first use.

    Every method blocks on the network, bounded by time-outs, and raises FailureError. After a
    failure of credentials the client is dropped: the next use reads profiles and keys anew, so
    what an operator mends is seen without a restart.
    """

    def __init__(
        self,
        settings: S3Settings,
        throttle: Throttle | None = None,
        *,
        forgotten: Callable[[], None] = lambda: None,
    ) -> None:
        """Make no request yet. `forgotten` is called when credentials are to be read anew."""
        self._settings = settings
        self.throttle = throttle
        self._forgotten = forgotten
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._amazon = False
        self._checksum_mode = True
        self._seen = UNKNOWN
        self._proof: Proof | None = None
        self._condition_on_put = _Condition()
        self._condition_on_complete = _Condition()

    # --- what it is ---

    @property
    def amazon(self) -> bool:
        """Whether this is one of Amazon's own endpoints."""
        self._connected()
        return self._amazon

    def learn(self, seen: Capabilities) -> None:
        """Take note of what the store was seen to do; until then nothing is built on it."""
        self._seen = seen
        self._proof = None

    @property
    def capabilities(self) -> Capabilities:
        """What is known of the store."""
        return AMAZON if self.amazon else self._seen

    @property
    def proof(self) -> Proof:
        """How the store proves what it got."""
        known = self._proof
        if known is None:
            known = self._proof = proof_of(self._settings.store_check, self.capabilities)
        return known

    @property
    def sends_checksums(self) -> bool:
        """Whether `x-amz-checksum-sha256` goes out with the bytes."""
        chosen = self._settings.request_checksum_calculation
        return self.amazon if chosen is None else chosen == "when_supported"

    @property
    def sends_content_md5(self) -> bool:
        """Whether `Content-MD5` goes out with the bytes: the one digest that most stores check."""
        return self.proof.sends_content_md5

    @property
    def understands_condition(self) -> bool:
        """Whether the store takes "only if nothing is there"; whether it honours it is not said."""
        return self._condition_on_put.understood

    def condition_not_understood(self) -> None:
        """Take note that the store stored without the condition what it refused with it."""
        self._condition_on_put.understood = False

    def tried(self, verb: str, object_key: str) -> str:
        """Say what is being tried, on what, for messages."""
        return f"{verb} {self._settings.bucket_name}/{object_key} at {self.address()}"

    def address(self) -> str:
        """Say where requests go, as it may be shown."""
        return shown(self._connected().meta.endpoint_url)

    def asking(self, verb: str, where: str) -> AbstractContextManager[S3Client]:
        """Give the client for a request that stands in a module of its own.

        What goes wrong inside is classified as in every method here. `verb` and `where` are for
        messages.
        """
        return self._calling(verb, where)

    # --- looking ---

    def head(self, object_key: str) -> ObjectFacts | None:
        """Look at the object under a key; None if there is none."""
        with self._calling("looking at", object_key) as client:
            try:
                answer = self._head(client, object_key)
            except ClientError as error:
                if status_of(error) == 404:
                    return None
                if status_of(error) in (400, 403):
                    self._ask_why(client, object_key)
                raise
        return ObjectFacts(
            size_bytes=needed(answer, "ContentLength", self.tried("looking at", object_key)),
            etag=self._etag(answer, "looking at", object_key),
            opaque_etag=_opaque(answer),
            metadata_sha256=_metadata_sha256(answer),
            checksum_sha256=answer.get("ChecksumSHA256"),
            version_id=answer.get("VersionId"),
        )

    def first_part_bytes(self, object_key: str) -> int | None:
        """Give the size of the first part of a multipart object, or None if the store won't say."""
        with self._calling("looking at the first part of", object_key) as client:
            try:
                answer: Any = client.head_object(
                    Bucket=self._settings.bucket_name, Key=object_key, PartNumber=1
                )
            except ClientError as error:
                if 400 <= status_of(error) < 500 or status_of(error) == 501:
                    return None  # the store does not know the question; the guesses remain
                raise
        told = answer.get("PartsCount") and answer.get("ContentLength")
        return int(told) if told else None

    def read_back(self, object_key: str, stop: StopFlag) -> tuple[bytes, int] | None:
        """Download an object; give its SHA-256 and size. None if it is archived out of reach.

        It falls under the same limits as what is sent. Memory is bounded. Raises
        InterruptedAttemptError too.
        """
        sha256 = hashlib.sha256()
        size_bytes = 0
        with self._calling("reading back", object_key) as client:
            try:
                answer = client.get_object(Bucket=self._settings.bucket_name, Key=object_key)
            except ClientError as error:
                if code_of(error) == "InvalidObjectState":
                    return None
                raise
            with closing(answer["Body"]) as body:
                # Without a length it could go on for ever; S3 always gives one.
                needed(answer, "ContentLength", self.tried("reading back", object_key))
                while block := body.read(let_through(self.throttle, BLOCK_BYTES, stop)):
                    if stop.is_set():
                        raise InterruptedAttemptError
                    sha256.update(block)
                    size_bytes += len(block)
        return sha256.digest(), size_bytes

    # --- storing in one request ---

    def put(
        self, object_key: str, body: bytes | PieceBody, piece: Piece, options: ObjectOptions
    ) -> Answer | None:
        """Store an object where there is none; None if the key was taken meanwhile.

        A store that does not understand the condition is asked without it.
        """
        with self._calling("storing", object_key) as client:

            def send(condition: dict[str, Any]) -> Any:
                if isinstance(body, PieceBody):
                    body.seek(0)
                return client.put_object(
                    Bucket=self._settings.bucket_name,
                    Key=object_key,
                    Body=body,  # type: ignore[arg-type]  # botocore needs read, seek, tell only
                    **self._sending(piece),
                    **_keeping(options),
                    **condition,
                )

            answer = self._unless_taken(self._condition_on_put, send, body)
        return None if answer is None else self._answer(answer, "storing", object_key)

    # --- storing in parts ---

    def create_upload(self, object_key: str, options: ObjectOptions) -> str:
        """Begin a multipart upload; give its id."""
        checksum: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"} if self.sends_checksums else {}
        verb = "beginning a multipart upload of"
        with self._calling(verb, object_key) as client:
            answer = client.create_multipart_upload(
                Bucket=self._settings.bucket_name, Key=object_key, **_keeping(options), **checksum
            )
        return str(needed(answer, "UploadId", self.tried(verb, object_key)))

    def put_part(
        self, object_key: str, upload_id: str, number: int, body: PieceBody, piece: Piece
    ) -> Answer:
        """Send one part. Sending a number again replaces that part."""
        verb = f"sending part {number} of"
        with self._calling(verb, object_key) as client, _true_reason(body):
            answer = client.upload_part(
                Bucket=self._settings.bucket_name,
                Key=object_key,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]  # as above
                **self._sending(piece),
            )
        return self._answer(answer, verb, object_key)

    def list_parts(self, object_key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        """Give size and ETag of each part that the store has; None if it knows no such upload."""
        found: dict[int, tuple[int, str]] = {}
        verb = "listing the parts of"
        tried = self.tried(verb, object_key)
        with self._calling(verb, object_key) as client:
            pages = client.get_paginator("list_parts").paginate(
                Bucket=self._settings.bucket_name, Key=object_key, UploadId=upload_id
            )
            try:
                for page in pages:
                    for part in page.get("Parts", []):
                        number = needed(part, "PartNumber", tried)
                        etag = bare_etag(needed(part, "ETag", tried))
                        found[number] = (needed(part, "Size", tried), etag)
            except ClientError as error:
                if code_of(error) == "NoSuchUpload":
                    return None
                raise
        return found

    def uploads_begun(self, object_key: str, after: datetime, before: datetime) -> list[str]:
        """Give the ids of the unfinished uploads in parts of exactly one key, begun in a span."""
        found: list[str] = []
        verb = "listing the unfinished uploads of"
        tried = self.tried(verb, object_key)
        with self._calling(verb, object_key) as client:
            pages = client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._settings.bucket_name, Prefix=object_key
            )
            for page in pages:
                found += [
                    needed(upload, "UploadId", tried)
                    for upload in page.get("Uploads", [])
                    if needed(upload, "Key", tried) == object_key
                    and after <= needed(upload, "Initiated", tried) <= before
                ]
        return found

    def complete(
        self, object_key: str, upload_id: str, parts: Sequence[LandedPart]
    ) -> Answer | None:
        """Make the object of its parts; None if the key was taken meanwhile.

        Where the store is not known to look itself, we look right before.
        """
        if not self.capabilities.conditional_complete and self.head(object_key) is not None:
            return None
        verb = "completing the multipart upload of"
        listed = [
            {
                "PartNumber": part.number,
                "ETag": f'"{part.etag}"',
                **self._checksum_of(part.sha256),
            }
            for part in parts
        ]
        with self._calling(verb, object_key) as client:

            def send(condition: dict[str, Any]) -> Any:
                return client.complete_multipart_upload(
                    Bucket=self._settings.bucket_name,
                    Key=object_key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": listed},  # type: ignore[typeddict-item]
                    **condition,
                )

            answer = self._unless_taken(self._condition_on_complete, send, b"")
        if answer is None:
            return None
        if not answer.get("ETag"):
            return self._answer_by_look(verb, object_key, sum(p.size_bytes for p in parts))
        return self._answer(answer, verb, object_key)

    def abort(self, object_key: str, upload_id: str) -> None:
        """Throw a multipart upload and its parts away. One that is gone already is no failure."""
        with self._calling("aborting the multipart upload of", object_key) as client:
            try:
                client.abort_multipart_upload(
                    Bucket=self._settings.bucket_name, Key=object_key, UploadId=upload_id
                )
            except ClientError as error:
                if code_of(error) != "NoSuchUpload":
                    raise

    # --- the client and the shape of requests ---

    def _connected(self) -> S3Client:
        client = self._client
        if client is not None:
            return client  # asked for with every file, and made once
        with self._lock:
            if self._client is None:
                client = make_client(make_session(self._settings), self._settings)
                client.meta.events.register("before-send.s3", _begin_sending)
                self._amazon = is_amazon(client.meta.endpoint_url)
                self._proof = None
                self._client = client  # at last: others take it without the lock
            return self._client

    def _forget(self, client: S3Client) -> None:
        with self._lock:
            if self._client is client:
                self._client = None
        self._forgotten()

    @contextmanager
    def _calling(self, verb: str, object_key: str) -> Iterator[S3Client]:
        client = self._connected()
        try:
            with classified(self.tried(verb, object_key)):
                yield client
        except FailureError as error:
            if error.failure.error_class in NEW_CREDENTIALS_MAY_HELP:
                self._forget(client)
            raise

    def _head(self, client: S3Client, object_key: str) -> Any:
        where: dict[str, Any] = {"Bucket": self._settings.bucket_name, "Key": object_key}
        if not (self.sends_checksums and self._checksum_mode):
            return client.head_object(**where)
        try:
            return client.head_object(**where, ChecksumMode="ENABLED")
        except ClientError as error:
            if status_of(error) != 403:
                raise
        # Seeing the checksum of an object under a KMS key needs the right to use that key.
        answer = client.head_object(**where)
        self._checksum_mode = False
        return answer

    def _ask_why(self, client: S3Client, object_key: str) -> None:
        """Ask for something whose refusal has a body: answers to HEAD carry no error code."""
        client.list_objects_v2(Bucket=self._settings.bucket_name, Prefix=object_key, MaxKeys=1)

    def _unless_taken(
        self,
        condition: _Condition,
        send: Callable[[dict[str, Any]], Any],
        body: bytes | PieceBody,
    ) -> Any | None:
        """Send under the condition that the key is free; None if it is not."""
        if condition.understood:
            try:
                with _true_reason(body):
                    return send({"IfNoneMatch": "*"})
            except ClientError as error:
                if status_of(error) in (409, 412):
                    return None
                if not _refuses_condition(error):
                    raise
        with _true_reason(body):
            answer = send({})
        # It worked without: so it was the condition that the store did not understand.
        condition.understood = False
        return answer

    def _sending(self, piece: Piece) -> dict[str, Any]:
        named: dict[str, Any] = {
            "ContentLength": piece.size_bytes,
            **self._checksum_of(piece.sha256),
        }
        if self.sends_content_md5 and piece.md5:
            named["ContentMD5"] = in_base64(piece.md5)
        if self.sends_checksums:
            named["ChecksumAlgorithm"] = "SHA256"  # some servers keep the checksum only if told
        return named

    def _checksum_of(self, sha256: bytes) -> dict[str, str]:
        return {"ChecksumSHA256": in_base64(sha256)} if self.sends_checksums else {}

    def _answer(self, answer: Any, verb: str, object_key: str) -> Answer:
        return Answer(
            etag=self._etag(answer, verb, object_key),
            opaque_etag=_opaque(answer),
            version_id=answer.get("VersionId"),
            checksum_sha256=answer.get("ChecksumSHA256"),
        )

    def _answer_by_look(self, verb: str, object_key: str, size_bytes: int) -> Answer:
        """Look at what a completion made whose answer has no ETag: Ceph's often leaves it empty.

        What only seemed to be a store's answer (a portal's page) has made nothing.
        """
        facts = self.head(object_key)
        if facts is None or facts.size_bytes != size_bytes:
            tried = self.tried(verb, object_key)
            reason = "it gave no ETag, and the object is not there"
            raise FailureError(failure("bad-answer", tried, reason))
        return Answer(etag=facts.etag, opaque_etag=facts.opaque_etag, version_id=facts.version_id)

    def _etag(self, answer: Any, verb: str, object_key: str) -> str:
        etag = bare_etag(answer.get("ETag", ""))
        if not etag:
            tried = self.tried(verb, object_key)
            raise FailureError(failure("bad-answer", tried, "it gave no ETag"))
        return etag


def _begin_sending(request: Any, **_: object) -> None:
    """Tell a body that it is signed and that what is read of it now goes out."""
    if isinstance(request.body, PieceBody):
        request.body.begin_sending()


@contextmanager
def _true_reason(body: bytes | PieceBody) -> Iterator[None]:
    """Bring out what broke the body, where the library says that the network failed."""
    try:
        yield
    finally:
        if isinstance(body, PieceBody) and body.broken is not None:
            raise body.broken


def _refuses_condition(error: ClientError) -> bool:
    return status_of(error) == 501 or code_of(error) in ("NotImplemented", "InvalidArgument")


def _opaque(answer: Any) -> bool:
    encryption = str(answer.get("ServerSideEncryption", ""))
    return encryption.startswith("aws:kms") or "SSECustomerAlgorithm" in answer


def _metadata_sha256(answer: Any) -> bytes | None:
    # Header names have no case; some servers give them back with capitals.
    metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    text = metadata.get(SHA256_METADATA, "")
    if len(text) != 2 * hashlib.sha256().digest_size:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None  # somebody else's metadata under the same name


def _keeping(options: ObjectOptions) -> dict[str, Any]:
    named = {
        "ContentType": options.content_type,
        "Metadata": options.metadata,
        "ACL": options.acl,
        "StorageClass": options.storage_class,
        "ServerSideEncryption": options.sse,
        "SSEKMSKeyId": options.kms_key_id,
        "Tagging": options.tagging,
    }
    return {name: value for name, value in named.items() if value is not None}
