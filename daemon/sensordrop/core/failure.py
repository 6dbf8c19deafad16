"""Failures: what went wrong, how far it reaches, and what a person can do about it.

A failure is classified once, by the adapter in which it happened. Everything inside decides by
`scope` and `permanent`, never by a vendor's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RETRY_AFTER_LIMIT_SECONDS = 3600.0
"""Longest wait that a store can ask for; longer ones are cut to it. A broken or hostile answer
must not put a file off until next year, and a date must stay one that can be computed."""


class FailureScope(StrEnum):
    """Who else is hit by the same trouble. Only `file` uses up a file's attempts."""

    FILE = "file"
    PROJECT = "project"
    """Credentials, permissions, the bucket: every file of this project."""
    DESTINATION = "destination"
    """The endpoint or the network on the way to it."""
    STATION = "station"
    """This machine: its disk, its memory, its ledger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One classified failure.

    `error_class` is a stable kebab-case name from docs (`key-too-long`, `connect`, …);
    `message` says what was tried, on what, and why it failed; `hint` what the operator can do.
    A permanent failure of file scope quarantines the file at once.
    """

    scope: FailureScope
    error_class: str
    message: str
    hint: str = ""
    permanent: bool = False
    retry_after_seconds: float | None = None
    """What the store asked for, as it was read; `wait_asked_for` is what is given."""
    odd: bool = False
    """It may be the trouble of this one request: others of the same scope may get through."""
    slow: bool = False
    """The store asks for fewer requests."""

    @property
    def wait_asked_for(self) -> float:
        """Give the seconds to wait at least: 0 to `RETRY_AFTER_LIMIT_SECONDS`, whatever was read."""
        asked = self.retry_after_seconds
        if asked is None or not asked > 0:  # NaN is not above 0 either
            return 0.0
        return min(asked, RETRY_AFTER_LIMIT_SECONDS)


def own_failure(failure: Failure) -> Failure:
    """Make a scope's failure that of the one file: others of the scope get through, it does not."""
    return Failure(
        scope=FailureScope.FILE,
        error_class="rejected",
        message=f"{failure.message} — others get through, so it is this file's own",
        hint="compare its name and its bytes with those that were stored, and ask whoever runs the "
        f"store why it refuses this one ({failure.error_class}: {failure.hint})",
    )


class FailureError(Exception):
    """Carries a `Failure` from the edge where it was classified to where it is decided on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class InterruptedAttemptError(Exception):
    """The daemon is stopping: the attempt ended early, nothing is wrong with the file."""


class LedgerUnavailableError(Exception):
    """The ledger can't be reached right now. Nothing was lost: try the same again later."""


class LedgerRefusedError(Exception):
    """The ledger must not be used as it is (newer than this program, changed migration)."""
