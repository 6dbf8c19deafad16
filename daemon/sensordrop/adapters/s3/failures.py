"""From what a library, a store or the operating system said to a `Failure`, once, at this edge.

A vendor's code ends here. What leaves says how far the trouble reaches and what the operator can
do. An error that no rule of the table names is not guessed at: it is raised as it is.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.parsers
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from sensordrop.adapters.s3.failure_table import RULES, Rule
from sensordrop.core.failure import Failure, FailureError, FailureScope

RETRY_AFTER_LIMIT_SECONDS = 3600.0
"""The longest wait that a store may ask for: beyond that we look again by ourselves."""
WORDS_LIMIT = 300
"""Characters of a store's own words that are passed on: a hostile answer must not flood a log."""
CHAIN_LIMIT = 12
"""Wrapped errors that are opened to find the operating system's own: libraries nest five deep."""

BY_CLASS: Mapping[str, Rule] = {rule.error_class: rule for rule in RULES}
_BY_CODE = {code: rule for rule in RULES for code in rule.codes}
_BY_STATUS = {status: rule for rule in RULES for status in rule.statuses}
_BY_ERRNO = {number: rule for rule in RULES for number in rule.errnos}
_BY_READING_ERRNO = {number: rule for rule in RULES for number in rule.reading_errnos}

STALE_CREDENTIALS_WORDS = "refreshed credentials are still expired"
"""The library has no exception of its own for a source that gives out credentials of yesterday."""

SKEW_SECONDS = 900.0
"""A store refuses what was signed so far from its own time (Amazon S3 API Reference, "RequestTimeTooSkewed")."""
_REFUSALS = frozenset({"access-denied", "credentials-refused"})
"""What a store may say instead: to a question without a body, as plain HTTP 403."""

NEW_CREDENTIALS_MAY_HELP = frozenset(
    {"no-credentials", "credentials-expired", "credentials-refused", "access-denied", "clock-skew"}
)
"""Failures after which profiles and keys are read anew: the operator may have mended them."""


def failure(
    error_class: str, tried: str, reason: str = "", *, retry_after_seconds: float | None = None
) -> Failure:
    """Make the failure of a class of the table. `tried` says what was tried, on what."""
    rule = BY_CLASS[error_class]
    return Failure(
        scope=rule.scope,
        error_class=rule.error_class,
        message=f"{tried}: {rule.meaning}" + (f" ({reason})" if reason else ""),
        hint=rule.hint,
        permanent=rule.permanent,
        odd=rule.odd,
        slow=rule.slow,
        retry_after_seconds=retry_after_seconds,
    )


@contextmanager
def classified(tried: str) -> Iterator[None]:
    """Turn every error that the S3 library raises and the table knows into a FailureError."""
    try:
        yield
    except (
        boto.ClientError,
        boto.BotoCoreError,
        ResponseParserError,
        OSError,
        RuntimeError,
    ) as error:
        known = store_failure(error, tried, now=datetime.now(UTC))
        if known is None:
            raise
        raise FailureError(known) from error
    except Exception as error:
        # What stands in an answer where a number or a date should be ends as whatever Python
        # says of it. Anything that was not raised while an answer was read is our own mistake.
        if not _while_reading_an_answer(error):
            raise
        reason = f"it can't be read: {printable(str(error))}"
        raise FailureError(failure("bad-answer", tried, reason)) from error


def _while_reading_an_answer(error: Exception) -> bool:
    """Tell whether the library's reading of answers raised an error, or what it called."""
    return any(
        frame.f_globals.get("__name__") == botocore.parsers.__name__
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def needed(answer: Mapping[str, object], name: str, tried: str) -> Any:
    """Give what an answer of the store must have. Raises FailureError (`bad-answer`).

    A sign-in page of the network says 200 to everything, and the library then finds in it an
    answer in which nothing is.
    """
    try:
        return answer[name]
    except KeyError:
        raise FailureError(failure("bad-answer", tried, f"it gave no {name}")) from None


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an operating system's error while a file is read into a FailureError."""
    try:
        yield
    except OSError as error:
        known = reading_failure(error, f"reading {what}")
        if known is None:
            raise
        raise FailureError(known) from error


def reading_failure(error: OSError, tried: str) -> Failure | None:
    """Classify what the operating system said while the file was read, or None if unknown."""
    rule = _BY_READING_ERRNO.get(error.errno or 0)
    return failure(rule.error_class, tried, _os_words(error)) if rule else None


def store_failure(error: Exception, tried: str, *, now: datetime) -> Failure | None:
    """Classify what the store or the way to it answered, or None if unknown.

    `now` turns a Retry-After that is a date into seconds.
    """
    if isinstance(error, boto.ClientError):
        return _answered(error, tried, now)
    return _unanswered(error, tried)


def code_of(error: boto.ClientError) -> str:
    """Give the store's error code, or its HTTP status in words where it gave no code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: boto.ClientError) -> int:
    """Give the HTTP status of an answer, 0 if there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def retry_after_seconds(header: str | None, *, now: datetime) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date (RFC 9110, 10.2.3). None if unreadable."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (when - now).total_seconds() if when.tzinfo else 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT_SECONDS)


def _clocks_differ(date: str, now: datetime) -> bool:
    """Tell whether the Date of an answer is so far from this machine's clock that a store refuses."""
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return False
    return when.tzinfo is not None and abs((when - now).total_seconds()) > SKEW_SECONDS


def _answered(error: boto.ClientError, tried: str, now: datetime) -> Failure:
    code, status = code_of(error), status_of(error)
    rule = _rule_of_answer(code, status)
    words = printable(str(error.response.get("Error", {}).get("Message", "")))
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if rule.error_class in _REFUSALS and _clocks_differ(headers.get("date", ""), now):
        rule = BY_CLASS["clock-skew"]
    said = f"{status} {printable(code)}" if code != str(status) else str(status)
    return failure(
        rule.error_class,
        tried,
        f"{said}: {words}" if words else said,
        retry_after_seconds=retry_after_seconds(headers.get("retry-after"), now=now),
    )


def _rule_of_answer(code: str, status: int) -> Rule:
    by_prefix = (rule for rule in RULES if code.startswith(rule.code_prefixes))
    rule = _BY_CODE.get(code) or next(by_prefix, None) or _BY_STATUS.get(status)
    if rule is None and 400 <= status < 500:
        return BY_CLASS["rejected"]
    if rule is None and 500 <= status < 600:
        return BY_CLASS["server-error"]
    return rule or BY_CLASS["bad-answer"]


def _unanswered(error: Exception, tried: str) -> Failure | None:
    # From the inside out: the operating system's word is more exact than the library's.
    chain = list(_unwrapped(error))
    proxied = any(isinstance(link, boto.ProxyConnectionError) for link in chain)
    connecting = any(isinstance(link, boto.ConnectTimeoutError) for link in chain)
    for link in reversed(chain):
        if connecting and isinstance(link, TimeoutError):
            continue  # the socket's word for both; the library knows that nobody answered at all
        rule = _rule_of_exception(link)
        if rule is not None:
            if proxied and rule.scope is FailureScope.DESTINATION:
                rule = BY_CLASS["proxy"]
            return failure(rule.error_class, tried, _words(link))
    return None


def _rule_of_exception(error: BaseException) -> Rule | None:
    if isinstance(error, RuntimeError) and STALE_CREDENTIALS_WORDS in str(error):
        return BY_CLASS["credentials-expired"]
    for rule in RULES:
        if rule.exceptions and isinstance(error, rule.exceptions):
            return rule
    # gaierror is an OSError with numbers of its own; it was met above.
    return _BY_ERRNO.get(error.errno or 0) if isinstance(error, OSError) else None


def _unwrapped(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it carries inside, outermost first."""
    inner: object = error
    for _ in range(CHAIN_LIMIT):
        if not isinstance(inner, BaseException):
            return
        yield inner
        carried = getattr(inner, "kwargs", {}).get("error")
        inner = (
            carried
            or inner.__cause__
            or getattr(inner, "reason", None)
            or next((a for a in inner.args if isinstance(a, BaseException)), None)
        )


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return _os_words(error)
    return printable(str(error))


def _os_words(error: OSError) -> str:
    return printable(error.strerror or type(error).__name__)


def printable(text: str) -> str:
    """Cut a stranger's words to a bearable length, on one line, without control characters."""
    cut = text if len(text) <= WORDS_LIMIT else text[:WORDS_LIMIT] + "…"
    return "".join(c if c.isprintable() else " " for c in cut).strip()
