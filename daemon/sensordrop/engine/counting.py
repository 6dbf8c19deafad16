"""Counts what came of attempts. Called once for each file: it only raises plain numbers."""

from __future__ import annotations

from sensordrop.core.lifecycle import (
    Action,
    AlreadyStored,
    Failed,
    FolderOffline,
    Gone,
    Interrupted,
    Outcome,
    Quarantine,
    Retry,
    SameAsBefore,
    Stored,
    Unsettled,
)
from sensordrop.core.tally import StationTally
from sensordrop.engine.workers import Done

_CLASSES: dict[type[Outcome], str] = {
    Stored: "stored",
    AlreadyStored: "already-stored",
    SameAsBefore: "same-as-before",
    Unsettled: "unsettled",
    Gone: "gone",
    FolderOffline: "folder-offline",
    Interrupted: "interrupted",
}
"""What an attempt that did not fail is counted under; one that failed is under its error class."""


def count(done: Done, action: Action, station: StationTally) -> None:
    """Count an attempt. Belongs to the uploader's thread."""
    tally, outcome = done.delivery.tally, done.outcome
    if isinstance(outcome, Stored):
        size_bytes = done.claim.fingerprint.size_bytes
        tally.uploaded += 1
        tally.uploaded_bytes += size_bytes
        station.upload_seconds.add(done.seconds)
        station.upload_bytes.add(size_bytes)
    elif isinstance(outcome, AlreadyStored):
        tally.skipped += 1
    elif isinstance(action, Quarantine):
        tally.failed += 1
    elif isinstance(action, Retry):
        tally.retried += 1
    if isinstance(outcome, Failed):
        key = (outcome.failure.error_class, outcome.failure.scope.value)
    else:
        key = (_CLASSES[type(outcome)], "")
    tally.attempts[key] = tally.attempts.get(key, 0) + 1
