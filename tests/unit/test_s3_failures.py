"""The table of failures: what is seen, what it is called, and that the docs say the same."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3.exceptions
from botocore import exceptions as boto

from sensordrop.adapters.s3.failure_table import RULES, Rule
from sensordrop.adapters.s3.failures import (
    RETRY_AFTER_LIMIT_SECONDS,
    WORDS_LIMIT,
    classified,
    failure,
    reading_failure,
    retry_after_seconds,
    store_failure,
)
from sensordrop.core.failure import FailureError, FailureScope

DOCS = Path(__file__).parents[2] / "docs" / "failures.md"
NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def answered(code: str, status: int, message: str = "", **headers: str) -> boto.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return boto.ClientError(response, "PutObject")


def classify(error: Exception) -> tuple[str, FailureScope, bool] | None:
    found = store_failure(error, "storing bucket/key", now=NOW)
    return None if found is None else (found.error_class, found.scope, found.permanent)


@pytest.mark.parametrize(
    ("code", "date", "expected"),
    [
        ("403", "Fri, 01 May 2026 11:44:59 GMT", "clock-skew"),
        ("AccessDenied", "Fri, 01 May 2026 12:15:01 GMT", "clock-skew"),
        ("SignatureDoesNotMatch", "Sat, 01 Jan 2000 00:00:00 GMT", "clock-skew"),
        ("403", "Fri, 01 May 2026 11:45:00 GMT", "access-denied"),
        ("AccessDenied", "Fri, 01 May 2026 12:15:00 GMT", "access-denied"),
        ("AccessDenied", "yesterday", "access-denied"),
        ("AccessDenied", "Sat, 01 Jan 2000 00:00:00 -0000", "access-denied"),
        ("ExpiredToken", "Sat, 01 Jan 2000 00:00:00 GMT", "credentials-expired"),
        ("NoSuchBucket", "Sat, 01 Jan 2000 00:00:00 GMT", "bucket-missing"),
    ],
)
def test_a_refusal_from_another_time_is_the_clocks(code, date, expected):
    found = store_failure(answered(code, 403, date=date), "storing bucket/key", now=NOW)
    assert found is not None
    assert found.error_class == expected


FILE, PROJECT = FailureScope.FILE, FailureScope.PROJECT
DESTINATION, STATION = FailureScope.DESTINATION, FailureScope.STATION


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ExpiredToken", 400, ("credentials-expired", PROJECT, False)),
        ("InvalidAccessKeyId", 403, ("credentials-refused", PROJECT, False)),
        ("SignatureDoesNotMatch", 403, ("credentials-refused", PROJECT, False)),
        ("RequestTimeTooSkewed", 403, ("clock-skew", PROJECT, False)),
        ("AccessDenied", 403, ("access-denied", PROJECT, False)),
        ("AllAccessDisabled", 403, ("access-denied", PROJECT, False)),
        ("403", 403, ("access-denied", PROJECT, False)),
        ("NoSuchBucket", 404, ("bucket-missing", PROJECT, False)),
        ("PermanentRedirect", 301, ("wrong-region", PROJECT, False)),
        ("AuthorizationHeaderMalformed", 400, ("wrong-region", PROJECT, False)),
        ("KMS.DisabledException", 400, ("encryption-key", PROJECT, False)),
        ("KMS.NotFoundException", 400, ("encryption-key", PROJECT, False)),
        ("InvalidStorageClass", 400, ("configuration", PROJECT, False)),
        ("NotImplemented", 501, ("configuration", PROJECT, False)),
        ("QuotaExceeded", 403, ("quota-exceeded", PROJECT, False)),
        ("SlowDown", 503, ("slow-down", DESTINATION, False)),
        ("429", 429, ("slow-down", DESTINATION, False)),
        ("InternalError", 500, ("server-error", DESTINATION, False)),
        ("InternalError", 200, ("server-error", DESTINATION, False)),
        ("502", 502, ("server-error", DESTINATION, False)),
        ("ServiceUnavailable", 503, ("server-error", DESTINATION, False)),
        ("504", 504, ("server-error", DESTINATION, False)),
        ("520", 520, ("server-error", DESTINATION, False)),
        ("507", 507, ("store-full", DESTINATION, False)),
        ("RequestTimeout", 400, ("timeout", DESTINATION, False)),
        ("407", 407, ("proxy", DESTINATION, False)),
        ("KeyTooLongError", 400, ("key-too-long", FILE, True)),
        ("EntityTooLarge", 400, ("too-large", FILE, True)),
        ("413", 413, ("too-large", FILE, True)),
        ("XMinioInvalidObjectName", 400, ("key-refused", FILE, True)),
        ("BadDigest", 400, ("checksum-mismatch", FILE, False)),
        ("XAmzContentSHA256Mismatch", 400, ("checksum-mismatch", FILE, False)),
        ("InvalidRequest", 400, ("rejected", FILE, False)),
        ("MalformedXML", 400, ("rejected", FILE, False)),
        ("404", 404, ("rejected", FILE, False)),
        ("NoSuchUpload", 404, ("parts-lost", FILE, False)),
        ("OperationAborted", 409, ("busy", FILE, False)),
        ("SomethingNew", 418, ("rejected", FILE, False)),
    ],
)
def test_answers(code: str, status: int, expected: tuple[str, FailureScope, bool]) -> None:
    assert classify(answered(code, status)) == expected


def refused(number: int) -> Exception:
    """Give what botocore raises when a connection can't be made, as it nests in life."""
    inner = urllib3.exceptions.NewConnectionError(None, "no connection")  # type: ignore[arg-type]
    inner.__cause__ = OSError(number, os.strerror(number))
    return boto.EndpointConnectionError(endpoint_url="http://store", error=inner)


def cut(number: int) -> Exception:
    inner = urllib3.exceptions.ProtocolError("aborted", OSError(number, os.strerror(number)))
    return boto.ConnectionClosedError(endpoint_url="http://store", error=inner, request=None)


@pytest.mark.parametrize(
    ("error", "error_class", "scope"),
    [
        (boto.NoCredentialsError(), "no-credentials", PROJECT),
        (boto.ProfileNotFound(profile="field"), "no-credentials", PROJECT),
        (
            boto.PartialCredentialsError(provider="env", cred_var="secret"),
            "no-credentials",
            PROJECT,
        ),
        (
            boto.TokenRetrievalError(provider="sso", error_msg="expired"),
            "credentials-expired",
            PROJECT,
        ),
        (boto.UnauthorizedSSOTokenError(), "credentials-expired", PROJECT),
        (boto.SSOTokenLoadError(error_msg="gone"), "credentials-expired", PROJECT),
        (boto.ParamValidationError(report="Invalid bucket name"), "configuration", PROJECT),
        (refused(errno.ECONNREFUSED), "connect", DESTINATION),
        (refused(errno.ENETUNREACH), "connect", DESTINATION),
        (refused(errno.EMFILE), "descriptors", STATION),
        (refused(errno.ENOMEM), "memory", STATION),
        (boto.EndpointConnectionError(endpoint_url="http://store"), "connect", DESTINATION),
        (
            boto.EndpointConnectionError(
                endpoint_url="http://store", error=socket.gaierror(-2, "Name unknown")
            ),
            "dns",
            DESTINATION,
        ),
        (boto.ConnectTimeoutError(endpoint_url="http://store"), "connect-timeout", DESTINATION),
        (boto.ReadTimeoutError(endpoint_url="http://store"), "timeout", DESTINATION),
        (boto.SSLError(endpoint_url="https://store", error="expired"), "tls", DESTINATION),
        (boto.ProxyConnectionError(proxy_url="http://proxy"), "proxy", DESTINATION),
        (cut(errno.ECONNRESET), "connection-lost", DESTINATION),
        (cut(errno.EPIPE), "connection-lost", DESTINATION),
        (
            boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
            "connection-lost",
            DESTINATION,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_no_answer(error: Exception, error_class: str, scope: FailureScope) -> None:
    assert classify(error) == (error_class, scope, False)


@pytest.mark.parametrize(
    ("number", "error_class", "scope"),
    [
        (errno.ENOENT, "vanished", FILE),
        (errno.EACCES, "unreadable", FILE),
        (errno.EIO, "read-error", FILE),
        (errno.ESTALE, "read-error", FILE),
        (errno.EMFILE, "descriptors", STATION),
        (errno.ENFILE, "descriptors", STATION),
        (errno.ENOSPC, "disk-full", STATION),
        (errno.ENOMEM, "memory", STATION),
    ],
)
def test_reading_the_file(number: int, error_class: str, scope: FailureScope) -> None:
    found = reading_failure(OSError(number, os.strerror(number)), "reading a.wav")
    assert found is not None
    assert (found.error_class, found.scope, found.permanent) == (error_class, scope, False)
    assert found.message.startswith("reading a.wav: ")
    assert os.strerror(number) in found.message


def test_what_the_table_does_not_know_is_raised_as_it_is() -> None:
    unknown = boto.PaginationError(message="not ours")
    assert classify(unknown) is None
    with pytest.raises(boto.PaginationError), classified("storing"):
        raise unknown
    with pytest.raises(ZeroDivisionError), classified("storing"):
        raise ZeroDivisionError
    assert reading_failure(OSError(errno.ELIBBAD, "?"), "reading") is None


def test_a_message_says_what_was_tried_on_what_and_why() -> None:
    with pytest.raises(FailureError) as raised, classified("storing bucket/C1/a.wav"):
        raise answered("AccessDenied", 403, "no identity-based policy allows this")
    message = raised.value.failure.message
    assert message.startswith("storing bucket/C1/a.wav: ")
    assert "403 AccessDenied: no identity-based policy allows this" in message
    assert "s3:ListBucket" in raised.value.failure.hint


def test_a_strangers_words_are_cut_and_kept_on_one_line() -> None:
    found = store_failure(
        answered("Odd\x1b[31m", 400, "x\r\nlevel=error forged\x1b[2J" + "y" * 10_000),
        "storing",
        now=NOW,
    )
    assert found is not None
    assert found.message.isprintable()
    assert len(found.message) < WORDS_LIMIT + 200


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("17", 17.0),
        (" 0 ", 0.0),
        ("99999999999999999999", RETRY_AFTER_LIMIT_SECONDS),
        ("Fri, 01 May 2026 12:00:30 GMT", 30.0),
        ("Fri, 01 May 2026 11:00:00 GMT", 0.0),
        ("Fri, 01 May 2099 11:00:00 GMT", RETRY_AFTER_LIMIT_SECONDS),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=NOW) == seconds


def test_every_class_has_a_meaning_a_hint_and_something_that_leads_to_it() -> None:
    for rule in RULES:
        assert rule.meaning, rule.error_class
        assert rule.hint, rule.error_class
        assert _seen(rule), rule.error_class
        assert not (rule.permanent and rule.scope is not FILE), "only files are quarantined"
        assert failure(rule.error_class, "trying").scope is rule.scope


@pytest.mark.parametrize(
    "of", ["codes", "statuses", "exceptions", "errnos", "reading_errnos", "code_prefixes"]
)
def test_nothing_is_named_by_two_classes(of: str) -> None:
    names = Counter(name for rule in RULES for name in getattr(rule, of))
    assert [name for name, times in names.items() if times > 1] == []
    assert len({rule.error_class for rule in RULES}) == len(RULES)


# --- the docs -----------------------------------------------------------------------------


def _seen(rule: Rule) -> list[str]:
    numbers = [*rule.errnos, *(n for n in rule.reading_errnos if n not in rule.errnos)]
    return [
        *(f"`{code}`" for code in rule.codes),
        *(f"`{prefix}*`" for prefix in rule.code_prefixes),
        *(f"HTTP {status}" for status in rule.statuses),
        *(f"`{error.__module__.split('.')[0]}.{error.__name__}`" for error in rule.exceptions),
        *(f"`{errno.errorcode[number]}`" for number in numbers),
        *([rule.ours] if rule.ours else []),
    ]


def table() -> list[str]:
    """Write the code's table as docs/failures.md shows it."""
    lines = [
        "| error_class | scope | permanent | what happened | what was seen | what you can do |",
        "|---|---|---|---|---|---|",
    ]
    for rule in RULES:
        cells = [
            f"`{rule.error_class}`",
            rule.scope.value,
            "yes" if rule.permanent else "no",
            rule.meaning,
            ", ".join(_seen(rule)),
            rule.hint,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def test_the_docs_show_the_same_table() -> None:
    before, _, _ = DOCS.read_text().partition("## What sensordrop finds by itself")
    assert [line for line in before.splitlines() if line.startswith("|")] == table()


def test_the_docs_name_the_failures_that_may_be_one_request_s() -> None:
    _, _, after = DOCS.read_text(encoding="utf-8").partition(
        "back (Retry-After, which is kept to): "
    )
    told = re.findall(r"`([a-z-]+)`", after.partition(". Until")[0])
    assert sorted(told) == sorted(rule.error_class for rule in RULES if rule.odd)
