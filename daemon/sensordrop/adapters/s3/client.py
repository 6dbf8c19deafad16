"""How boto3 is set up: profile, region, endpoint, time-outs, and which endpoints are Amazon's."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from sensordrop.adapters.s3.answers import EndingAnswers
from sensordrop.adapters.s3.descriptions import descriptions
from sensordrop.adapters.s3.failures import classified, failure
from sensordrop.adapters.s3.proof import ChosenCheck
from sensordrop.adapters.s3.requests import RequestTally
from sensordrop.core.failure import FailureError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MIB = 1024 * 1024

PROBE_TIMEOUT_SECONDS = 5.0
"""A probe asks a few bytes: what takes longer than this is not well."""

AMAZON_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
FALLBACK_REGION = "us-east-1"
"""What is signed for where nobody names a region: stores other than Amazon's don't look at it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Settings:
    """What is needed to talk to one bucket. Sizes are bytes, times seconds.

    `access_key_id` and `secret_access_key` are for the embedded local server; everybody else
    uses profiles, roles and what else boto3 finds by itself. `request_checksum_calculation` None
    means: `when_supported` on Amazon's endpoints, `when_required` on all others.
    """

    bucket_name: str
    aws_region: str | None = None
    aws_profile: str | None = None
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    acl: str | None = None
    storage_class: str | None = None
    sse: str | None = None
    kms_key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    addressing_style: Literal["auto", "path", "virtual"] | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    request_checksum_calculation: Literal["when_supported", "when_required"] | None = None
    multipart_threshold_bytes: int = 64 * MIB
    minimum_part_bytes: int = 16 * MIB
    max_connections: int = 15
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0
    """A request on which no byte moves for so long has stalled, and is ended."""
    engine: Literal["curl", "boto3"] = "curl"
    """What sends small files: libcurl, many at once in one thread, or boto3, one per thread."""
    store_check: ChosenCheck = "auto"
    ladder_download: bool = True
    """Whether an object of unknown content is downloaded and hashed; else it counts as other."""
    requests: RequestTally | None = field(default=None, repr=False, compare=False)
    """Where the requests that boto3 makes are counted."""


def is_amazon(endpoint_url: str) -> bool:
    """Tell whether an endpoint is Amazon's own, which checks every digest that it is sent."""
    return (urlsplit(endpoint_url).hostname or "").endswith(AMAZON_DOMAINS)


def shown(endpoint_url: str) -> str:
    """Give an endpoint as it may be shown: without a user and a password in it."""
    parts = urlsplit(endpoint_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def make_session(settings: S3Settings) -> boto3.Session:
    """Read profiles and keys anew. Raises FailureError (`no-credentials`, `configuration`)."""
    tried = f"reading the credentials for bucket {settings.bucket_name}"
    with classified(tried):
        try:
            session = boto3.Session(
                aws_access_key_id=settings.access_key_id,
                aws_secret_access_key=settings.secret_access_key,
                profile_name=settings.aws_profile,
                region_name=settings.aws_region,
            )
            core = session._session  # noqa: SLF001 — boto3 hands no loader on by itself
            core.register_component(
                "data_loader", descriptions(core.get_config_variable("data_path"))
            )
        except PermissionError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise FailureError(failure("no-credentials", tried, reason)) from error
        return session


def make_client(
    session: boto3.Session, settings: S3Settings, *, timeout_seconds: float | None = None
) -> S3Client:
    """Make an S3 client that tries once: retrying is the engine's.

    `timeout_seconds` stands in for both time-outs. May block on a credentials service. Raises
    FailureError like `make_session`.
    """
    tried = f"setting up the client for bucket {settings.bucket_name}"
    with classified(tried):
        try:
            client = _client(session, settings, settings.endpoint_url, timeout_seconds)
            found = client.meta.endpoint_url
            if settings.endpoint_url is None and not is_amazon(found):
                # The environment or the profile names an endpoint: the rules for those hold.
                client = _client(session, settings, found, timeout_seconds)
        except ValueError as error:  # botocore's word for an address that is none
            raise FailureError(failure("configuration", tried, "endpoint_url")) from error
        if settings.requests is not None:
            settings.requests.listen_to(client)
        return client


def _client(
    session: boto3.Session,
    settings: S3Settings,
    endpoint_url: str | None,
    timeout_seconds: float | None,
) -> S3Client:
    region = settings.aws_region or session.region_name
    made = session.client(
        "s3",
        region_name=region or (FALLBACK_REGION if endpoint_url else None),
        endpoint_url=endpoint_url,
        verify=settings.ca_bundle,
        config=Config(
            connect_timeout=timeout_seconds or settings.connect_timeout_seconds,
            read_timeout=timeout_seconds or settings.read_timeout_seconds,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=settings.max_connections,
            tcp_keepalive=True,
            signature_version="s3v4",
            proxies=_proxies(settings.proxy, endpoint_url),
            # We send our own digests as plain headers. What botocore would add by itself, a
            # checksum behind the body, fails on several stores over HTTPS.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "payload_signing_enabled": True,
                "addressing_style": _addressing_style(settings, endpoint_url),
            },
        ),
    )
    # The library has no limit of its own, and no other place where one could be set.
    endpoint: Any = made._endpoint  # type: ignore[attr-defined]  # noqa: SLF001
    stall_seconds = timeout_seconds or settings.read_timeout_seconds
    _make_patient(endpoint.http_session, stall_seconds)
    endpoint.http_session = EndingAnswers(endpoint.http_session, stall_seconds)
    made.meta.events.register_last("before-parameter-build.s3", _not_redirected)
    return made


def _not_redirected(model: Any, context: dict[str, Any], **_: object) -> None:
    """Keep the library from following a redirect of the very request that asks where to.

    After a redirect it looks at the bucket to learn its region; where that is redirected too and
    no answer names a region, it would ask again and again, until the interpreter's stack is full.
    """
    if model.name == "HeadBucket":
        context.setdefault("s3_redirect", {})["redirected"] = True


def _make_patient(session: Any, seconds: float) -> None:
    """Give every connection the time-out of reading from when it is made.

    The library sends the whole body under the time-out of connecting, which is a short one, or a
    long one where stalls are to be noticed soon. It has no setting for that.
    """
    pools = session._pool_classes_by_scheme  # noqa: SLF001 — there is no public way to its sockets
    for scheme, pool in list(pools.items()):
        made_by = pool.ConnectionCls

        class Connection(made_by):  # type: ignore[misc,valid-type]
            def connect(self) -> None:
                super().connect()
                self._begin()

            def request(self, *words: Any, **named: Any) -> Any:
                if self.sock is not None:
                    self._begin()
                return super().request(*words, **named)

            def _begin(self) -> None:
                self.timeout = seconds
                self.sock.settimeout(seconds)

        pools[scheme] = type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def _addressing_style(settings: S3Settings, endpoint_url: str | None) -> Any:
    chosen = settings.addressing_style or "auto"
    # Few other stores have a host name for each bucket.
    return "path" if chosen == "auto" and endpoint_url else chosen


def _proxies(proxy: str | None, endpoint_url: str | None) -> Any:
    if proxy is not None:
        return {"http": proxy, "https": proxy}
    if endpoint_url is not None and is_loopback(urlsplit(endpoint_url).hostname or ""):
        return {}  # whatever the environment says: no proxy can reach our own machine
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
