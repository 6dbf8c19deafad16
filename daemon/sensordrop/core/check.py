"""Checks: what was looked at before anything is sent, what was found, and what helps.

The daemon's log and `sensordrop doctor` show the same values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sensordrop.core.failure import Failure


class CheckOutcome(StrEnum):
    """What came of a check."""

    OK = "ok"
    NOTICE = "notice"
    """Worth knowing; nothing is kept from working by it."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at.

    `name` is a stable word or two; `words` say what was found, on what; `hint` what the operator
    can do. `failure` says how far the trouble reaches, where a destination's check failed.
    """

    name: str
    outcome: CheckOutcome
    words: str
    hint: str = ""
    failure: Failure | None = None


def ok(name: str, words: str) -> Check:
    """Make a check that found all well."""
    return Check(name=name, outcome=CheckOutcome.OK, words=words)


def notice(name: str, words: str, hint: str = "") -> Check:
    """Make a check that found something worth knowing."""
    return Check(name=name, outcome=CheckOutcome.NOTICE, words=words, hint=hint)


def failed(name: str, words: str, hint: str) -> Check:
    """Make a check that found trouble. A trouble without a hint helps nobody."""
    return Check(name=name, outcome=CheckOutcome.FAILED, words=words, hint=hint)


def failed_by(name: str, failure: Failure) -> Check:
    """Make a check of a failure that was classified already."""
    return Check(
        name=name,
        outcome=CheckOutcome.FAILED,
        words=failure.message,
        hint=failure.hint,
        failure=failure,
    )


def first_failure(checks: Iterable[Check]) -> Failure | None:
    """Give the failure of the first check that failed, or None if none did."""
    return next((check.failure for check in checks if check.failure is not None), None)
