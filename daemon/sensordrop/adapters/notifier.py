"""Tells an endpoint about a session: one signed POST over libcurl, as `ports.Notifier`.

Where a request may go is decided on the address that the name was resolved to, on the very socket
that is connected: a name that leads elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pycurl

from sensordrop.config import Endpoint
from sensordrop.core.letters import Answer, LetterKind, address_problem, signature
from sensordrop.core.terminal import printable
from sensordrop.ports.letters import Letter
from sensordrop.ports.life import StopFlag
from sensordrop.version import VERSION

CONNECT_SECONDS = 10
"""Longest wait for a connection, TLS included, within the endpoint's own time-out."""
KEPT_CHARACTERS = 1_000
"""The beginning of an answer that is kept: enough for an error's words."""
ANSWER_END_BYTES = 64 * 1024
"""An answer's body is not read further than this; its status counts."""
MOST_REDIRECTS = 5
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Where Debian and its kin keep what the machine trusts."""

_KEEPS_METHOD = (307, 308)
"""Redirects on which a POST stays a POST; the others would make it another request."""
_REFUSED = "private addresses are not allowed"


class HttpNotifier:
    """Sends letters to the endpoints of deliveries. See `ports.Notifier`."""

    def __init__(
        self,
        endpoints: Mapping[tuple[int, LetterKind], Endpoint],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`endpoints` by delivery and what is told; `now` gives seconds since 1970."""
        self._endpoints = endpoints
        self._now = now

    def send(self, letter: Letter, stop: StopFlag) -> Answer | None:
        """Send a letter once; see `ports.Notifier.send`."""
        endpoint = self._endpoints[letter.delivery_id, letter.kind]
        body = endpoint.body_of(letter.body).encode()
        deadline = time.monotonic() + endpoint.timeout_seconds
        url = endpoint.url
        for _ in range(MOST_REDIRECTS + 1):
            post = _Post(endpoint, url, self._headers(letter, endpoint, url, body), body, stop)
            answer = post.perform(deadline - time.monotonic(), self._now())
            if answer is None or not endpoint.follow_redirects:
                return answer
            if answer.status not in _KEEPS_METHOD or not post.location:
                return answer
            target = urljoin(url, post.location)
            if problem := _redirect_problem(url, target):
                return Answer(problem=problem, hint="give the address that it should go to")
            url = target
        return Answer(
            problem=f"the endpoint answered with more than {MOST_REDIRECTS} redirects",
            hint="give the address that they lead to",
        )

    def _headers(
        self, letter: Letter, endpoint: Endpoint, url: str, body: bytes
    ) -> Mapping[str, str]:
        """Give the headers of one request. Another origin gets neither token nor headers of the
        configuration: they were meant for the endpoint.
        """
        timestamp = int(self._now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"sensordrop/{VERSION}",
            "Idempotency-Key": letter.idempotency_key,
            "Sensordrop-Event": letter.kind.value,
            "Sensordrop-Timestamp": str(timestamp),
        }
        if endpoint.secret is not None:
            signed = signature(endpoint.secret, timestamp, body)
            headers["Sensordrop-Signature"] = f"v1={signed}"
        if _origin(url) == _origin(endpoint.url):
            if endpoint.token is not None:
                headers["Authorization"] = f"Bearer {endpoint.token}"
            headers.update(endpoint.headers)
        return headers


class _Post:
    """One request and what came of it."""

    def __init__(
        self,
        endpoint: Endpoint,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        stop: StopFlag,
    ) -> None:
        self._endpoint = endpoint
        self._stop = stop
        self._lines: list[bytes] = []
        self._text = bytearray()
        self._read_bytes = 0
        self._refused: str | None = None
        self._handle = self._prepared(url, headers, body)

    @property
    def location(self) -> str:
        """Where a redirect points; empty: nowhere."""
        return self._answered_headers().get("location", "")

    def perform(self, seconds: float, now: float) -> Answer | None:
        """Send it; None where the stop flag broke it off."""
        if seconds <= 0:
            return Answer(problem="the endpoint took too long", hint="see timeout_seconds")
        self._handle.setopt(pycurl.TIMEOUT_MS, max(1, int(seconds * 1000)))
        try:
            self._handle.perform()
        except pycurl.error as error:
            if not self._cut_off_by_us:
                return None if self._stop.is_set() else self._trouble(*error.args[:2])
        finally:
            status = self._handle.getinfo(pycurl.RESPONSE_CODE)
            self._handle.close()
        return Answer(
            status=status,
            text=self._shown_text(),
            retry_after_seconds=_retry_after(self._answered_headers().get("retry-after"), now),
        )

    def _prepared(self, url: str, headers: Mapping[str, str], body: bytes) -> Any:
        handle = pycurl.Curl()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.PROXY, "")  # whatever the environment says: the address is checked
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, CONNECT_SECONDS * 1000)
        handle.setopt(pycurl.CAINFO, certificates(self._endpoint.ca_bundle))
        handle.setopt(pycurl.POST, 1)
        handle.setopt(pycurl.POSTFIELDS, body)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        handle.setopt(pycurl.HTTPHEADER, [*lines, "Expect:"])
        handle.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        handle.setopt(pycurl.WRITEFUNCTION, self._take)
        handle.setopt(pycurl.NOPROGRESS, 0)
        handle.setopt(pycurl.XFERINFOFUNCTION, lambda *_: 1 if self._stop.is_set() else 0)
        handle.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        return handle

    @property
    def _cut_off_by_us(self) -> bool:
        return self._read_bytes > ANSWER_END_BYTES

    def _take(self, data: bytes) -> int:
        """Keep the beginning of the body. To take less than all breaks the transfer off."""
        self._read_bytes += len(data)
        self._text += data[: max(0, 4 * KEPT_CHARACTERS - len(self._text))]
        return len(data) if not self._cut_off_by_us else 0

    def _open(self, _purpose: int, address: Any) -> Any:
        """Make the socket for an address that the name was resolved to, if it may be asked."""
        family, kind, protocol, where = address
        host = where[0].decode() if isinstance(where[0], bytes) else where[0]
        refused = address_problem(host, allow_private=self._endpoint.allow_private_addresses)
        if refused is not None:
            self._refused = refused
            return pycurl.SOCKET_BAD
        return socket.socket(family, kind, protocol)

    def _trouble(self, code: int, words: str) -> Answer:
        if self._refused is not None:
            return Answer(
                problem=f"{self._refused}, and {_REFUSED}",
                hint="if it is meant, set allow_private_addresses of the endpoint",
            )
        hint = "check the endpoint's url, and that it runs; it is tried again by itself"
        if code in (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE):
            hint = "its certificate is not trusted here: see ca_bundle of the endpoint"
        return Answer(problem=f"the endpoint could not be told: {printable(words)}", hint=hint)

    def _answered_headers(self) -> dict[str, str]:
        """Read the last answer's headers: interim ones (100 Continue) may have come before."""
        text = "\r\n" + b"".join(self._lines).decode("latin-1")
        parts = [line.partition(":") for line in text.rpartition("\r\nHTTP/")[2].split("\r\n")[1:]]
        return {name.lower(): value.strip() for name, colon, value in parts if colon}

    def _shown_text(self) -> str:
        """Give the answer's beginning as text, without secrets that it may repeat."""
        text = bytes(self._text).decode("utf-8", errors="replace")
        # The longest first: one may be a part of another.
        secrets = sorted(self._endpoint.secrets, key=len, reverse=True)
        for secret in secrets:
            text = text.replace(secret, "***")
        if self._read_bytes > len(self._text):  # where it was cut there may be a piece of one
            text = text[: max(0, len(text) - max(map(len, secrets), default=0))]
        return text[:KEPT_CHARACTERS]


def certificates(ca_bundle: Path | None) -> str:
    """Find the file of certificates that endpoints' are checked against."""
    given = os.environ.get("SSL_CERT_FILE")
    system = ssl.get_default_verify_paths().cafile
    for each in (ca_bundle, given, SYSTEM_CERTIFICATES, system):
        if each and Path(each).is_file():
            return str(each)
    carried = find_spec("botocore")  # boto3 brings a list of its own along
    assert carried is not None
    assert carried.origin is not None
    return str(Path(carried.origin).with_name("cacert.pem"))


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _redirect_problem(url: str, target: str) -> str | None:
    """Say why a redirect is not followed; None: it is."""
    try:
        scheme, host, _ = _origin(target)
    except ValueError:
        return "the endpoint redirects to something that is no address"
    if scheme not in ("http", "https") or not host:
        return "the endpoint redirects to something that is no address"
    if url.startswith("https:") and scheme == "http":
        return "the endpoint redirects from https to http"
    return None


def _retry_after(text: str | None, now: float) -> float | None:
    """Read when the endpoint wants to be asked again: in seconds, or at a time."""
    if not text:
        return None
    if text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(now, UTC)).total_seconds())
