"""Whom a delivery notifies, of what, in which words: the key `notify`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from sensordrop.config.endpoints import PART_KINDS, Endpoint, public_part, read_parts
from sensordrop.config.kinds import Kind, NotExpectedError
from sensordrop.config.problem import did_you_mean
from sensordrop.core.letters import LetterKind
from sensordrop.core.templates import (
    TemplateError,
    check_template,
    fill_template,
    values_of,
)

GIVE_UP_SECONDS = 21_600.0
"""Six hours: news that is older is in the ledger, and a chat that gets it late is only puzzled."""
EVENTS = (LetterKind.START, LetterKind.FAILURE, LetterKind.DONE)
"""What may be told."""
SHORTEST_SECRET = 5
"""A part of an address's path that is this long may be what lets people in; `v1` or `hook` is not."""


@dataclass(frozen=True, kw_only=True)
class Notification(Endpoint):
    """Who is notified. The addresses of chats' webhooks are secrets themselves, path and all."""

    give_up_seconds: float = GIVE_UP_SECONDS
    events: tuple[LetterKind, ...] = EVENTS
    template: object = None
    """What is sent, with placeholders; None: what the ledger wrote."""

    @property
    def shown(self) -> str:
        """The address as it may be shown: the host alone."""
        return _host(self.url)

    @property
    def secrets(self) -> frozenset[str]:
        """All that nobody else may see of these settings."""
        path = urlsplit(self.url).path
        parts = {each for each in (path, *path.split("/")) if len(each) >= SHORTEST_SECRET}
        return super().secrets | parts

    def body_of(self, letter: str) -> str:
        """Give what is sent of a letter, as JSON."""
        if self.template is None:
            return letter
        values = values_of(json.loads(letter))
        return json.dumps(fill_template(self.template, values), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Events(Kind):
    """What somebody wants to be notified of."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = "a list of start, failure, done (or one of them)"

    def read(self, value: object) -> tuple[LetterKind, ...]:
        """Read them."""
        wanted = [value] if isinstance(value, str) else value
        if not isinstance(wanted, list | tuple) or not wanted:
            raise NotExpectedError
        names = [kind.value for kind in EVENTS]
        for each in wanted:
            if each not in names:
                raise NotExpectedError(did_you_mean(str(each), names))
        return tuple(kind for kind in EVENTS if kind.value in wanted)

    def public(self, value: object) -> object:
        """Write them as a file would."""
        return [str(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Template(Kind):
    """What is sent, as YAML or as JSON in a text."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = "a mapping or a list, or JSON in a text, with {placeholders} in texts"

    def read(self, value: object) -> object:
        """Read it, and see that it can be filled."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise NotExpectedError(
                    f"the template is not JSON: {error}; placeholders stand in quotes"
                ) from error
        try:
            check_template(value)
        except TemplateError as error:
            raise NotExpectedError(str(error)) from error
        return value

    def public(self, value: object) -> object:
        """Show it: who writes a secret into it is told not to by the documentation."""
        return value


PARTS: Mapping[str, Kind] = {**PART_KINDS, "events": Events(), "template": Template()}
"""What a notification is made of."""


@dataclass(frozen=True, slots=True)
class NotificationKind(Kind):
    """A notification: a mapping, or its URL alone."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = (
        "an http:// or https:// URL, or a mapping of url and, if need be, events, template, and "
        "what `endpoint` takes"
    )

    def read(self, value: object) -> Notification:
        """Read it. The URL may be missing still: it may come from a credential."""
        if isinstance(value, Notification):
            return value
        if isinstance(value, str):
            value = {"url": value}
        found = read_parts(value, PARTS)
        return Notification(**{"url": "", **found})  # type: ignore[arg-type]

    def public(self, value: object) -> object:
        """Hide the secrets, the address's path among them."""
        if isinstance(value, Notification):
            value = {key: getattr(value, key) for key in PARTS if getattr(value, key)}
        if value is None:
            return None
        if not isinstance(value, Mapping):
            return _host(value) if isinstance(value, str) else "***"
        return {str(key): _public(str(key), item) for key, item in value.items() if item}


def _public(key: str, item: object) -> object:
    if key == "url":
        return _host(item) if isinstance(item, str) else "***"
    return PARTS[key].public(item) if key in ("events", "template") else public_part(key, item)


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "***"
    return f"{parts.scheme}://{parts.hostname}{port}/***" if parts.hostname else "***"
