"""What is looked at before a bucket's first byte: a few small requests, each tried once.

Every line says what was found; every failure says what to do. Nothing in here raises what is
wrong with the store or the way to it: that is in the checks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from sensordrop.adapters.s3.capabilities import PROBE_KEY
from sensordrop.adapters.s3.client import (
    FALLBACK_REGION,
    PROBE_TIMEOUT_SECONDS,
    S3Settings,
    is_amazon,
    make_client,
    make_session,
    shown,
)
from sensordrop.adapters.s3.failures import classified, code_of, failure, printable, status_of
from sensordrop.adapters.s3.proof import AMAZON, Capabilities, proof_of
from sensordrop.core.check import Check, failed_by, notice, ok
from sensordrop.core.failure import Failure, FailureError, FailureScope
from sensordrop.core.model import StoreCheck

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SKEW_NOTICE_SECONDS = 60.0
"""A clock that is off by more is told: S3 refuses signatures that are off by fifteen minutes."""

Ask = Callable[["S3Client"], Capabilities]
"""Asks a store what it does."""


class Preflight:
    """One preflight of one bucket. `run`, then `capabilities` is what was seen, if anything."""

    def __init__(self, settings: S3Settings, prefix: str, ask: Ask) -> None:
        self._settings = settings
        self._prefix = prefix
        self._ask = ask
        self.capabilities: Capabilities | None = None

    def run(self) -> list[Check]:
        """Check credentials, identity, bucket, listing, prefix, clock, and what the store does.

        Profiles and keys are read anew. Blocks some seconds for each check at most. Ends at the
        first failure: what comes after it would only fail likewise.
        """
        checks: list[Check] = []
        try:
            checks.extend(self._checks())
        except _FailedCheckError as end:
            checks.extend(end.checks)
        return checks

    def _checks(self) -> Iterator[Check]:
        settings = self._settings
        with _ending("credentials"):
            session = make_session(settings)
            client = make_client(session, settings, timeout_seconds=PROBE_TIMEOUT_SECONDS)
            found = _credentials(session, settings)
        yield ok("credentials", found)
        endpoint = client.meta.endpoint_url
        yield _identity_check(session, endpoint)
        listing, checks = self._list(client, endpoint)
        yield from checks
        yield from _clock_checks(listing)
        if is_amazon(endpoint):
            self.capabilities = AMAZON
        else:
            self.capabilities = self._ask(client)
        yield from capability_checks(settings, self.capabilities)

    def _list(self, client: S3Client, endpoint: str) -> tuple[Any, list[Check]]:
        """List one key under the prefix: the one request that tells why it is refused."""
        bucket, under = self._settings.bucket_name, self._under
        at = f"bucket {bucket} at {shown(endpoint)}"
        try:
            with classified(f"listing {at}, under {under or 'its root'}"):
                listing = client.list_objects_v2(Bucket=bucket, Prefix=under, MaxKeys=1)
        except FailureError as error:
            raise _FailedCheckError(_why_not_listed(client, bucket, at, error.failure)) from error
        if listing.get("Name") != bucket:  # a sign-in page says 200 to everything
            wrong = failure("bad-answer", f"checking {at}", "what it lists is not this bucket")
            raise _FailedCheckError([failed_by("bucket", wrong)])
        there = "objects are there already" if listing.get("KeyCount") else "nothing is there yet"
        checks = [
            ok("bucket", f"{at} can be reached"),
            ok("listing", f"{under or 'the whole bucket'} may be listed"),
            ok("prefix", f"keys begin with {under}; {there}" if under
               else f"keys begin at the root of the bucket; {there}"),
        ]  # fmt: skip
        return listing, checks

    @property
    def _under(self) -> str:
        return f"{self._prefix}/" if self._prefix else ""


class _FailedCheckError(Exception):
    """Ends a preflight with its last checks."""

    def __init__(self, checks: list[Check]) -> None:
        super().__init__(checks[-1].words)
        self.checks = checks


class _ending:  # noqa: N801 — reads as a statement
    """Turns a FailureError into the check that failed by it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: object, _traceback: object) -> None:
        if isinstance(error, FailureError):
            raise _FailedCheckError([failed_by(self._name, error.failure)]) from error


def _credentials(session: boto3.Session, settings: S3Settings) -> str:
    with classified(f"reading the credentials for bucket {settings.bucket_name}"):
        credentials = session.get_credentials()
        if credentials is None:
            raise boto.NoCredentialsError
        credentials.get_frozen_credentials()  # roles and sign-ins are fetched here
    profile = f"profile {settings.aws_profile}, " if settings.aws_profile else ""
    return f"{profile}found by {credentials.method or 'the program'}"


def _identity_check(session: boto3.Session, endpoint: str) -> Check:
    """Ask STS who we are. Not knowing is worth a notice, never a stop."""
    custom = None if is_amazon(endpoint) or "AWS_ENDPOINT_URL_STS" in os.environ else endpoint
    try:
        client = session.client(
            "sts",
            endpoint_url=custom,
            region_name=session.region_name or FALLBACK_REGION,
            config=Config(
                connect_timeout=PROBE_TIMEOUT_SECONDS,
                read_timeout=PROBE_TIMEOUT_SECONDS,
                retries={"total_max_attempts": 1, "mode": "standard"},
            ),
        )
        return ok("identity", printable(client.get_caller_identity()["Arn"]))
    except boto.ClientError as error:
        reason = f"STS answered {status_of(error)} {printable(code_of(error))}".rstrip()
    except (boto.BotoCoreError, ResponseParserError, KeyError) as error:
        reason = f"STS can't be asked: {printable(type(error).__name__)}"
    usual = " (most other stores have none)" if custom else ""
    return notice("identity", f"unknown: {reason}{usual}")


def _why_not_listed(client: S3Client, bucket: str, at: str, why: Failure) -> list[Check]:
    """Tell a bucket that can't be used from one that may only not be listed."""
    if why.scope is FailureScope.FILE:
        # Said of a listing, it is no file's trouble.
        why = replace(why, scope=FailureScope.PROJECT, permanent=False)
    if why.error_class == "access-denied":
        try:
            with classified(f"checking {at}"):
                client.head_bucket(Bucket=bucket)
        except FailureError:
            return [failed_by("bucket", why)]
        return [ok("bucket", f"{at} can be reached"), failed_by("listing", why)]
    return [failed_by("bucket", why)]


def _clock_checks(listing: Any) -> Iterator[Check]:
    told = listing["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        theirs = parsedate_to_datetime(told)
    except ValueError:
        return  # no date, or none that can be read: nothing to compare with
    if theirs.tzinfo is None:
        return
    skew = (datetime.now(UTC) - theirs).total_seconds()
    if abs(skew) <= SKEW_NOTICE_SECONDS:
        yield ok("clock", "this machine's agrees with the store's")
        return
    off = f"{abs(skew):,.0f} seconds {'ahead of' if skew > 0 else 'behind'} the store's"
    yield notice(
        "clock",
        f"this machine's is {off}",
        "set this machine's clock (`timedatectl`, NTP): stores refuse requests that are off by "
        "more than fifteen minutes",
    )


# --- what the store does ------------------------------------------------------------------


def capability_checks(settings: S3Settings, seen: Capabilities) -> list[Check]:
    """Say what was seen of the store, and what is done where it does less than Amazon's."""
    if seen.problem is not None:
        unseen = notice(
            "probes",
            f"what the store checks can't be seen: {seen.problem}",
            f"allow s3:PutObject and s3:DeleteObject on {PROBE_KEY}; until then every key is "
            "looked at before it is written, and Content-MD5 is sent",
        )
        return [unseen]
    return [_overwriting(seen), _store_check(settings, seen)]


def _overwriting(seen: Capabilities) -> Check:
    if seen.conditional_put and seen.conditional_complete:
        return ok("overwriting", "the store itself refuses to write over an object")
    looked = "every key is looked at before it is written"
    if seen.conditional_put:
        return notice(
            "overwriting",
            "the store refuses to write over an object in one put, but not at the end of an "
            f"upload in parts; there {looked}",
        )
    return notice(
        "overwriting",
        f"the store was not seen to refuse to write over an object; {looked}",
        "let nobody else write under this prefix at the same time",
    )


def _store_check(settings: S3Settings, seen: Capabilities) -> Check:
    proof = proof_of(settings.store_check, seen)
    back = ", and every object is read back" if proof.reads_back else ""
    if settings.store_check == "payload-hash" and seen.checks_payload_hash is False:
        return notice(
            "store check",
            "the store took a body that contradicts its signed SHA-256; only its ETag is compared",
            "set store_check to auto or to read-back",
        )
    if proof.checked is None:
        return notice(
            "store check",
            f"the store was not seen to check any digest; its ETag is compared{back}",
            "" if proof.reads_back else "set store_check to read-back for a proof of every object",
        )
    digest = "SHA-256" if proof.checked is StoreCheck.PAYLOAD_HASH else "MD5"
    known = "refuses" if seen.store_check else "is taken at your word to refuse"
    return ok("store check", f"the store {known} bytes that contradict their {digest}{back}")
