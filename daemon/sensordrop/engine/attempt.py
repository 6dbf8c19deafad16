"""One attempt on one file: read it, get it stored, and see that it did not change meanwhile."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

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
from sensordrop.core.model import Claim, Fingerprint
from sensordrop.engine.delivery import Delivery
from sensordrop.ports.life import StopFlag
from sensordrop.ports.reading import FileGoneError, OpenFile, RootMissingError
from sensordrop.ports.storing import PartsJournal
from sensordrop.ports.transfer import Sender


class Attempt:
    """The file of one claim, opened and compared before it is stored, and once more afterwards.

    `begin`, then get `file` stored under `key`, then `judge`; `close` in any case.
    """

    file: OpenFile
    key: str

    def __init__(self, claim: Claim, delivery: Delivery, stop: StopFlag) -> None:
        self.claim = claim
        self.delivery = delivery
        self._stop = stop
        self._opened: AbstractContextManager[OpenFile] | None = None
        self._before: Fingerprint | None = None
        self.began = time.monotonic()

    def begin(self) -> Outcome | None:
        """Open the file and read it for its digests; an outcome means that this was all.

        Raises InterruptedAttemptError when the stop flag was set meanwhile.
        """
        settings = self.delivery.settings
        try:
            self.key = object_key(settings.s3_prefix, self.claim.path_text)
            self._opened = settings.source.open(self.claim.path)
            self.file = self._opened.__enter__()
            # A file on the known file system says that the folder is the known one; only where
            # it is on another (that may be mounted below the folder) has the folder to be asked.
            if self.file.device != self.delivery.device and self._exchanged():
                return FolderOffline()
            return self._look_before()
        except RootMissingError:
            return FolderOffline()
        except FileGoneError:
            return FolderOffline() if self._exchanged() else Gone()
        except FailureError as error:
            return FolderOffline() if self._exchanged() else Failed(failure=error.failure)

    def judge(self, outcome: Outcome) -> Outcome:
        """Look at the file once more: what changed meanwhile was not stored, whatever came of it.

        That goes for a failure of the file too: bytes that changed on their way don't match what
        was promised to the store, and the file is not to blame.
        """
        to_blame = not isinstance(outcome, Failed) or outcome.failure.scope is FailureScope.FILE
        if not to_blame or isinstance(outcome, Interrupted):
            return outcome
        after = self.file.fingerprint()
        if after != self._before:
            return Unsettled(fingerprint=after, why="it changed while it was uploaded")
        return outcome

    def close(self) -> None:
        """Close the file. May be repeated."""
        if self._opened is not None:
            self._opened.__exit__(None, None, None)
            self._opened = None

    def _exchanged(self) -> bool:
        """Tell whether another file system is at the folder than the one that is known."""
        known = self.delivery.device
        return known is not None and self.delivery.settings.source.device() != known

    def _look_before(self) -> Outcome | None:
        before = self._before = self.file.opened
        if before != self.claim.fingerprint:
            return Unsettled(fingerprint=before, why="it changed after it was seen")
        if self.delivery.settings.writer_check and self.file.being_written():
            return Unsettled(fingerprint=before, why="somebody has it open for writing")
        plan = self.delivery.settings.destination.digest_plan(before.size_bytes)
        if self.file.digest(plan, self._stop) != before.size_bytes:
            seen = self.file.fingerprint()
            return Unsettled(fingerprint=seen, why="it changed while it was read")
        if self.claim.predecessor_sha256 == self.file.sha256:
            return self.judge(SameAsBefore())
        return None


def attempt(
    claim: Claim,
    delivery: Delivery,
    stop: StopFlag,
    *,
    sender: Sender | None = None,
    journal: PartsJournal | None = None,
) -> Outcome:
    """Try once to get a file stored and say what came of it.

    Blocks on the disk and the network. Everything that can go wrong with the file, the folder or
    the destination is an outcome; only a mistake in this program is raised.
    """
    if stop.is_set():
        return Interrupted()
    trial = Attempt(claim, delivery, stop)
    store = delivery.settings.destination.store
    try:
        outcome = trial.begin()
        if outcome is not None:
            return outcome
        if stop.is_set():  # the folder may have held it up for long
            return Interrupted()
        return trial.judge(
            store(
                trial.file,
                trial.key,
                stop,
                sender=sender,
                journal=journal,
                look_first=claim.listed,
            )
        )
    except FailureError as error:
        return trial.judge(Failed(failure=error.failure))
    except InterruptedAttemptError:
        return Interrupted()
    finally:
        trial.close()
