"""One attempt on one file: read it, get it stored, and see that it did not change meanwhile."""

from __future__ import annotations

from sensordrop.core.failure import FailureError, FailureScope, InterruptedAttemptError
from sensordrop.core.keys import object_key
from sensordrop.core.lifecycle import (
    Failed,
    FolderOffline,
    Gone,
    Interrupted,
    Outcome,
    SameAsBefore,
    Unsettled,
)
from sensordrop.core.model import Claim
from sensordrop.engine.delivery import Delivery
from sensordrop.ports import FileGoneError, OpenFile, RootMissingError, StopFlag


def attempt(claim: Claim, delivery: Delivery, stop: StopFlag) -> Outcome:
    """Try once to get a file stored and say what came of it.

    Blocks on the disk and the network. Everything that can go wrong with the file, the folder or
    the destination is an outcome; only a mistake in this program is raised.
    """
    settings = delivery.settings
    if stop.is_set():
        return Interrupted()
    if delivery.device is not None and settings.source.device() != delivery.device:
        return FolderOffline()
    try:
        key = object_key(settings.s3_prefix, claim.path_text)
        with settings.source.open(claim.path) as file:
            return _attempt_opened(claim, delivery, file, key, stop)
    except RootMissingError:
        return FolderOffline()
    except FileGoneError:
        # Looked at again: the disk may have been taken away between the look above and the open.
        if delivery.device is not None and settings.source.device() != delivery.device:
            return FolderOffline()
        return Gone()
    except FailureError as error:
        return Failed(failure=error.failure)
    except InterruptedAttemptError:
        return Interrupted()


def _attempt_opened(
    claim: Claim, delivery: Delivery, file: OpenFile, key: str, stop: StopFlag
) -> Outcome:
    before = file.fingerprint()
    if before != claim.fingerprint:
        return Unsettled(fingerprint=before, why="it changed after it was seen")
    if delivery.settings.writer_check and file.being_written():
        return Unsettled(fingerprint=before, why="somebody has it open for writing")
    length = file.digest()
    if length != before.size_bytes:
        return Unsettled(fingerprint=file.fingerprint(), why="it changed while it was read")
    outcome: Outcome
    if claim.predecessor_sha256 == file.sha256:
        outcome = SameAsBefore()
    else:
        outcome = _stored(delivery, file, key, stop)
    after = file.fingerprint()
    if after != before:
        return Unsettled(fingerprint=after, why="it changed while it was uploaded")
    return outcome


def _stored(delivery: Delivery, file: OpenFile, key: str, stop: StopFlag) -> Outcome:
    try:
        return delivery.settings.destination.store(file, key, stop)
    except FailureError as error:
        if error.failure.scope is not FailureScope.FILE:
            raise
        # Whether the file itself is to blame is only known after one more look at it: bytes that
        # changed on their way don't match what was promised to the store.
        return Failed(failure=error.failure)
