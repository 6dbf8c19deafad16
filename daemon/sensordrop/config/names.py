"""Kinds of values that are names: of files, of objects, of buckets, and tags."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sensordrop.config.kinds import AbsolutePath, Kind, NotExpectedError, text_of
from sensordrop.config.problem import did_you_mean

PATTERN_LIMIT = 500
"""Most characters of a pattern: a path component has at most 255 bytes."""

LIST_LIMIT = 500
"""Most entries of a list: selection rules become one regular expression."""


def _items(value: object) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= LIST_LIMIT:
        raise NotExpectedError
    return [text_of(item) for item in value]


@dataclass(frozen=True, slots=True)
class Patterns(Kind):
    """File name patterns."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = f"a list of 1 to {LIST_LIMIT} patterns such as '*.tmp' or 'DCIM/**'"

    def read(self, value: object) -> tuple[str, ...]:
        """Read it."""
        if value is None or (isinstance(value, list | tuple) and not value):
            return ()
        patterns = _items(value)
        if any(not p.strip("/") or len(p) > PATTERN_LIMIT for p in patterns):
            raise NotExpectedError
        return tuple(patterns)

    def default_text(self, value: object) -> str:
        """Write it."""
        return f"`{list(value)}`" if isinstance(value, tuple) and value else "none"


@dataclass(frozen=True, slots=True)
class Extensions(Kind):
    """File name extensions."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = f"a list of 1 to {LIST_LIMIT} extensions such as [wav, flac]"

    def read(self, value: object) -> tuple[str, ...]:
        """Read it: lower case, without the dot; `wav, flac` in one text is two."""
        if isinstance(value, str):
            value = [part for part in re.split(r"[,\s]+", value) if part]
        found = [item.removeprefix("*").removeprefix(".").lower() for item in _items(value)]
        if not all(re.fullmatch(r"[a-z0-9_~+-]{1,32}", item) for item in found):
            raise NotExpectedError
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Tags(Kind):
    """Object tags."""

    structured: ClassVar[bool] = True
    expected: ClassVar[str] = (
        "a mapping of at most 10 tags, keys of 1 to 128 and values of at most 256 letters, "
        "digits, spaces and _.:/=+-@"
    )

    def read(self, value: object) -> dict[str, str]:
        """Read it."""
        if value is None:
            return {}
        if not isinstance(value, Mapping) or len(value) > 10:
            raise NotExpectedError
        tags = {text_of(key): text_of(item) for key, item in value.items()}
        for key, item in tags.items():
            if not re.fullmatch(r"[\w .:/=+@-]{1,128}", key):
                raise NotExpectedError
            if not re.fullmatch(r"[\w .:/=+@-]{0,256}", item):
                raise NotExpectedError
            if key.startswith("aws:"):
                raise NotExpectedError("keys that begin with 'aws:' belong to AWS")
        return tags

    def default_text(self, value: object) -> str:
        """Write it."""
        return f"`{value}`" if value else "none"


@dataclass(frozen=True, slots=True)
class AfterVerified(Kind):
    """What becomes of a file once it is proven to be stored."""

    expected: ClassVar[str] = "keep, delete, or move: with an absolute path (move:/data/done)"

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value)
        if text in {"keep", "delete"}:
            return text
        verb, colon, path = text.partition(":")
        if verb != "move" or not colon:
            raise NotExpectedError(did_you_mean(verb, ("keep", "delete", "move")))
        return f"move:{AbsolutePath().read(path.strip())}"


@dataclass(frozen=True, slots=True)
class BucketName(Kind):
    """A bucket's name by S3's rules (Amazon S3 User Guide, bucket naming rules)."""

    expected: ClassVar[str] = (
        "a bucket name: 3 to 63 of a-z, 0-9, '-' and '.', a letter or digit at both ends, "
        "no '..', not an IP address"
    )

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value)
        if not _is_bucket_name(text):
            bare = text.removeprefix("s3://").partition("/")[0]
            near = bare.lower().replace("_", "-").replace(" ", "-")
            raise NotExpectedError(f"did you mean {near!r}?" if _is_bucket_name(near) else "")
        return text


def _is_bucket_name(text: str) -> bool:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text) or ".." in text:
        return False
    if text.startswith(("xn--", "sthree-")):
        return False
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return True
    return False


RESERVED_PREFIX = "_sensordrop"
"""First component of the keys that are ours: receipts, manifests, probes."""


@dataclass(frozen=True, slots=True)
class Prefix(Kind):
    """What keys begin with, without slashes at either end."""

    limit_bytes: ClassVar[int] = 512
    """Half of S3's 1,024 for a key: the other half is for the files' own paths."""
    expected: ClassVar[str] = (
        "a key prefix such as C2 or 2025/C2: at most 512 bytes, no empty, '.' or '..' component, "
        f"no backslash, not under {RESERVED_PREFIX}"
    )

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value).strip("/")
        if not text:
            return ""
        components = text.split("/")
        if "\\" in text:
            raise NotExpectedError("components are separated by '/'")
        if len(text.encode("utf-8")) > self.limit_bytes or components[0] == RESERVED_PREFIX:
            raise NotExpectedError
        if any(part in {"", ".", ".."} for part in components):
            clean = "/".join(part for part in components if part not in {"", "."})
            if ".." in components:
                raise NotExpectedError
            raise NotExpectedError(f"did you mean {clean!r}?")
        return text

    def default_text(self, value: object) -> str:
        """Write it."""
        return f"`{value}`" if value else '`""` (keys begin at the root of the bucket)'
