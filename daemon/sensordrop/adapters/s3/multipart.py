"""Large files in parts: several at once, in constant memory, and never a finished part twice.

Every upload is written down before the store is asked for it, and every part when the store has
it. A later attempt on the same bytes goes on where the last one ended; on other bytes it throws
the old upload away and begins anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace

import structlog

from sensordrop.adapters.s3.body import Piece, PieceBody, measure, opened
from sensordrop.adapters.s3.bucket import Bucket
from sensordrop.adapters.s3.client import MIB
from sensordrop.adapters.s3.digests import Answer, in_base64, multipart_etag, verify
from sensordrop.adapters.s3.failures import failure
from sensordrop.adapters.s3.options import ObjectOptions
from sensordrop.adapters.s3.pieces import LaneBody, check_length, pieces_of
from sensordrop.adapters.s3.wire import Wire, answered
from sensordrop.core.failure import FailureError, FailureScope, InterruptedAttemptError
from sensordrop.core.model import StoreCheck
from sensordrop.ports.life import StopFlag
from sensordrop.ports.storing import LandedPart, PartsJournal, UnfinishedUpload
from sensordrop.ports.transfer import Content, Flight, HttpAnswer, HttpRequest, Sender

PARTS_LIMIT = 10_000
"""S3's limit of parts in one upload (Amazon S3 User Guide, "Multipart upload limits")."""
OBJECT_LIMIT_BYTES = 5 * 1024**4
"""The largest file that is sent: 5 TiB."""
PARTS_AT_ONCE = 5
"""Parts of one file on their way at the same time: enough to fill a link, few enough to leave
room for other files."""
LINGER_SECONDS = 10.0
"""How long parts on their way may still land after another one failed: they need not be sent
again then."""
WAIT_SECONDS = 1.0
"""How long one wait for answers lasts."""

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


@dataclass(kw_only=True)
class _Upload:
    """An upload that the store knows, and the parts of it that the store has, by number."""

    record_id: int | None
    remote_id: str
    landed: dict[int, LandedPart] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class InParts:
    """One attempt to store one large file.

    `wire` and `sender` go together: the bytes then go through libcurl, several parts at once;
    without them through boto3, one after the other. Without a `journal` nothing is resumed, and
    an upload that does not end is thrown away.
    """

    bucket: Bucket
    content: Content
    object_key: str
    options: ObjectOptions
    part_bytes: int
    stop: StopFlag
    wire: Wire | None = None
    sender: Sender | None = None
    journal: PartsJournal | None = None

    def put(self) -> SentInParts | None:
        """Store the file; None if the key was taken meanwhile.

        Nothing appears under the key before the store has all parts. After a failure that is
        not the file's, and after a stop, what landed stays for the next attempt. Raises
        FailureError and InterruptedAttemptError.
        """
        pieces = pieces_of(self.content, self.part_bytes, what=self._what, stop=self.stop)
        upload = self._found(pieces) or self._begun()
        try:
            self._send_missing(upload, pieces)
            if self.stop.is_set():
                raise InterruptedAttemptError
            answer = self._complete(upload)
        except FailureError as error:
            if self.journal is None or error.failure.scope is FailureScope.FILE:
                self._throw_away(upload)
            raise
        except InterruptedAttemptError:
            if self.journal is None:
                self._throw_away(upload)
            raise
        if answer is None:
            self._throw_away(upload)
            return None
        sent = self._checked(answer, upload, pieces)
        self._forget(upload)
        return sent

    @property
    def _what(self) -> str:
        return f"the file for {self.object_key}"

    # --- where to begin -------------------------------------------------------------------

    def _found(self, pieces: Sequence[Piece]) -> _Upload | None:
        """Find an upload of the same bytes to go on with; throw away what is of others."""
        found = None
        for known in () if self.journal is None else self.journal.unfinished():
            if known.remote_id is None:
                continue  # the janitor asks the store about it once the file is finished
            upload = _Upload(record_id=known.record_id, remote_id=known.remote_id)
            if found is not None or not self._is_of_these_bytes(known):
                self._throw_away(upload)
                continue
            listed = self.bucket.list_parts(self.object_key, known.remote_id)
            if listed is None:
                self._forget(upload)
                continue
            upload.landed = self._still_good(known, listed, pieces)
            found = upload
        if found is not None:
            log.info("upload_resumed", object_key=self.object_key, parts=len(pieces),
                     parts_there=len(found.landed))  # fmt: skip
        return found

    def _is_of_these_bytes(self, known: UnfinishedUpload) -> bool:
        return (
            known.object_key == self.object_key
            and known.sha256 == self.content.sha256
            and known.size_bytes == self.content.size_bytes
            and known.part_bytes == self.part_bytes
        )

    def _still_good(
        self,
        known: UnfinishedUpload,
        listed: dict[int, tuple[int, str]],
        pieces: Sequence[Piece],
    ) -> dict[int, LandedPart]:
        """Give the parts that the store has and that are known to hold our bytes.

        That is: sent under the digest that the bytes have now, and the store still names the
        ETag that it answered then; or, where the answer was lost, an ETag that is our MD5.
        """
        written = {part.number: part for part in known.parts}
        good: dict[int, LandedPart] = {}
        for number, (size_bytes, etag) in listed.items():
            if number > len(pieces) or size_bytes != pieces[number - 1].size_bytes:
                continue
            piece = pieces[number - 1]
            part = written.get(number)
            ours = (
                part is not None and part.etag == etag and part.sha256 == piece.sha256
            ) or etag.lower() == self._md5_of(piece).hex()
            if ours:
                good[number] = LandedPart(
                    number=number, size_bytes=size_bytes, sha256=piece.sha256, etag=etag
                )
        return good

    def _md5_of(self, piece: Piece) -> bytes:
        if piece.md5:
            return piece.md5
        with opened(self.content, self._what) as file:
            measured = measure(
                file,
                start=piece.start,
                size_bytes=piece.size_bytes,
                what=self._what,
                stop=self.stop,
                also=_ignore,
            )
        return measured.md5

    def _begun(self) -> _Upload:
        record_id = None
        if self.journal is not None:
            record_id = self.journal.begin(self.object_key, self.content, self.part_bytes)
        remote_id = self.bucket.create_upload(self.object_key, self.options)
        upload = _Upload(record_id=record_id, remote_id=remote_id)
        if self.journal is not None and record_id is not None:
            try:
                self.journal.named(record_id, remote_id)
            except InterruptedAttemptError:
                self._throw_away(upload)
                raise
        return upload

    # --- sending --------------------------------------------------------------------------

    def _send_missing(self, upload: _Upload, pieces: Sequence[Piece]) -> None:
        missing = [
            (number, piece)
            for number, piece in enumerate(pieces, start=1)
            if number not in upload.landed
        ]
        send = self._send_by_boto3 if self.sender is None else self._send_by_lane
        with closing(send(upload, missing)) as landing:
            for part in landing:
                upload.landed[part.number] = part
                if self.journal is not None and upload.record_id is not None:
                    self.journal.landed(upload.record_id, [part])
        with opened(self.content, self._what) as file:
            check_length(file, self.content.size_bytes, self._what)

    def _send_by_boto3(
        self, upload: _Upload, missing: Sequence[tuple[int, Piece]]
    ) -> Generator[LandedPart, None, None]:
        with opened(self.content, self._what) as file:
            for number, piece in missing:
                body = PieceBody(
                    file, piece, what=self._what, stop=self.stop, throttle=self.bucket.throttle
                )
                proven = piece
                if self.bucket.sends_content_md5:
                    proven = replace(piece, md5=self._md5_of(piece))
                answer = self.bucket.put_part(
                    self.object_key, upload.remote_id, number, body, proven
                )
                yield self._landed(number, piece, answer)

    def _send_by_lane(
        self, upload: _Upload, missing: Sequence[tuple[int, Piece]]
    ) -> Generator[LandedPart, None, None]:
        """Send parts through the lane, some at once; give each when the store has it."""
        assert self.sender is not None
        waiting = deque(missing)
        flying: dict[int, _FlyingPart] = {}
        failed: FailureError | None = None
        give_up = 0.0
        with _closing_all(flying), self.sender.flight(self.stop) as flight:
            while flying or (waiting and failed is None):
                while waiting and failed is None and len(flying) < PARTS_AT_ONCE:
                    number, piece = waiting.popleft()
                    flying[number] = self._take_off(flight, upload, number, piece)
                for number, answer in flight.wait(WAIT_SECONDS):
                    part = flying.pop(number)
                    try:
                        yield self._landed(number, part.piece, self._judged(part, answer))
                    except FailureError as error:
                        failed = failed or error
                        give_up = give_up or time.monotonic() + LINGER_SECONDS
                if failed is not None and time.monotonic() >= give_up:
                    break
        if failed is not None:
            raise failed

    def _take_off(self, flight: Flight, upload: _Upload, number: int, piece: Piece) -> _FlyingPart:
        part = _FlyingPart(self, upload, number, piece)
        flight.start(number, part.make)
        return part

    def _judged(self, part: _FlyingPart, answer: HttpAnswer) -> Answer:
        part.close()
        part.raise_broken()
        assert self.wire is not None
        tried = self.wire.tried(f"sending part {part.number} of", self.object_key)
        self.wire.raise_trouble(answer, tried)
        if answer.status != 200:
            self.wire.raise_refusal(answer, tried)
            raise FailureError(failure("bad-answer", tried, f"it answered {answer.status}"))
        return answered(answer, tried)

    def _landed(self, number: int, piece: Piece, answer: Answer) -> LandedPart:
        verify(
            answer,
            md5=piece.md5 or None,
            sha256=piece.sha256,
            checked=self.bucket.proof.checked,
            tried=self.bucket.tried(f"sending part {number} of", self.object_key),
        )
        return LandedPart(
            number=number, size_bytes=piece.size_bytes, sha256=piece.sha256, etag=answer.etag
        )

    def part_request(
        self, upload_id: str, number: int, piece: Piece, body: LaneBody
    ) -> HttpRequest:
        """Make the request that sends one part, signed now."""
        assert self.wire is not None
        headers: dict[str, str] = {}
        if self.bucket.sends_content_md5:
            headers["content-md5"] = in_base64(self._md5_of(piece))
        if self.bucket.sends_checksums:
            headers["x-amz-checksum-sha256"] = in_base64(piece.sha256)
            headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
        return self.wire.request(
            "PUT",
            self.object_key,
            headers,
            query=[("partNumber", str(number)), ("uploadId", upload_id)],
            payload_sha256=piece.sha256.hex(),
            body=body,  # type: ignore[arg-type]  # the lane needs read and seek only
            size_bytes=piece.size_bytes,
        )

    # --- the end --------------------------------------------------------------------------

    def _complete(self, upload: _Upload) -> Answer | None:
        """Make the object of its parts, unless something is under the key by now."""
        parts = [upload.landed[number] for number in sorted(upload.landed)]
        return self.bucket.complete(self.object_key, upload.remote_id, parts)

    def _checked(self, answer: Answer, upload: _Upload, pieces: Sequence[Piece]) -> SentInParts:
        """Compare the finished object with what was sent. Raises FailureError."""
        tried = self.bucket.tried("storing", self.object_key)
        check = self._compared(answer, pieces, tried)
        facts = self.bucket.head(self.object_key)
        if facts is None:
            raise FailureError(failure("busy", tried, "it does not show the object yet"))
        if facts.size_bytes != self.content.size_bytes:
            reason = f"the object has {facts.size_bytes} bytes, ours {self.content.size_bytes}"
            raise FailureError(failure("checksum-mismatch", tried, reason))
        # Some stores name another ETag from now on than the one that they answered.
        shown = replace(answer, etag=facts.etag, opaque_etag=facts.opaque_etag)
        if facts.etag != answer.etag:
            self._compared(shown, pieces, tried)
        return SentInParts(answer=shown, store_check=check)

    def _compared(self, answer: Answer, pieces: Sequence[Piece], tried: str) -> StoreCheck:
        known = all(piece.md5 for piece in pieces)
        return verify(
            answer,
            md5=self.content.md5 if known else None,
            sha256=None,  # the store's checksum of a multipart object is one of its parts' checksums
            part_md5s=[piece.md5 for piece in pieces] if known else (),
            checked=self.bucket.proof.checked,
            tried=tried,
        )

    def _throw_away(self, upload: _Upload) -> None:
        try:
            self.bucket.abort(self.object_key, upload.remote_id)
        except FailureError as error:
            # What ended the upload may be about to be raised; this must not hide it. The parts
            # cost money until they are gone. With a record, the janitor tries again.
            log.warning(
                "multipart_abort_failed",
                object_key=self.object_key,
                upload_id=upload.remote_id,
                error_class=error.failure.error_class,
                error=error.failure.message,
                hint="a lifecycle rule that aborts incomplete multipart uploads clears them away",
            )
            return
        self._forget(upload)

    def _forget(self, upload: _Upload) -> None:
        if self.journal is not None and upload.record_id is not None:
            self.journal.forget(upload.record_id)


class _FlyingPart:
    """One part on its way: its body is opened when it starts, and closed when it ended."""

    def __init__(self, attempt: InParts, upload: _Upload, number: int, piece: Piece) -> None:
        self._attempt = attempt
        self._upload = upload
        self.number = number
        self.piece = piece
        self._body: LaneBody | None = None
        self._stack = ExitStack()

    def make(self) -> HttpRequest:
        """Open the body and make the request. Called in the lane's thread."""
        attempt = self._attempt
        what = f"the file for {attempt.object_key}"
        file = self._stack.enter_context(opened(attempt.content, what))
        self._body = LaneBody(
            file,
            self.piece,
            what=what,
            stop=attempt.stop,
            hashed=not attempt.bucket.proof.refuses_other_bytes,
        )
        return attempt.part_request(self._upload.remote_id, self.number, self.piece, self._body)

    def raise_broken(self) -> None:
        """Raise what was wrong with the body, where the transfer broke off for that."""
        if self._body is not None and self._body.broken is not None:
            raise self._body.broken

    def close(self) -> None:
        """Close the body. May be repeated."""
        self._stack.close()


@contextmanager
def _closing_all(flying: dict[int, _FlyingPart]) -> Iterator[None]:
    """Close what was still on its way; by then the flight has ended and reads no body."""
    try:
        yield
    finally:
        for part in flying.values():
            part.close()
