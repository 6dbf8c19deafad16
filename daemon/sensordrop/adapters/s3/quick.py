"""The quick way for small files: one signed request each, driven by somebody else's lane.

boto3 says where to (endpoint and addressing rules) and who we are (credentials and their
refresh), once; the requests themselves are made and signed here. Whatever is not the plain case
(a key that is taken, a store that does not understand the condition) is left to the slow way.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import unescape
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

import pycurl
from botocore import exceptions as boto
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from sensordrop.adapters.s3.body import opened, read_exactly
from sensordrop.adapters.s3.client import (
    S3Settings,
    is_loopback,
    make_client,
    make_session,
    shown,
)
from sensordrop.adapters.s3.digests import Answer, bare_etag, in_base64, verify
from sensordrop.adapters.s3.failures import (
    NEW_CREDENTIALS_MAY_HELP,
    classified,
    failure,
    printable,
    reading,
    store_failure,
)
from sensordrop.adapters.s3.options import options_for
from sensordrop.adapters.s3.sigv4 import SigningKeys, encoded_path, signed_headers
from sensordrop.core.failure import FailureError
from sensordrop.core.lifecycle import Stored
from sensordrop.core.model import Receipt
from sensordrop.ports import Content, HttpAnswer, HttpRequest, QuickSteps

NOTHING_SHA256 = hashlib.sha256(b"").hexdigest()
QUICK_LIMIT_BYTES = 4 * 1024 * 1024
"""Larger contents go the slow way, which sends them from the disk."""
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

_ELEMENT = re.compile(rb"<(Code|Message)>([^<]{0,2000})</")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """How the bucket is addressed, and what signs for it."""

    base_url: str
    base_path: str
    host: str
    region: str
    credentials: Any
    endpoint: str
    ca_file: str
    proxy: str


class QuickWay:
    """Makes the requests of small puts. Safe from every thread."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._place: _Place | None = None

    def steps(
        self,
        content: Content,
        object_key: str,
        *,
        amazon: bool,
        sends_checksums: bool,
        look_first: bool,
        condition: bool,
    ) -> QuickSteps:
        """Give the requests that store a content under a free key; None is the slow way's.

        `condition`: the store understands "only if nothing is there". `look_first`: whether it
        also honours that is not known, so a look comes before the put.
        """
        place = self._found()
        tried = f"storing {self._settings.bucket_name}/{object_key} at {shown(place.endpoint)}"
        if look_first:
            looked = yield self._request(place, "HEAD", object_key, {})
            self._raise_trouble(looked, tried, place)
            if looked.status >= 500:
                self._refuse(looked, tried)
            if looked.status != 404:
                return None
        options = options_for(self._settings, object_key, content.sha256)
        headers = {
            "content-type": options.content_type,
            **{f"x-amz-meta-{name}": value for name, value in options.metadata.items()},
        }
        if condition:
            headers["if-none-match"] = "*"
        if not amazon:
            headers["content-md5"] = in_base64(content.md5)
        if sends_checksums:
            headers["x-amz-checksum-sha256"] = in_base64(content.sha256)
            headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
        kept = {
            "x-amz-storage-class": options.storage_class,
            "x-amz-server-side-encryption": options.sse,
            "x-amz-server-side-encryption-aws-kms-key-id": options.kms_key_id,
            "x-amz-tagging": options.tagging,
        }
        headers |= {name: value for name, value in kept.items() if value is not None}
        request = self._request(
            place, "PUT", object_key, headers, payload_sha256=content.sha256.hex()
        )
        body = _as_hashed(content, f"the file for {object_key}")
        answer = yield replace(request, body=body, size_bytes=content.size_bytes)
        self._raise_trouble(answer, tried, place)
        if answer.status != 200:
            self._refuse(answer, tried)
            return None
        etag = bare_etag(answer.headers.get("etag", ""))
        if not etag:
            raise FailureError(failure("bad-answer", tried, "it gave no ETag"))
        told = Answer(
            etag=etag,
            opaque_etag=_opaque(answer),
            version_id=answer.headers.get("x-amz-version-id"),
            checksum_sha256=answer.headers.get("x-amz-checksum-sha256"),
        )
        check = verify(told, md5=content.md5, sha256=content.sha256, amazon=amazon, tried=tried)
        receipt = Receipt(
            object_key=object_key,
            sha256=content.sha256,
            etag=told.etag,
            version_id=told.version_id,
            checksum_sha256=told.checksum_sha256,
            store_check=check,
        )
        return Stored(receipt=receipt)

    def _refuse(self, answer: HttpAnswer, tried: str) -> None:
        """Raise what a refusal means, unless it is something that the slow way knows to handle."""
        error = _client_error(answer)
        code = error.response["Error"]["Code"]
        if answer.status in (409, 412, 501) or code in ("NotImplemented", "InvalidArgument"):
            return
        known = store_failure(error, tried, now=datetime.now(UTC))
        if known is None:
            return  # a redirect and the like: the library knows what to do with it
        if known.error_class in NEW_CREDENTIALS_MAY_HELP:
            with self._lock:
                self._place = None
        raise FailureError(known)

    def _raise_trouble(self, answer: HttpAnswer, tried: str, place: _Place) -> None:
        if answer.trouble is None:
            return
        number, words = answer.trouble
        error_class = _TROUBLE.get(number, "connection-lost")
        if place.proxy and error_class in ("connect", "dns"):
            error_class = "proxy"  # the proxy is all that we connect to ourselves
        raise FailureError(failure(error_class, tried, printable(words)))

    def _request(
        self,
        place: _Place,
        method: str,
        object_key: str,
        headers: dict[str, str],
        *,
        payload_sha256: str = NOTHING_SHA256,
    ) -> HttpRequest:
        path = place.base_path + encoded_path(b"/" + object_key.encode("utf-8"))
        with classified(f"reading the credentials for bucket {self._settings.bucket_name}"):
            frozen = place.credentials.get_frozen_credentials()
        signed = signed_headers(
            method=method,
            host=place.host,
            path=path,
            headers=headers,
            payload_sha256=payload_sha256,
            keys=SigningKeys(
                access_key_id=frozen.access_key,
                secret_access_key=frozen.secret_key,
                session_token=frozen.token,
            ),
            region=place.region,
            now=datetime.now(UTC),
        )
        return HttpRequest(
            method=method,
            url=place.base_url + path,
            headers=signed,
            ca_file=place.ca_file,
            proxy=place.proxy,
        )

    def _found(self) -> _Place:
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
            endpoint=client.meta.endpoint_url,
            ca_file=settings.ca_bundle
            or os.environ.get("AWS_CA_BUNDLE")
            or str(get_cert_path(True)),
            proxy=_proxy_for(settings, url),
        )


def _as_hashed(content: Content, what: str) -> BinaryIO:
    """Give the bytes that were hashed: those in memory, or the file's if they are still the same.

    Raises FailureError.
    """
    with opened(content, what) as file:
        if isinstance(file, io.BytesIO):
            return file
        with reading(what):
            block = read_exactly(file, content.size_bytes)
    if hashlib.sha256(block).digest() != content.sha256:
        raise FailureError(failure("changed", f"sending {what}"))
    return io.BytesIO(block)


def _proxy_for(settings: S3Settings, url: str) -> str:
    if settings.proxy is not None:
        return settings.proxy
    if settings.endpoint_url is not None and is_loopback(urlsplit(url).hostname or ""):
        return ""  # whatever the environment says: no proxy can reach our own machine
    found = get_environ_proxies(url)
    return str(found.get(urlsplit(url).scheme) or "")


def _client_error(answer: HttpAnswer) -> boto.ClientError:
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
