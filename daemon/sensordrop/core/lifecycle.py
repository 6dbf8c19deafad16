"""What follows from the outcome of an attempt: `plan(claim, outcome, …) -> Action`.

The whole retry policy is in this module, and nowhere else. Outcomes are what happened; actions
are what the ledger is told to write down, each fenced by the claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sensordrop.core.failure import RETRY_AFTER_LIMIT_SECONDS, Failure, FailureScope
from sensordrop.core.model import Claim, Fingerprint, Receipt

GONE_WAIT_SECONDS = 60.0
"""A file that was not there when its turn came is tried again after this, unless the sweep that it
asks for has found out by then what became of it."""

ODD_WAIT_SECONDS = 2.0
"""How long a file rests whose request met an odd failure: the others go on meanwhile, and show
whether it was the store's."""

# --- outcomes -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """The bytes were sent and the store confirmed them."""

    receipt: Receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class AlreadyStored:
    """The same content was there under the same key; nothing was sent."""

    receipt: Receipt
    evidence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SameAsBefore:
    """Only the timestamps changed: the bytes are those of the version already stored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsettled:
    """Somebody is still writing the file, or wrote it during the attempt."""

    fingerprint: Fingerprint
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """The file is no longer there, though its delivery's folder is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderOffline:
    """The delivery's folder itself is missing or was replaced: says nothing about the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The attempt failed."""

    failure: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted:
    """The daemon is stopping; the attempt was broken off or never begun."""


Outcome = (
    Stored | AlreadyStored | SameAsBefore | Unsettled | Gone | FolderOffline | Failed | Interrupted
)

# --- actions ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordUploaded:
    """pending → uploaded."""

    receipt: Receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSkipped:
    """pending → skipped: the same content is already stored under the same key."""

    receipt: Receipt
    evidence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RestorePredecessor:
    """Take this version off the books; the one before is current again, with the new times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Stays pending with the fingerprint last seen; claimed again after `until`. No charge."""

    fingerprint: Fingerprint
    until: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Stays pending; one attempt is used up; claimed again after `until`."""

    failure: Failure
    until: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Quarantine:
    """pending → failed: needs a human."""

    failure: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveBack:
    """Stays pending as it was, claimed again after `until`. Never charged to the file.

    `until` None: at once and in its old place in the queue.
    """

    until: datetime | None
    failure: Failure | None = None


Action = RecordUploaded | RecordSkipped | RestorePredecessor | Wait | Retry | Quarantine | GiveBack


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """A delivery's retry settings. `times_to_retry` = 3 means the first try and three more."""

    times_to_retry: int = 3
    retry_delay_seconds: float = 5.0
    retry_cap_seconds: float = 3600.0
    quiet_seconds: float = 10.0
    pause_after_failures: int = 5
    """So many files that fail with nothing stored between want a human; 0: never."""


def backoff_seconds(failures: int, *, base: float, cap: float, dice: float) -> float:
    """Give the wait after the n-th failure in a row (n from 1): exponential, capped, jittered.

    Full jitter: a uniform share `dice` in [0, 1) of the exponential step, so that files which
    failed together don't come back together (AWS Architecture Blog, "Exponential Backoff And
    Jitter").
    """
    exponent = min(failures - 1, 60)  # beyond that every step is above any cap; avoids overflow
    step: float = min(cap, base * 2**exponent)
    return step * dice


def longest_wait_seconds(policy: RetryPolicy) -> float:
    """Give the longest wait that `plan` decides on.

    A file that is due later than that was put off by a clock that has been set back since.
    """
    return max(
        policy.retry_cap_seconds,
        policy.quiet_seconds,
        RETRY_AFTER_LIMIT_SECONDS,
        GONE_WAIT_SECONDS,
    )


def wants_a_human(failed_files: int, policy: RetryPolicy) -> bool:
    """Tell whether a delivery is to be paused: so many files failed, and none was stored between.

    Counted by file, not by attempt: one bad file alone never stops the others.
    """
    return 0 < policy.pause_after_failures <= failed_files


def plan(
    claim: Claim, outcome: Outcome, *, now: datetime, policy: RetryPolicy, dice: float
) -> Action:
    """Decide what to write down after an attempt. Pure: `dice` in [0, 1) is the randomness."""
    match outcome:
        case Stored(receipt=receipt):
            return RecordUploaded(receipt=receipt)
        case AlreadyStored(receipt=receipt, evidence=evidence):
            return RecordSkipped(receipt=receipt, evidence=evidence)
        case SameAsBefore():
            return RestorePredecessor()
        case Unsettled(fingerprint=fingerprint):
            return Wait(fingerprint=fingerprint, until=_after(now, policy.quiet_seconds))
        case Gone():
            # One missing file may be the first of all of them: a sweep judges them together.
            return GiveBack(until=_after(now, GONE_WAIT_SECONDS))
        case FolderOffline():
            return GiveBack(until=_after(now, policy.quiet_seconds))
        case Interrupted():
            return GiveBack(until=None)
        case Failed(failure=failure) if failure.scope is not FailureScope.FILE:
            # Due at once, but behind the files that were never tried: if it is this file that
            # upsets the store, the breaker's next probe takes another one.
            wait = ODD_WAIT_SECONDS * (0.5 + dice / 2) if failure.odd else 0.0
            return GiveBack(until=_after(now, wait), failure=failure)
        case Failed(failure=failure):
            return _after_failure(claim, failure, now=now, policy=policy, dice=dice)


def _after_failure(
    claim: Claim, failure: Failure, *, now: datetime, policy: RetryPolicy, dice: float
) -> Action:
    attempts = claim.attempts + 1
    if failure.permanent or attempts > policy.times_to_retry:
        return Quarantine(failure=failure)
    wait = backoff_seconds(
        attempts,
        base=policy.retry_delay_seconds,
        cap=policy.retry_cap_seconds,
        dice=dice,
    )
    return Retry(failure=failure, until=_after(now, max(wait, failure.wait_asked_for)))


def _after(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
