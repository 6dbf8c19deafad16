"""Why an operation was not done, in one line that says what to do."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """What kind of refusal it is; each has its HTTP status in `STATUS`."""

    USAGE = "usage"
    """What was asked for is no sense, or names what is not there."""
    NOT_PERMITTED = "not-permitted"
    UNKNOWN = "unknown"
    """Nobody knows of what was asked about."""
    NO_LEDGER = "no-ledger"
    """The ledger can't be reached now."""
    BUSY = "busy"
    """Too much is asked at once."""
    BUG = "bug"
    """A mistake in sensordrop; its log says more."""


STATUS = {
    Reason.USAGE: 400,
    Reason.NOT_PERMITTED: 403,
    Reason.UNKNOWN: 404,
    Reason.BUG: 500,
    Reason.BUSY: 503,
    Reason.NO_LEDGER: 503,
}


class RefusedError(Exception):
    """An operation was not done. Its text is for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
