"""What can be wrong with a configuration, told in one line each.

A problem stops the program; a notice does not. Both carry what they are made of, so that
`--json` can show the parts, and both keep secrets out of their words.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

SHOWN_CHARACTERS = 80
"""A value is shortened to this many characters in a problem's line."""

COMPARED_CHARACTERS = 64
"""Longer words are not compared for did-you-mean: the comparison is quadratic."""


class ProblemCode(StrEnum):
    """What sort of problem it is, for those who decide by it."""

    VALUE = "value"
    MISSING = "missing"
    UNKNOWN = "unknown"
    DUPLICATE = "duplicate"
    SYNTAX = "syntax"
    UNREADABLE = "unreadable"
    CONFLICT = "conflict"
    """Two settings that can't both hold, in one delivery or between two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One mistake: where it is, what is there, what was expected, what to do.

    `file` is relative to the configuration folder, or `environment`, or `command line`. `key` is
    written as the operator wrote it. `value` is safe to show. `what` replaces the usual words
    "<value> is not <expected>" where those would not be a sentence.
    """

    file: str
    key: str = ""
    value: object = None
    expected: str = ""
    suggestion: str = ""
    what: str = ""
    code: ProblemCode = ProblemCode.VALUE

    def __str__(self) -> str:
        return _line(
            self.file,
            self.key,
            self.what or f"{shown(self.value)} is not {self.expected}",
            self.suggestion,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """Something that is accepted, but has no effect; nothing needs to be done at once."""

    file: str
    key: str = ""
    value: object = None
    message: str = ""

    def __str__(self) -> str:
        return _line(self.file, self.key, self.message, "")


class ConfigurationError(Exception):
    """The configuration can't be used. Carries every problem that was found, never only one."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def only_unreadable(self) -> bool:
        """Tell whether nothing is known to be wrong except that files could not be read."""
        return all(problem.code is ProblemCode.UNREADABLE for problem in self.problems)


def printable(text: str) -> str:
    """Give the text with everything escaped that would break a line or a terminal."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )


def shown(value: object) -> str:
    """Give a value as it is shown in a line: quoted if it is text, shortened, without newlines."""
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return "true" if value else "false"
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = SHOWN_CHARACTERS
    shortener.maxlevel = 2
    return printable(shortener.repr(value))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Say which known word comes nearest, as a suggestion, or '' if none is near."""
    if len(word) > COMPARED_CHARACTERS:
        return ""
    by_folded = {_folded(candidate): candidate for candidate in known}
    near = difflib.get_close_matches(_folded(word), by_folded, n=1, cutoff=0.6)
    return f"did you mean {by_folded[near[0]]!r}?" if near else ""


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")


def _line(file: str, key: str, words: str, suggestion: str) -> str:
    place = ": ".join(printable(part) for part in (file, key) if part)
    tail = f" — {suggestion}" if suggestion else ""
    return f"{place}: {printable(words)}{printable(tail)}"
