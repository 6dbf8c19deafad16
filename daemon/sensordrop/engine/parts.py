"""The journal of one file's uploads in parts, kept in the ledger."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from sensordrop.core.failure import InterruptedAttemptError, LedgerUnavailableError
from sensordrop.core.model import Claim
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.storing import LandedPart, UnfinishedUpload
from sensordrop.ports.transfer import Content

_log = structlog.get_logger()


class LedgerParts:
    """See `ports.PartsJournal`. Where an upload may not begin unknown to us, the file waits."""

    def __init__(self, ledger: Ledger, claim: Claim) -> None:
        self._ledger = ledger
        self._claim = claim

    def unfinished(self) -> Sequence[UnfinishedUpload]:
        """Give what earlier attempts on this file left."""
        try:
            return self._ledger.unfinished_uploads(self._claim.upload_id)
        except LedgerUnavailableError as error:
            raise InterruptedAttemptError from error

    def begin(self, object_key: str, content: Content, part_bytes: int) -> int:
        """Write down that an upload is about to be begun."""
        try:
            return self._ledger.begin_upload(
                self._claim,
                object_key=object_key,
                sha256=content.sha256,
                size_bytes=content.size_bytes,
                part_bytes=part_bytes,
            )
        except LedgerUnavailableError as error:
            raise InterruptedAttemptError from error

    def named(self, record_id: int, remote_id: str) -> None:
        """Write down what the store calls the upload."""
        try:
            self._ledger.name_upload(record_id, remote_id)
        except LedgerUnavailableError as error:
            raise InterruptedAttemptError from error

    def landed(self, record_id: int, parts: Sequence[LandedPart]) -> None:
        """Write down parts that the store has; without a ledger they may be sent again."""
        try:
            self._ledger.land_parts(record_id, parts)
        except LedgerUnavailableError as error:
            self._tell("parts_not_written", error)

    def forget(self, record_id: int) -> None:
        """Take an upload off the list; without a ledger the janitor does it later."""
        try:
            self._ledger.forget_upload(record_id)
        except LedgerUnavailableError as error:
            self._tell("upload_not_forgotten", error)

    def _tell(self, event: str, error: LedgerUnavailableError) -> None:
        _log.warning(event, path=self._claim.path_text, problem=str(error),
                     hint="nothing is lost: a later attempt asks the store what it has")  # fmt: skip
