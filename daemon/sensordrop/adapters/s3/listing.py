"""What a bucket holds below a prefix, a page at a time."""

from __future__ import annotations

from typing import Any

from sensordrop.adapters.s3.bucket import Bucket
from sensordrop.adapters.s3.digests import bare_etag
from sensordrop.adapters.s3.failures import failure, needed
from sensordrop.core.failure import FailureError
from sensordrop.core.keys import RESERVED_PREFIX
from sensordrop.ports.storing import ListedObject, ListedPage

PAGE_OBJECTS = 1_000
"""The most that S3 gives in one answer (Amazon S3 API, ListObjectsV2)."""


def list_page(bucket: Bucket, bucket_name: str, prefix: str, token: str | None) -> ListedPage:
    """List one page below a prefix. Raises FailureError; see `ports.Destination.list_page`.

    boto3 asks for keys with URL encoding and takes it off again, so that a key may hold what XML
    can't (control characters). Folder markers, keys that end in a slash, are no files.
    """
    below = f"{prefix}/" if prefix else ""
    asked: dict[str, Any] = {"Bucket": bucket_name, "Prefix": below, "MaxKeys": PAGE_OBJECTS}
    if token is not None:
        asked["ContinuationToken"] = token
    with bucket.asking("listing", below) as client:
        answer: Any = client.list_objects_v2(**asked)
    following = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
    if answer.get("Name") != bucket_name:  # a sign-in page says 200 to everything
        _refuse(bucket, below, "what it lists is not this bucket")
    if answer.get("IsTruncated") and not following:
        _refuse(bucket, below, "it says that there is more, but not where")
    if following is not None and following == token:
        _refuse(bucket, below, "it gives the same page again and again")
    tried = bucket.tried("listing", below)
    every = (
        ListedObject(
            key=needed(entry, "Key", tried),
            size_bytes=needed(entry, "Size", tried),
            etag=bare_etag(entry.get("ETag", "")),
        )
        for entry in answer.get("Contents", ())
    )
    objects = tuple(
        each
        for each in every
        if not each.key.startswith(RESERVED_PREFIX) and not each.key.endswith("/")
    )
    return ListedPage(objects=objects, next_token=following)


def _refuse(bucket: Bucket, below: str, reason: str) -> None:
    raise FailureError(failure("bad-answer", bucket.tried("listing", below), reason))
