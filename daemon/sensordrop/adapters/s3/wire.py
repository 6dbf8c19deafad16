"""S3 requests of our own: addressed and signed here, sent by somebody else's lane.

boto3 says where to (endpoint and addressing rules) and who we are (credentials and their
refresh), once; the requests themselves are made, signed and judged here.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import pycurl
from botocore import exceptions as boto
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from sensordrop.adapters.s3.client import (
    S3Settings,
    is_loopback,
    make_client,
    make_session,
    shown,
)
from sensordrop.adapters.s3.digests import Answer, bare_etag
from sensordrop.adapters.s3.failures import (
    NEW_CREDENTIALS_MAY_HELP,
    classified,
    code_of,
    failure,
    printable,
    store_failure,
)
from sensordrop.adapters.s3.options import ObjectOptions
from sensordrop.adapters.s3.sigv4 import (
    SigningKeys,
    encoded_path,
    encoded_query,
    signed_headers,
)
from sensordrop.core.failure import FailureError
from sensordrop.ports.transfer import HttpAnswer, HttpRequest, Throttle

NOTHING_SHA256 = hashlib.sha256(b"").hexdigest()
PLACEHOLDER = "sensordrop-placeholder"
"""A key that boto3 is asked for an address of, to learn how it addresses the bucket."""

_TROUBLE = {
    pycurl.E_COULDNT_RESOLVE_HOST: "dns",
    pycurl.E_COULDNT_RESOLVE_PROXY: "proxy",
    pycurl.E_COULDNT_CONNECT: "connect",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_PEER_FAILED_VERIFICATION: "tls",
    pycurl.E_SSL_CACERT_BADFILE: "tls",
    pycurl.E_SSL_CERTPROBLEM: "tls",
    pycurl.E_SEND_ERROR: "connection-lost",
    pycurl.E_RECV_ERROR: "connection-lost",
    pycurl.E_GOT_NOTHING: "connection-lost",
    pycurl.E_PARTIAL_FILE: "connection-lost",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "bad-answer",
    pycurl.E_UNSUPPORTED_PROTOCOL: "bad-answer",
    pycurl.E_WRITE_ERROR: "bad-answer",
}
"""libcurl's numbers by the class of failure that they are; all others are a lost connection."""

_OPERATIONS = {"PUT": "PutObject", "HEAD": "HeadObject", "GET": "GetObject"}
"""What Amazon calls the requests on one object that are made here."""

_ELEMENT = re.compile(rb"<(Code|Message)>([^<]{0,2000})</")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """How the bucket is addressed, and what signs for it."""

    base_url: str
    base_path: str
    host: str
    region: str
    credentials: Any
    shown: str
    """The endpoint, for messages."""
    ca_file: str
    proxy: str


class Wire:
    """Makes requests on one bucket and judges their answers. Safe from every thread."""

    def __init__(self, settings: S3Settings, throttle: Throttle | None = None) -> None:
        self._settings = settings
        self._throttle = throttle
        self._lock = threading.Lock()
        self._place: _Place | None = None
        self._known_keys: tuple[Any, SigningKeys] | None = None
        """Credentials as the library gives them, and as they are signed with."""

    def tried(self, verb: str, object_key: str) -> str:
        """Say what is being tried, on what, for messages."""
        return f"{verb} {self._settings.bucket_name}/{object_key} at {self._found().shown}"

    def request(
        self,
        method: str,
        object_key: str,
        headers: Mapping[str, str],
        *,
        query: Sequence[tuple[str, str]] = (),
        payload_sha256: str = NOTHING_SHA256,
        body: BinaryIO | None = None,
        size_bytes: int = 0,
    ) -> HttpRequest:
        """Make a request, signed now. May block on a refresh of credentials.

        Raises FailureError.
        """
        place = self._found()
        path = place.base_path + encoded_path(b"/" + object_key.encode("utf-8"))
        encoded = encoded_query(query)
        signed = signed_headers(
            method=method,
            host=place.host,
            path=path,
            query=encoded,
            headers=headers,
            payload_sha256=payload_sha256,
            keys=self._keys(place),
            region=place.region,
            now=datetime.now(UTC),
        )
        return HttpRequest(
            method=method,
            url=place.base_url + path + (f"?{encoded}" if encoded else ""),
            headers=signed,
            ca_file=place.ca_file,
            proxy=place.proxy,
            body=body,
            size_bytes=size_bytes,
            throttle=self._throttle,
            stall_seconds=self._settings.read_timeout_seconds,
            operation="UploadPart" if query else _OPERATIONS[method],
        )

    def forget(self) -> None:
        """Read profiles and credentials anew at the next request."""
        with self._lock:
            self._place = None

    def raise_trouble(self, answer: HttpAnswer, tried: str) -> None:
        """Raise what kept a whole answer from coming, if something did."""
        if answer.trouble is None:
            return
        number, words = answer.trouble
        error_class = _TROUBLE.get(number, "connection-lost")
        if self._found().proxy and error_class in ("connect", "dns"):
            error_class = "proxy"  # the proxy is all that we connect to ourselves
        raise FailureError(failure(error_class, tried, printable(words)))

    def raise_refusal(self, answer: HttpAnswer, tried: str) -> None:
        """Raise what a refusal means, where it is one that is known."""
        known = store_failure(client_error(answer), tried, now=datetime.now(UTC))
        if known is None:
            return
        if known.error_class in NEW_CREDENTIALS_MAY_HELP:
            self.forget()
        raise FailureError(known)

    def _keys(self, place: _Place) -> SigningKeys:
        """Give the credentials as they are now; the library refreshes those that end."""
        try:
            frozen = place.credentials.get_frozen_credentials()
        except Exception:  # all of them: `classified` raises what it does not know as it is
            with classified(f"reading the credentials for bucket {self._settings.bucket_name}"):
                raise
        known = self._known_keys
        if known is None or known[0] != frozen:
            keys = SigningKeys(
                access_key_id=frozen.access_key,
                secret_access_key=frozen.secret_key,
                session_token=frozen.token,
            )
            known = self._known_keys = (frozen, keys)
        return known[1]

    def _found(self) -> _Place:
        place = self._place
        if place is not None:
            return place
        with self._lock:
            if self._place is None:
                self._place = self._find()
            return self._place

    def _find(self) -> _Place:
        """Ask boto3 for a signed address in the bucket, and take it apart."""
        settings = self._settings
        session = make_session(settings)
        client = make_client(session, settings)
        tried = f"reading the credentials for bucket {settings.bucket_name}"
        with classified(tried):
            credentials = session.get_credentials()
            if credentials is None:
                raise boto.NoCredentialsError
            url = client.generate_presigned_url(
                "get_object", Params={"Bucket": settings.bucket_name, "Key": PLACEHOLDER}
            )
        parts = urlsplit(url)
        scope = parse_qs(parts.query)["X-Amz-Credential"][0].split("/")
        return _Place(
            base_url=f"{parts.scheme}://{parts.netloc}",
            base_path=encoded_path(unquote(parts.path.removesuffix("/" + PLACEHOLDER)).encode()),
            host=parts.netloc,
            region=scope[-3],
            credentials=credentials,
            shown=shown(client.meta.endpoint_url),
            ca_file=settings.ca_bundle
            or os.environ.get("AWS_CA_BUNDLE")
            or str(get_cert_path(True)),
            proxy=_proxy_for(settings, url),
        )


def answered(answer: HttpAnswer, tried: str) -> Answer:
    """Read what a store says of bytes that it took. Raises FailureError (`bad-answer`)."""
    etag = bare_etag(answer.headers.get("etag", ""))
    if not etag:
        raise FailureError(failure("bad-answer", tried, "it gave no ETag"))
    return Answer(
        etag=etag,
        opaque_etag=_opaque(answer),
        version_id=answer.headers.get("x-amz-version-id"),
        checksum_sha256=answer.headers.get("x-amz-checksum-sha256"),
    )


def not_understood(answer: HttpAnswer) -> bool:
    """Tell whether a refusal is about how we asked: a condition that the store does not know."""
    code = code_of(client_error(answer))
    return answer.status == 501 or code in ("NotImplemented", "InvalidArgument")


def taken(answer: HttpAnswer) -> bool:
    """Tell whether a refusal says that something is under the key, or just comes to be there."""
    return answer.status in (409, 412)


def keeping_headers(options: ObjectOptions) -> dict[str, str]:
    """Give the headers that say how an object is to be kept."""
    kept = {
        "x-amz-acl": options.acl,
        "x-amz-storage-class": options.storage_class,
        "x-amz-server-side-encryption": options.sse,
        "x-amz-server-side-encryption-aws-kms-key-id": options.kms_key_id,
        "x-amz-tagging": options.tagging,
    }
    return {
        "content-type": options.content_type,
        **{f"x-amz-meta-{name}": value for name, value in options.metadata.items()},
        **{name: value for name, value in kept.items() if value is not None},
    }


def _proxy_for(settings: S3Settings, url: str) -> str:
    if settings.proxy is not None:
        return settings.proxy
    if settings.endpoint_url is not None and is_loopback(urlsplit(url).hostname or ""):
        return ""  # whatever the environment says: no proxy can reach our own machine
    found = get_environ_proxies(url)
    return str(found.get(urlsplit(url).scheme) or "")


def client_error(answer: HttpAnswer) -> boto.ClientError:
    """Put an error answer into the shape that the table of failures reads."""
    found = {
        name.decode(): unescape(value.decode("utf-8", "replace"))
        for name, value in _ELEMENT.findall(answer.body)
    }
    return boto.ClientError(
        {
            "Error": {
                "Code": found.get("Code", str(answer.status)),
                "Message": found.get("Message", ""),
            },
            "ResponseMetadata": {
                "HTTPStatusCode": answer.status,
                "HTTPHeaders": dict(answer.headers),
                "RequestId": "",
                "HostId": "",
                "RetryAttempts": 0,
            },
        },
        "PutObject",
    )


def _opaque(answer: HttpAnswer) -> bool:
    encryption = answer.headers.get("x-amz-server-side-encryption", "")
    return encryption.startswith("aws:kms") or (
        "x-amz-server-side-encryption-customer-algorithm" in answer.headers
    )
