"""Whom a delivery tells about its sessions: the key `endpoint`, with its secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from sensordrop.config.addresses import HttpUrl
from sensordrop.config.kinds import (
    AbsolutePath,
    Kind,
    NotExpectedError,
    Number,
    TrueOrFalse,
    text_of,
)
from sensordrop.config.problem import did_you_mean

TIMEOUT_SECONDS = 30.0
GIVE_UP_SECONDS = 259_200.0
"""Three days: an endpoint that broke on a Friday evening is mended on a Monday."""
MOST_HEADERS = 20

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS = re.compile(
    r"(?i)(idempotency-key|content-(type|length)|transfer-encoding|host|expect|sensordrop-.*)"
)
"""Headers that are not the configuration's to set."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Who is told about sessions, how, and with which secrets. Times are in seconds."""

    url: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    """Sent as a bearer token."""
    secret: str | None = field(default=None, repr=False)
    """Signs what is sent."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS
    give_up_seconds: float = GIVE_UP_SECONDS
    follow_redirects: bool = False
    allow_private_addresses: bool = False
    ca_bundle: Path | None = None

    @property
    def shown(self) -> str:
        """The address as it may be shown."""
        return str(HttpUrl(bare=False).public(self.url))

    @property
    def secrets(self) -> frozenset[str]:
        """All that nobody else may see of these settings."""
        url = urlsplit(self.url)
        parts = {url.password, url.query, unquote(url.query), unquote(url.password or "")}
        values = [value for _, _, value in (each.partition("=") for each in url.query.split("&"))]
        for value in (*values, *(value for _, value in parse_qsl(url.query))):
            if len(value) > 3:  # more than v=1
                parts.add(value)
        parts |= {self.token, self.secret, *self.headers.values()}
        return frozenset(each for each in parts if each)

    def body_of(self, letter: str) -> str:
        """Give what is sent of a letter, as JSON."""
        return letter

    @property
    def digest(self) -> str:
        """What the ledger knows the address by."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:32]

    def with_secrets(
        self, *, token: str | None, secret: str | None, headers: Mapping[str, str]
    ) -> Endpoint:
        """Give it with secrets from elsewhere, where it names none itself."""
        return replace(
            self,
            token=self.token or token,
            secret=self.secret or secret,
            headers={**headers, **self.headers},
        )


@dataclass(frozen=True, slots=True)
class Headers(Kind):
    """Headers of a request, by name."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = (
        f"a mapping of at most {MOST_HEADERS} header names to values in plain ASCII, "
        "without those that sensordrop sets itself"
    )

    def read(self, value: object) -> Mapping[str, str]:
        """Read them."""
        if not isinstance(value, Mapping) or len(value) > MOST_HEADERS:
            raise NotExpectedError
        found = {}
        for name, item in value.items():
            text = text_of(item)
            name_fits = isinstance(name, str) and _HEADER_NAME.fullmatch(name)
            if not name_fits or _OURS.fullmatch(name) or not text.isascii():
                raise NotExpectedError
            found[name] = text
        return found

    def public(self, value: object) -> object:
        """Hide every value: any may be a secret."""
        return {str(name): "***" for name in value} if isinstance(value, Mapping) else "***"


@dataclass(frozen=True, slots=True)
class _HeaderText(Kind):
    """A secret that is sent in a header, or signs with."""

    expected: ClassVar[str] = "text on one line, in plain ASCII"

    def read(self, value: object) -> str:
        text = text_of(value)
        if not text or not text.isascii() or len(text) > 4096:
            raise NotExpectedError
        return text


PART_KINDS: Mapping[str, Kind] = {
    "url": HttpUrl("an http:// or https:// URL", bare=False),
    "token": _HeaderText(),
    "secret": _HeaderText(),
    "headers": Headers(),
    "timeout_seconds": Number(1, 300),
    "give_up_seconds": Number(1, 2_592_000),
    "follow_redirects": TrueOrFalse(),
    "allow_private_addresses": TrueOrFalse(),
    "ca_bundle": AbsolutePath(),
}
"""What an endpoint is made of."""
_SECRET = ("token", "secret")


@dataclass(frozen=True, slots=True)
class EndpointKind(Kind):
    """An endpoint: its URL alone, or a mapping."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = (
        "an http:// or https:// URL, or a mapping of url and, if need be, token, secret, headers, "
        "timeout_seconds (1 to 300), give_up_seconds (1 to 2592000), follow_redirects, "
        "allow_private_addresses, ca_bundle"
    )

    def read(self, value: object) -> Endpoint:
        """Read it."""
        if isinstance(value, Endpoint):
            return value
        if isinstance(value, str):
            value = {"url": value}
        found = read_parts(value, PART_KINDS)
        if "url" not in found:
            raise NotExpectedError
        return Endpoint(**found)  # type: ignore[arg-type]

    def public(self, value: object) -> object:
        """Hide the secrets, and what the URL may carry of them."""
        if isinstance(value, Endpoint):
            value = {key: getattr(value, key) for key in PART_KINDS if getattr(value, key)}
        if not isinstance(value, Mapping):
            return HttpUrl(bare=False).public(value)
        return {str(key): public_part(str(key), item) for key, item in value.items() if item}


def read_parts(value: object, kinds: Mapping[str, Kind]) -> dict[str, object]:
    """Read a mapping of parts, each of its kind. Raises NotExpectedError."""
    if not isinstance(value, Mapping):
        raise NotExpectedError
    found = {}
    for key, item in value.items():
        if key not in kinds:
            raise NotExpectedError(did_you_mean(str(key), kinds))
        if item is not None:
            found[str(key)] = read_part(str(key), item, kinds)
    return found


def read_part(key: str, item: object, kinds: Mapping[str, Kind] = PART_KINDS) -> object:
    """Read one part of an endpoint. Raises NotExpectedError."""
    try:
        return kinds[key].read(item)
    except NotExpectedError as error:
        what = error.suggestion or f"{key} takes {kinds[key].expected}"
        raise NotExpectedError(what) from None


def public_part(key: str, item: object) -> object:
    """Give one part as it may be shown."""
    if key in _SECRET or key not in PART_KINDS:
        return "***"
    return PART_KINDS[key].public(item)
