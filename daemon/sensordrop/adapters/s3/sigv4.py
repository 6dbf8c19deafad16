"""Signs S3 requests: AWS Signature Version 4 with the payload's hash in the header.

Rules from "Signature Calculations for the Authorization Header" in the Amazon S3 API Reference:
for S3 the path is percent-encoded once and never normalised. Tests hold every signature against
botocore's for random requests.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
UNRESERVED = "-_.~"
"""Characters beside letters and digits that stand as they are."""

_PLAIN_PATH = re.compile(rb"[A-Za-z0-9/_.~-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningKeys:
    """Credentials as they are at one moment."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


def encoded_path(bucket_and_key: bytes) -> str:
    """Percent-encode a path for the request line and for the signature alike."""
    if _PLAIN_PATH.fullmatch(bucket_and_key):
        return bucket_and_key.decode("ascii")
    return quote(bucket_and_key, safe="/" + UNRESERVED)


def encoded_query(parameters: Sequence[tuple[str, str]]) -> str:
    """Percent-encode and sort query parameters, as both the URL and the signature want them."""
    if not parameters:
        return ""
    pairs = sorted((quote(k, safe=UNRESERVED), quote(v, safe=UNRESERVED)) for k, v in parameters)
    return "&".join(f"{key}={value}" for key, value in pairs)


def signed_headers(
    *,
    method: str,
    host: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str],
    payload_sha256: str,
    keys: SigningKeys,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """Give all headers to send, the signature among them.

    `path` and `query` are encoded already; `payload_sha256` is hex; `now` is UTC. Every header
    is signed.
    """
    timestamp = _timestamp(now.replace(microsecond=0))
    sent = {name.lower(): value for name, value in headers.items()}
    sent["host"] = host
    sent["x-amz-content-sha256"] = payload_sha256
    sent["x-amz-date"] = timestamp
    if keys.session_token:
        sent["x-amz-security-token"] = keys.session_token
    names, listed = _in_order(tuple(sent))
    canonical = "\n".join(
        (
            method,
            path,
            query,
            *[f"{name}:{' '.join(sent[name].split())}" for name in names],
            "",
            listed,
            payload_sha256,
        )
    )
    scope = f"{timestamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode("utf-8")).hexdigest()
    to_sign = f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
    signer = _signer(keys.secret_access_key, timestamp[:8], region).copy()
    signer.update(to_sign.encode("ascii"))
    sent["authorization"] = (
        f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, "
        f"SignedHeaders={listed}, Signature={signer.hexdigest()}"
    )
    return sent


@lru_cache(maxsize=8)
def _timestamp(second: datetime) -> str:
    """Write an instant as signatures want it. Kept, because a second has many requests."""
    return second.strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=256)
def _in_order(names: tuple[str, ...]) -> tuple[list[str], str]:
    """Sort header names, and list them for the signature. Kept: requests are of few kinds."""
    ordered = sorted(names)
    return ordered, ";".join(ordered)


@lru_cache(maxsize=64)
def _signer(secret: str, day: str, region: str) -> hmac.HMAC:
    """Give what signs with the day's key, to be copied.

    Kept, because the key is the same for all requests of a day.
    """
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, digestmod=hashlib.sha256)
