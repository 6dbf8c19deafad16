"""The S3 destination: one content under one key, never over other content, and proven."""

from __future__ import annotations

import hashlib

from sensordrop.adapters.s3.body import Piece, PieceBody, opened, read_exactly
from sensordrop.adapters.s3.bucket import Bucket
from sensordrop.adapters.s3.client import MIB, S3Settings
from sensordrop.adapters.s3.digests import Answer, verify
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
from sensordrop.adapters.s3.multipart import (
    OBJECT_LIMIT_BYTES,
    etag_in_parts,
    part_bytes,
    put_in_parts,
)
from sensordrop.adapters.s3.options import options_for
from sensordrop.adapters.s3.probe import identity, probe
from sensordrop.adapters.s3.quick import QUICK_LIMIT_BYTES, QuickWay
from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.core.keys import conflict_key
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.core.model import Receipt, StoreCheck
from sensordrop.ports import Content, QuickSteps, StopFlag

WHOLE_LIMIT_BYTES = MIB
"""Files up to this size are sent as one block; larger ones can be broken off when we stop."""
SINGLE_PUT_LIMIT_BYTES = 5 * 1024**3
"""S3's limit for one request (Amazon S3 User Guide, "Uploading objects")."""


class S3Destination:
    """One bucket as a `Destination`. Safe from many threads; makes no request before its first use."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._bucket = Bucket(settings)
        self._quick = QuickWay(settings) if settings.engine == "curl" else None

    def store(self, content: Content, object_key: str, stop: StopFlag) -> Stored | AlreadyStored:
        """See `Destination.store`."""
        self._check_size(content, object_key)
        stored = self._store_under(content, object_key, stop, conflict=False)
        if stored is not None:
            return stored
        beside = conflict_key(object_key, content.sha256)
        stored = self._store_under(content, beside, stop, conflict=True)
        if stored is None:
            tried = self._bucket.tried("storing", object_key)
            raise FailureError(failure("conflict", tried, f"the conflict copy's key is {beside}"))
        return stored

    def quick(self, content: Content, object_key: str) -> QuickSteps | None:
        """See `Destination.quick`."""
        limit = min(QUICK_LIMIT_BYTES, self._settings.multipart_threshold_bytes - 1)
        if self._quick is None or content.size_bytes > limit:
            return None
        amazon = self._bucket.amazon
        return self._quick.steps(
            content,
            object_key,
            amazon=amazon,
            sends_checksums=self._bucket.sends_checksums,
            look_first=not amazon,
            condition=self._bucket.understands_condition,
        )

    def probe(self) -> str:
        """See `Destination.probe`."""
        return probe(self._settings)

    def identity(self) -> str:
        """Say in one line who we are to Amazon's STS, or why that is not known. Never a failure."""
        return identity(self._settings)

    def _check_size(self, content: Content, object_key: str) -> None:
        if content.size_bytes > OBJECT_LIMIT_BYTES:
            tried = self._bucket.tried("storing", object_key)
            raise FailureError(failure("too-large", tried, f"{content.size_bytes} bytes"))

    def _store_under(
        self, content: Content, key: str, stop: StopFlag, *, conflict: bool
    ) -> Stored | AlreadyStored | None:
        """Get the content under exactly this key; None if other content is there."""
        if stop.is_set():
            raise InterruptedAttemptError
        facts = self._bucket.head(key)
        if facts is None:
            receipt = self._send(content, key, stop, conflict=conflict)
            if receipt is not None:
                return Stored(receipt=receipt)
            facts = self._bucket.head(key)
        if facts is None:
            raise FailureError(failure("busy", self._bucket.tried("storing", key)))
        judgement = self._climb(facts, content, key, stop)
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

    # --- sending ---

    def _send(
        self, content: Content, key: str, stop: StopFlag, *, conflict: bool
    ) -> Receipt | None:
        """Send the content to a key that was free; None if it no longer is."""
        options = options_for(self._settings, key, content.sha256)
        threshold = min(self._settings.multipart_threshold_bytes, SINGLE_PUT_LIMIT_BYTES)
        if content.size_bytes >= max(threshold, 1):
            sent = put_in_parts(
                self._bucket,
                content,
                key,
                options,
                minimum_part_bytes=self._settings.minimum_part_bytes,
                stop=stop,
            )
            if sent is None:
                return None
            return _receipt(key, content, sent.answer, sent.store_check, conflict=conflict)
        what = f"the file for {key}"
        piece = Piece(
            start=0, size_bytes=content.size_bytes, md5=content.md5, sha256=content.sha256
        )
        with opened(content, what) as file:
            if content.size_bytes <= WHOLE_LIMIT_BYTES:
                with reading(what):
                    block = read_exactly(file, content.size_bytes)
                if hashlib.sha256(block).digest() != content.sha256:
                    raise FailureError(failure("changed", f"sending {what}"))
                answer = self._bucket.put(key, block, piece, options)
            else:
                body = PieceBody(file, piece, what=what, stop=stop)
                answer = self._bucket.put(key, body, piece, options)
        if answer is None:
            return None
        check = verify(
            answer,
            md5=content.md5,
            sha256=content.sha256,
            amazon=self._bucket.amazon,
            tried=self._bucket.tried("storing", key),
        )
        return _receipt(key, content, answer, check, conflict=conflict)

    # --- the ladder ---

    def _climb(self, facts: ObjectFacts, content: Content, key: str, stop: StopFlag) -> Judgement:
        match = PartsMatch.UNKNOWN
        if facts.parts is not None and facts.size_bytes == content.size_bytes:
            match = self._match_parts(facts.etag, facts.parts, content, key, stop)
        judgement = judge(facts, content, amazon=self._bucket.amazon, parts_match=match)
        if judgement.verdict is not Verdict.OPEN or not self._settings.ladder_download:
            return judgement
        read = self._bucket.read_back(key, stop)
        return judgement if read is None else judge_read_back(*read, content)

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
