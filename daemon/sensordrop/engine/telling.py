"""What the journal is told of single files."""

from __future__ import annotations

import structlog

from sensordrop.core.lifecycle import AlreadyStored, Quarantine, Retry, Stored
from sensordrop.engine.workers import Done

_log = structlog.get_logger()


def tell(done: Done, action: object) -> None:
    """Log what an operator would want to know of one file; successes are not among it."""
    where = {"delivery": done.delivery.name, "path": done.claim.path_text}
    match action:
        case Quarantine(failure=failure):
            _log.error("file_quarantined", **where, attempts=done.claim.attempts + 1,
                       error_class=failure.error_class, problem=failure.message,
                       hint=failure.hint)  # fmt: skip
        case Retry(failure=failure, until=until):
            _log.warning("file_failed", **where, attempts=done.claim.attempts + 1,
                         error_class=failure.error_class, problem=failure.message,
                         hint=failure.hint,
                         next_attempt_at=until.isoformat(timespec="seconds"))  # fmt: skip
    match done.outcome:
        case Stored(receipt=receipt) if done.claim.predecessor_sha256 is not None:
            _log.info("new_version_stored", **where, stored_as=receipt.object_key,
                      hint="the earlier version is kept under its own key")  # fmt: skip
        case Stored(receipt=receipt) | AlreadyStored(receipt=receipt) if receipt.conflict:
            _log.warning("conflict", **where, stored_as=receipt.object_key,
                         hint="the bucket held other content under its key; both are kept")  # fmt: skip
        case Stored():
            _log.debug("file_stored", **where)
        case AlreadyStored(evidence=evidence):
            _log.debug("file_skipped", **where, evidence=evidence)
