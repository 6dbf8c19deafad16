"""Whether a bucket can be used: a few small requests with short time-outs, tried once."""

from __future__ import annotations

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sensordrop.adapters.s3.client import (
    PROBE_TIMEOUT_SECONDS,
    S3Settings,
    is_amazon,
    make_client,
    make_session,
    shown,
)
from sensordrop.adapters.s3.failures import classified, code_of, failure, printable, status_of
from sensordrop.core.failure import FailureError


def probe(settings: S3Settings) -> str:
    """Check credentials, bucket and the right to list, and say so in one line.

    Reads profiles and keys anew each time. Blocks some seconds at most. Raises FailureError.
    Listing is checked because without that right S3 answers 403 for every key that is free.
    """
    client = make_client(make_session(settings), settings, timeout_seconds=PROBE_TIMEOUT_SECONDS)
    bucket, endpoint = settings.bucket_name, client.meta.endpoint_url
    tried = f"checking bucket {bucket} at {shown(endpoint)}"
    with classified(tried):
        # Listing first: a refusal of HEAD carries no error code, one of a listing does.
        try:
            listing = client.list_objects_v2(Bucket=bucket, MaxKeys=1)
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if status_of(error) == 404:
                raise FailureError(failure("bucket-missing", tried)) from error
            raise
    if listing.get("Name") != bucket:  # a sign-in page says 200 to everything
        raise FailureError(failure("bad-answer", tried, "what it lists is not this bucket"))
    checked = f"bucket {bucket} at {shown(endpoint)} can be reached and listed"
    return f"{checked}; {identity(settings)}" if is_amazon(endpoint) else checked


def identity(settings: S3Settings) -> str:
    """Ask STS who we are. Not knowing is worth a notice, never a stop."""
    try:
        client = make_session(settings).client(
            "sts",
            config=Config(
                connect_timeout=PROBE_TIMEOUT_SECONDS,
                read_timeout=PROBE_TIMEOUT_SECONDS,
                retries={"total_max_attempts": 1, "mode": "standard"},
            ),
        )
        return f"identity {client.get_caller_identity()['Arn']}"
    except FailureError as error:
        return f"identity unknown: {error.failure.message}"
    except ClientError as error:
        return f"identity unknown: STS answered {status_of(error)} {printable(code_of(error))}"
    except BotoCoreError as error:
        return f"identity unknown: {printable(type(error).__name__)}"
