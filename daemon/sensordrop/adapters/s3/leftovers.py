"""Uploads in parts that were begun under our keys and never ended: they cost money, unseen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from sensordrop.adapters.s3.capabilities import PROBE_KEY
from sensordrop.adapters.s3.client import (
    PROBE_TIMEOUT_SECONDS,
    S3Settings,
    make_client,
    make_session,
)
from sensordrop.adapters.s3.failures import classified, code_of, needed
from sensordrop.core.check import Check, notice, ok
from sensordrop.core.failure import FailureError
from sensordrop.core.terminal import printable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

OLD = timedelta(days=1)
"""Uploads that were begun longer ago are told as left behind; others may well be under way."""
NAMED = 10
"""So many are named; the rest is counted."""
LISTED = 1000
"""So many are asked for: one page, as all that S3 gives at once."""

NAME = "leftovers"


def look_for_leftovers(settings: S3Settings, prefix: str, *, now: datetime | None = None) -> Check:
    """List unfinished uploads under a prefix and of our probes. Never a failure; blocks some
    seconds at most.
    """
    try:
        client = make_client(
            make_session(settings), settings, timeout_seconds=PROBE_TIMEOUT_SECONDS
        )
        begun: list[tuple[datetime, str]] = []
        # The root holds the probes' key too.
        for under in (f"{prefix}/", PROBE_KEY) if prefix else ("",):
            begun += _list(client, settings.bucket_name, under)
    except FailureError as error:
        hint = "allow s3:ListBucketMultipartUploads on the bucket"
        return notice(NAME, f"can't be listed: {error.failure.message}", hint)
    if not begun:
        return ok(NAME, "no upload in parts is unfinished")
    begun.sort()
    names = ", ".join(
        f"{printable(key)} (since {when:%Y-%m-%d %H:%M} UTC)" for when, key in begun[:NAMED]
    )
    more = f" and {len(begun) - NAMED} more" if len(begun) > NAMED else ""
    old = sum(when < (now or datetime.now(UTC)) - OLD for when, _ in begun)
    if not old:
        return ok(NAME, f"{len(begun)} uploads in parts are under way: {names}{more}")
    return notice(
        NAME,
        f"{len(begun)} uploads in parts are unfinished, {old} for more than a day: {names}{more}",
        "what nobody will finish goes away by a lifecycle rule of the bucket that aborts "
        "incomplete multipart uploads",
    )


def _list(client: S3Client, bucket: str, under: str) -> list[tuple[datetime, str]]:
    tried = f"listing the unfinished uploads of bucket {bucket}"
    with classified(tried):
        try:
            answer = client.list_multipart_uploads(Bucket=bucket, Prefix=under, MaxUploads=LISTED)
        except ClientError as error:
            if code_of(error) == "NoSuchUpload":
                return []  # one server's word for an empty list
            raise
    return [
        (needed(upload, "Initiated", tried).astimezone(UTC), needed(upload, "Key", tried))
        for upload in answer.get("Uploads", [])
    ]
