"""Kinds of values that are addresses: of servers, of the ledger.

Addresses may carry passwords. What is shown of one goes through `masked`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

from sensordrop.config.kinds import Kind, NotExpectedError, text_of
from sensordrop.config.problem import did_you_mean

_USER_INFO = re.compile(r"//([^/?#:@\s]*)(:?).*@", re.DOTALL)
_ANY_USER = re.compile(r"//.*@", re.DOTALL)
_PASSWORD = re.compile(r"(?i)(password\s*=\s*)('[^']*'|[^\s&]*)")


def _split_url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        url = urlsplit(text)
        port_is_right = url.port is None or url.port > 0
    except ValueError:
        raise NotExpectedError from None
    if url.scheme not in schemes or not port_is_right or not text.isascii():
        raise NotExpectedError
    return url


@dataclass(frozen=True, slots=True)
class HttpUrl(Kind):
    """The address of an HTTP server."""

    words: str = "an http:// or https:// URL without user, query or fragment"
    bare: bool = True
    """Without user information, query and fragment."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return self.words

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value)
        if re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?(/.*)?", text):
            local = text.startswith(("localhost", "127."))
            raise NotExpectedError(f"did you mean {('http://' if local else 'https://') + text!r}?")
        url = _split_url(text, ("http", "https"))
        if not url.hostname or (self.bare and (url.query or url.fragment or "@" in url.netloc)):
            raise NotExpectedError
        if " " in text:
            raise NotExpectedError
        return text.rstrip("/") if self.bare else text

    def public(self, value: object) -> object:
        """Hide the user, and what may be a token in the query."""
        if not isinstance(value, str):
            return None if value is None else "***"
        return _masked_query(_ANY_USER.sub("//***@", value))


@dataclass(frozen=True, slots=True)
class DatabaseUrl(Kind):
    """Where the ledger is."""

    expected: ClassVar[str] = "'embedded' or a postgresql:// URL"

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value)
        if text == "embedded":
            return text
        if "://" not in text:
            raise NotExpectedError(
                did_you_mean(text, ("embedded",))
                or "write it as postgresql://USER@HOST:PORT/DATABASE"
            )
        _split_url(text, ("postgresql", "postgres"))
        return text

    def public(self, value: object) -> object:
        """Hide the password."""
        return masked(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Listen(Kind):
    """An address to listen on, or none."""

    expected: ClassVar[str] = "HOST:PORT, with a port from 1 to 65535, or `off`"

    def read(self, value: object) -> str | None:
        """Read it."""
        if value is False:  # YAML's word for an unquoted off
            return None
        text = text_of(value)
        if text.casefold() == "off":
            return None
        host, _, port = text.rpartition(":")
        if not host or " " in text or not re.fullmatch("[0-9]{1,5}", port):
            raise NotExpectedError("for example 127.0.0.1:9464")
        if not 1 <= int(port) <= 65535:
            raise NotExpectedError
        return text

    def public(self, value: object) -> object:
        """Show none as it is written: left out would mean the default."""
        return "off" if value is None else value


def masked(text: str) -> str:
    """Give a URL or a connection string with its password hidden."""
    hidden = _USER_INFO.sub(lambda m: f"//{m.group(1)}{':***' if m.group(2) else ''}@", text)
    return _PASSWORD.sub(r"\1***", hidden)


def _masked_query(text: str) -> str:
    before, mark, _ = text.partition("?")
    return f"{before}?***" if mark else text
