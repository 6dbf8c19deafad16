"""Kinds of values: what is accepted, in which words that is said, and how it is read.

Every kind reads what a person may write: numbers and booleans may be given as text ("15",
"yes"), because the older JSON format, the environment and YAML files do so. Reading what was
read already changes nothing.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sensordrop.config.problem import did_you_mean

UNITS = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
"""Units of a size in bytes."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,15}(\.[0-9]{0,9})?|\.[0-9]{1,9})")
_SIZE = re.compile(r"([0-9]{1,18}) ?([kKMG]?i?B)")


class NotExpectedError(ValueError):
    """A value is not what its kind accepts; `suggestion` says what may have been meant."""

    def __init__(self, suggestion: str = "") -> None:
        super().__init__(suggestion or "not what was expected")
        self.suggestion = suggestion


class Kind:
    """One kind of value."""

    structured: ClassVar[bool] = False
    """In the environment, the text is read as YAML first: a list or a mapping."""

    @property
    def expected(self) -> str:
        """What is accepted, in words that fit after "is not"."""
        raise NotImplementedError

    def read(self, value: object) -> object:
        """Give the value as the program uses it. Raises NotExpectedError."""
        raise NotImplementedError

    def public(self, value: object) -> object:
        """Give a value (right or wrong) as it may be shown: JSON-able and without secrets."""
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [self.public(item) for item in value]
        if isinstance(value, Mapping):
            return {str(key): self.public(item) for key, item in value.items()}
        return value

    def default_text(self, value: object) -> str:
        """Write a default the way one would write it in a file."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return "`true`" if value else "`false`"
        if isinstance(value, float) and value.is_integer():
            return f"`{int(value)}`"
        return f"`{value}`"


def text_of(value: object) -> str:
    """Give text that fits on a line. A number is text too: `cycle: 2` means "2"."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        value = str(value)
    if not isinstance(value, str):
        raise NotExpectedError
    text = value.strip()
    if not text.isprintable():
        raise NotExpectedError
    return text


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Words on one line."""

    words: str = "text"
    limit: int = 200
    pattern: str = ""
    may_be_empty: bool = False

    @property
    def expected(self) -> str:
        """What is accepted."""
        least = 0 if self.may_be_empty else 1
        return f"{self.words} ({least} to {self.limit} characters)"

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value)
        if len(text) > self.limit or not (text or self.may_be_empty):
            raise NotExpectedError
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise NotExpectedError
        return text


@dataclass(frozen=True, slots=True)
class TrueOrFalse(Kind):
    """A boolean, also in the older format's words."""

    expected: ClassVar[str] = "true or false (yes or no)"
    _words: ClassVar[Mapping[str, bool]] = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }

    def read(self, value: object) -> bool:
        """Read it."""
        if isinstance(value, bool):
            return value
        word = text_of(value).lower()
        if word not in self._words:
            raise NotExpectedError
        return self._words[word]


@dataclass(frozen=True, slots=True)
class WholeNumber(Kind):
    """A whole number within limits."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"a whole number from {self.least} to {self.most}"

    def read(self, value: object) -> int:
        """Read it."""
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise NotExpectedError
        if not self.least <= value <= self.most:
            raise NotExpectedError
        return value


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A number within limits, with or without a fraction."""

    least: float
    most: float

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"a number from {self.least:.12g} to {self.most:.12g}"

    def read(self, value: object) -> float:
        """Read it."""
        if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
            value = float(value)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise NotExpectedError
        if not self.least <= value <= self.most or not math.isfinite(value):
            raise NotExpectedError
        return float(value)


@dataclass(frozen=True, slots=True)
class Share(Kind):
    """A share in percent. It stays text, so that 1 is never taken for all."""

    expected: ClassVar[str] = "a share from 0% to 100%, such as 1% or 0.5%"

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value)
        if text in ("0", "0.0"):
            return "0%"
        number = text.removesuffix("%").strip()
        if (
            not text.endswith("%")
            or not _DECIMAL.fullmatch(number)
            or not 0 <= float(number) <= 100
        ):
            raise NotExpectedError(f"did you mean '{text}%'?" if _DECIMAL.fullmatch(text) else "")
        return f"{float(number):.12g}%"


def share_of(text: str) -> float:
    """Give the number that a share in percent is, from 0 to 1."""
    return float(text.removesuffix("%")) / 100


@dataclass(frozen=True, slots=True)
class SocketMode(Kind):
    """Who can connect to a socket: its owner, its group too, or everybody.

    YAML reads an unquoted 0660 as an octal number, and 660 as a plain one: both mean the same here.
    """

    expected: ClassVar[str] = "0600, 0660 or 0666"
    _words: ClassVar[Mapping[str, str]] = {
        f"{written}": f"0{mode:o}"
        for mode in (0o600, 0o660, 0o666)
        for written in (mode, f"{mode:o}", f"0{mode:o}", f"0o{mode:o}")
    }

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value)
        if text not in self._words:
            raise NotExpectedError
        return self._words[text]


@dataclass(frozen=True, slots=True)
class ByteCount(Kind):
    """A number of bytes, written with or without a unit."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"a size from {_with_unit(self.least)} to {_with_unit(self.most)}"

    def read(self, value: object) -> int:
        """Read it."""
        if isinstance(value, str):
            text = value.strip()
            if size := _SIZE.fullmatch(text):
                if size.group(2) not in UNITS:
                    raise NotExpectedError(did_you_mean(size.group(2), UNITS))
                value = int(size.group(1)) * UNITS[size.group(2)]
            elif _WHOLE.fullmatch(text):
                value = int(text)
        if not isinstance(value, int) or isinstance(value, bool):
            raise NotExpectedError('write bytes, or a number with its unit: "64 MiB"')
        if not self.least <= value <= self.most:
            raise NotExpectedError
        return value

    def default_text(self, value: object) -> str:
        """Write it with its unit."""
        return f"`{_with_unit(value)}`" if isinstance(value, int) else "none"


def _with_unit(size_bytes: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % UNITS[unit] == 0:
            return f"{size_bytes // UNITS[unit]} {unit}"
    return f"{size_bytes} B"


@dataclass(frozen=True, slots=True)
class OneOf(Kind):
    """One of some words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "one of " + ", ".join(self.words)

    def read(self, value: object) -> str:
        """Read it."""
        if not isinstance(value, str):
            raise NotExpectedError
        word = value.strip()
        if word not in self.words:
            raise NotExpectedError(did_you_mean(word, self.words))
        return word


@dataclass(frozen=True, slots=True)
class AbsolutePath(Kind):
    """A path from the root of the file system, without `..`."""

    expected: ClassVar[str] = "an absolute path without '..'"

    def read(self, value: object) -> Path:
        """Read it."""
        if isinstance(value, Path):
            value = str(value)
        if not isinstance(value, str) or not value.isprintable():
            raise NotExpectedError
        if value.startswith("~"):
            raise NotExpectedError("'~' is not expanded here: write the home folder out in full")
        path = Path(os.path.normpath(value)) if value else Path()
        if ".." in Path(value).parts:
            raise NotExpectedError(f"write it without '..': {str(path)!r}")
        if not path.is_absolute():
            raise NotExpectedError("begin it with '/'")
        return Path("/" + str(path).lstrip("/")) if os.sep == "/" else path
