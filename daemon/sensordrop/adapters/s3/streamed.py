"""One object in one request, streamed from the disk through somebody else's lane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from sensordrop.adapters.s3.body import Piece, opened
from sensordrop.adapters.s3.digests import Answer
from sensordrop.adapters.s3.pieces import LaneBody
from sensordrop.adapters.s3.wire import Wire, answered, not_understood, taken
from sensordrop.ports.life import StopFlag
from sensordrop.ports.transfer import Content, HttpAnswer, HttpRequest, Sender

WAIT_SECONDS = 1.0
"""How long one wait for the answer lasts."""


class Refused(StrEnum):
    """Why nothing was stored, where it is no failure."""

    TAKEN = "taken"
    """Something is under the key."""
    NOT_UNDERSTOOD = "not understood"
    """The store may not know the condition."""
    ELSEWHERE = "elsewhere"
    """A redirect and the like: the library knows what to do with it."""


def put_whole(
    wire: Wire,
    sender: Sender,
    content: Content,
    object_key: str,
    headers: Mapping[str, str],
    *,
    stop: StopFlag,
    hashed: bool,
) -> Answer | Refused:
    """Store a content in one request, or say why it has to be asked for in another way.

    `hashed`: the bytes are held against their digest on the way, because the store may not do so.

    Raises FailureError and InterruptedAttemptError.
    """
    what = f"the file for {object_key}"
    piece = Piece(start=0, size_bytes=content.size_bytes, md5=b"", sha256=content.sha256)
    with opened(content, what) as file:
        body = LaneBody(file, piece, what=what, stop=stop, hashed=hashed)

        def make() -> HttpRequest:
            return wire.request(
                "PUT",
                object_key,
                headers,
                payload_sha256=content.sha256.hex(),
                body=body,  # type: ignore[arg-type]  # the lane needs read and seek only
                size_bytes=content.size_bytes,
            )

        answer = _sent(sender, make, stop)
        if body.broken is not None:
            raise body.broken
    tried = wire.tried("storing", object_key)
    wire.raise_trouble(answer, tried)
    if answer.status == 200:
        return answered(answer, tried)
    if taken(answer):
        return Refused.TAKEN
    if not_understood(answer):
        return Refused.NOT_UNDERSTOOD
    wire.raise_refusal(answer, tried)
    return Refused.ELSEWHERE


def _sent(sender: Sender, make: Callable[[], HttpRequest], stop: StopFlag) -> HttpAnswer:
    with sender.flight(stop) as flight:
        flight.start(0, make)
        while not (answers := flight.wait(WAIT_SECONDS)):
            pass
    return answers[0][1]
