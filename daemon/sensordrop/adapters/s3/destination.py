"""The S3 destination: one content under one key, never over other content, and proven."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sensordrop.adapters.s3.body import Piece, PieceBody, opened, read_exactly
from sensordrop.adapters.s3.bucket import Bucket
from sensordrop.adapters.s3.capabilities import CapabilityBook, probe_capabilities
from sensordrop.adapters.s3.client import MIB, S3Settings
from sensordrop.adapters.s3.digests import Answer, in_base64, verify
from sensordrop.adapters.s3.failures import failure, reading
from sensordrop.adapters.s3.ladder import (
    Judgement,
    ObjectFacts,
    PartsMatch,
    Verdict,
    judge,
    judge_read_back,
    part_size_guesses,
)
from sensordrop.adapters.s3.leftovers import look_for_leftovers
from sensordrop.adapters.s3.listing import list_page
from sensordrop.adapters.s3.multipart import (
    OBJECT_LIMIT_BYTES,
    InParts,
    etag_in_parts,
    part_bytes,
)
from sensordrop.adapters.s3.options import ObjectOptions, options_for
from sensordrop.adapters.s3.preflight import Preflight
from sensordrop.adapters.s3.quick import QUICK_LIMIT_BYTES, QuickWay
from sensordrop.adapters.s3.streamed import Refused, put_whole
from sensordrop.adapters.s3.wire import Wire, keeping_headers
from sensordrop.core.check import Check
from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.core.keys import conflict_key
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.core.model import Receipt, StoreCheck
from sensordrop.core.verification import FoundObject
from sensordrop.ports.life import StopFlag
from sensordrop.ports.reading import DigestPlan
from sensordrop.ports.storing import ListedPage, PartsJournal, UnfinishedUpload
from sensordrop.ports.transfer import Content, QuickSteps, Sender, Throttle

WHOLE_LIMIT_BYTES = MIB
"""Files up to this size are sent as one block; larger ones can be broken off when we stop."""
SINGLE_PUT_LIMIT_BYTES = 5 * 1024**3
"""S3's limit for one request (Amazon S3 User Guide, "Uploading objects")."""


_WHOLE = DigestPlan(md5=False)
_WHOLE_WITH_MD5 = DigestPlan(md5=True)

CLOCKS_APART = timedelta(seconds=60)
"""How far the store's clock may be behind the ledger's when it names an upload's beginning."""
ANSWERED = timedelta(seconds=150)
"""How long after it was asked a store may have begun an upload whose answer we did not get: the
time-outs of one request, and its clock ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Means:
    """What one attempt may use."""

    stop: StopFlag
    sender: Sender | None
    journal: PartsJournal | None
    look_first: bool = False


class S3Destination:
    """One bucket as a `Destination`. Safe from many threads; makes no request before its first use."""

    def __init__(
        self,
        settings: S3Settings,
        book: CapabilityBook | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._settings = settings
        self._throttle = throttle
        self._book = book or CapabilityBook()
        self._wire = Wire(settings, throttle) if settings.engine == "curl" else None
        forgotten = self._wire.forget if self._wire is not None else lambda: None
        self._bucket = Bucket(settings, throttle, forgotten=forgotten)
        self._quick = QuickWay(settings, self._wire) if self._wire else None

    def address(self) -> str:
        """See `Destination.address`."""
        return self._bucket.address()

    def digest_plan(self, size_bytes: int) -> DigestPlan:
        """See `Destination.digest_plan`."""
        md5, piece_bytes = self._bucket.proof.needs_md5, self._part_bytes(size_bytes)
        if piece_bytes is None:
            return _WHOLE_WITH_MD5 if md5 else _WHOLE
        return DigestPlan(md5=md5, piece_bytes=piece_bytes)

    def store(
        self,
        content: Content,
        object_key: str,
        stop: StopFlag,
        *,
        sender: Sender | None = None,
        journal: PartsJournal | None = None,
        look_first: bool = False,
    ) -> Stored | AlreadyStored:
        """See `Destination.store`."""
        self._check_size(content, object_key)
        means = _Means(
            stop=stop,
            sender=sender if self._wire is not None else None,
            journal=journal,
            look_first=look_first,
        )
        stored = self._store_under(content, object_key, means, conflict=False)
        if stored is not None:
            return stored
        beside = conflict_key(object_key, content.sha256)
        stored = self._store_under(content, beside, means, conflict=True)
        if stored is None:
            tried = self._bucket.tried("storing", object_key)
            raise FailureError(failure("conflict", tried, f"the conflict copy's key is {beside}"))
        return stored

    def quick(self, content: Content, object_key: str, *, look: bool = False) -> QuickSteps | None:
        """See `Destination.quick`."""
        limit = min(QUICK_LIMIT_BYTES, self._settings.multipart_threshold_bytes - 1)
        if self._quick is None or content.size_bytes > limit:
            return None
        proof = self._bucket.proof
        if proof.reads_back:
            return None  # the lane keeps only the beginning of an answer
        return self._quick.steps(
            content,
            object_key,
            proof=proof,
            sends_checksums=self._bucket.sends_checksums,
            look_first=not self._bucket.capabilities.conditional_put,
            look=look,
            condition=self._bucket.understands_condition,
        )

    def discard(self, upload: UnfinishedUpload, known: Collection[str] = ()) -> None:
        """See `Destination.discard`."""
        key = upload.object_key
        if upload.remote_id is not None:
            self._bucket.abort(key, upload.remote_id)
            return
        begun = upload.begun_at
        for remote_id in self._bucket.uploads_begun(key, begun - CLOCKS_APART, begun + ANSWERED):
            if remote_id not in known:
                self._bucket.abort(key, remote_id)

    def list_page(self, prefix: str, token: str | None) -> ListedPage:
        """See `Destination.list_page`."""
        return list_page(self._bucket, self._settings.bucket_name, prefix, token)

    def look(self, object_key: str) -> FoundObject | None:
        """See `Destination.look`."""
        facts = self._bucket.head(object_key)
        if facts is None:
            return None
        return FoundObject(
            size_bytes=facts.size_bytes, etag=facts.etag, checksum_sha256=facts.checksum_sha256
        )

    def read_back(self, object_key: str, stop: StopFlag) -> tuple[bytes, int] | None:
        """See `Destination.read_back`."""
        return self._bucket.read_back(object_key, stop)

    def preflight(self, prefix: str) -> list[Check]:
        """See `Destination.preflight`. What is seen of the store is used from then on."""
        settings = self._settings
        place = (settings.endpoint_url, settings.bucket_name, settings.aws_profile, settings.proxy)
        preflight = Preflight(
            settings,
            prefix,
            lambda client: self._book.look_up(place, lambda: probe_capabilities(settings, client)),
        )
        checks = preflight.run()
        if preflight.capabilities is not None:
            self._bucket.learn(preflight.capabilities)
        return checks

    def leftovers(self, prefix: str) -> Check:
        """Look for uploads in parts that were never ended. For people: the engine needs it not."""
        return look_for_leftovers(self._settings, prefix)

    def _check_size(self, content: Content, object_key: str) -> None:
        if content.size_bytes > OBJECT_LIMIT_BYTES:
            tried = self._bucket.tried("storing", object_key)
            raise FailureError(failure("too-large", tried, f"{content.size_bytes} bytes"))

    def _store_under(
        self, content: Content, key: str, means: _Means, *, conflict: bool
    ) -> Stored | AlreadyStored | None:
        """Get the content under exactly this key; None if other content is there."""
        if means.stop.is_set():
            raise InterruptedAttemptError
        look = means.look_first or self._looks_first(content)
        facts = self._bucket.head(key) if look else None
        if facts is None:
            receipt = self._send(content, key, means, conflict=conflict)
            if receipt is not None:
                return Stored(receipt=receipt)
            facts = self._bucket.head(key)
        if facts is None:
            raise FailureError(failure("busy", self._bucket.tried("storing", key)))
        judgement = self._climb(facts, content, key, means.stop)
        if judgement.verdict is not Verdict.SAME:
            return None
        receipt = _receipt(
            key,
            content,
            Answer(
                etag=facts.etag,
                version_id=facts.version_id,
                checksum_sha256=facts.checksum_sha256,
            ),
            judgement.store_check,
            conflict=conflict,
        )
        return AlreadyStored(receipt=receipt, evidence=judgement.evidence)

    def _looks_first(self, content: Content) -> bool:
        """Tell whether to look at a key before sending, though the store may refuse by itself.

        What is large is not sent in vain; and a small content that the quick way did not place
        most likely found its key taken.
        """
        honoured = self._bucket.capabilities.conditional_put
        return not honoured or self._quick is not None or content.size_bytes > QUICK_LIMIT_BYTES

    # --- sending ---

    def _send(self, content: Content, key: str, means: _Means, *, conflict: bool) -> Receipt | None:
        """Send the content to a key that was free; None if it no longer is."""
        options = options_for(self._settings, key, content.sha256)
        size = self._part_bytes(content.size_bytes)
        if size is not None:
            sent = InParts(
                bucket=self._bucket,
                content=content,
                object_key=key,
                options=options,
                part_bytes=size,
                stop=means.stop,
                wire=self._wire,
                sender=means.sender,
                journal=means.journal,
            ).put()
            if sent is None:
                return None
            check = sent.store_check
            if self._bucket.proof.reads_back:
                check = self._read_back(content, key, means.stop)
            return _receipt(key, content, sent.answer, check, conflict=conflict)
        proof = self._bucket.proof
        md5 = content.md5 if proof.needs_md5 else None
        answer = self._send_whole(content, key, means, options, md5)
        if answer is None:
            return None
        check = verify(
            answer,
            md5=md5,
            sha256=content.sha256,
            checked=proof.checked,
            tried=self._bucket.tried("storing", key),
        )
        check = self._read_back(content, key, means.stop) if proof.reads_back else check
        return _receipt(key, content, answer, check, conflict=conflict)

    def _send_whole(
        self,
        content: Content,
        key: str,
        means: _Means,
        options: ObjectOptions,
        md5: bytes | None,
    ) -> Answer | None:
        """Send the content in one request; None if the key was taken meanwhile."""
        what = f"the file for {key}"
        piece = Piece(start=0, size_bytes=content.size_bytes, md5=md5 or b"", sha256=content.sha256)
        if means.sender is not None:
            sent = self._send_by_lane(content, key, means, keeping_headers(options), piece)
            if sent is not Refused.ELSEWHERE:
                return sent
        limited = self._throttle is not None and self._throttle.limited
        if content.size_bytes > WHOLE_LIMIT_BYTES or limited:
            with opened(content, what) as file:
                body = PieceBody(file, piece, what=what, stop=means.stop, throttle=self._throttle)
                return self._bucket.put(key, body, piece, options)
        with opened(content, what) as file, reading(what):
            block = read_exactly(file, content.size_bytes)
        if hashlib.sha256(block).digest() != content.sha256:
            raise FailureError(failure("changed", f"sending {what}"))
        return self._bucket.put(key, block, piece, options)

    def _send_by_lane(
        self, content: Content, key: str, means: _Means, kept: dict[str, str], piece: Piece
    ) -> Answer | Literal[Refused.ELSEWHERE] | None:
        """Send the content through the lane; None if the key was taken meanwhile.

        A store that does not understand the condition is asked without it.
        """
        assert self._wire is not None
        assert means.sender is not None
        headers = kept | self._sending_headers(piece)
        while True:
            sent = put_whole(
                self._wire,
                means.sender,
                content,
                key,
                headers,
                stop=means.stop,
                hashed=not self._bucket.proof.refuses_other_bytes,
            )
            conditional = headers.pop("if-none-match", None) is not None
            if sent is Refused.NOT_UNDERSTOOD:
                if conditional:
                    continue
                return Refused.ELSEWHERE  # it was not the condition; the library finds out
            if sent is Refused.TAKEN:
                return None
            if not conditional and sent is not Refused.ELSEWHERE:
                self._bucket.condition_not_understood()
            return sent

    def _sending_headers(self, piece: Piece) -> dict[str, str]:
        """Give the headers that prove a whole object's bytes, and the condition."""
        headers: dict[str, str] = {}
        if self._bucket.understands_condition:
            headers["if-none-match"] = "*"
        if self._bucket.sends_content_md5 and piece.md5:
            headers["content-md5"] = in_base64(piece.md5)
        if self._bucket.sends_checksums:
            headers["x-amz-checksum-sha256"] = in_base64(piece.sha256)
            headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
        return headers

    def _part_bytes(self, size_bytes: int) -> int | None:
        """Give the size of a file's parts; None if it goes in one request."""
        threshold = min(self._settings.multipart_threshold_bytes, SINGLE_PUT_LIMIT_BYTES)
        if size_bytes < max(threshold, 1):
            return None
        return part_bytes(size_bytes, self._settings.minimum_part_bytes)

    def _read_back(self, content: Content, key: str, stop: StopFlag) -> StoreCheck:
        """Read an object of ours that was just stored, and compare it. Raises FailureError."""
        tried = self._bucket.tried("reading back", key)
        read = self._bucket.read_back(key, stop)
        if read is None:
            reason = "store_check is read-back, but objects are archived at once and can't be read"
            raise FailureError(failure("configuration", tried, reason))
        sha256, size_bytes = read
        if (sha256, size_bytes) != (content.sha256, content.size_bytes):
            reason = (
                f"{size_bytes} bytes with SHA-256 {sha256.hex()} came back, {content.size_bytes} "
                f"bytes with {content.sha256.hex()} were sent; this object is ours, it does not "
                "count as stored, and it is not written over"
            )
            raise FailureError(failure("checksum-mismatch", tried, reason))
        return StoreCheck.READ_BACK

    # --- the ladder ---

    def _climb(self, facts: ObjectFacts, content: Content, key: str, stop: StopFlag) -> Judgement:
        match = PartsMatch.UNKNOWN
        if facts.parts is not None and facts.size_bytes == content.size_bytes:
            match = self._match_parts(facts.etag, facts.parts, content, key, stop)
        judgement = judge(facts, content, amazon=self._bucket.amazon, parts_match=match)
        if not self._reads_to_judge(judgement):
            return judgement
        read = self._bucket.read_back(key, stop)
        return judgement if read is None else judge_read_back(*read, content)

    def _reads_to_judge(self, judgement: Judgement) -> bool:
        if judgement.verdict is Verdict.OPEN:
            return self._settings.ladder_download
        return judgement.verdict is Verdict.SAME and self._bucket.proof.reads_back

    def _match_parts(
        self, etag: str, parts: int, content: Content, key: str, stop: StopFlag
    ) -> PartsMatch:
        guesses = part_size_guesses(
            size_bytes=content.size_bytes,
            parts=parts,
            told=self._bucket.first_part_bytes(key),
            ours=part_bytes(content.size_bytes, self._settings.minimum_part_bytes),
        )
        what = f"the file for {key}"
        for size in guesses:
            if etag_in_parts(content, size, what=what, stop=stop) == etag.lower():
                return PartsMatch.EQUAL
        return PartsMatch.DIFFERENT if guesses else PartsMatch.UNKNOWN


def _receipt(
    key: str, content: Content, answer: Answer, check: StoreCheck, *, conflict: bool
) -> Receipt:
    return Receipt(
        object_key=key,
        sha256=content.sha256,
        etag=answer.etag,
        version_id=answer.version_id,
        checksum_sha256=answer.checksum_sha256,
        store_check=check,
        conflict=conflict,
    )
