"""Text that is safe to show."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Escape what could move a cursor, end a line or turn text around.

    Control characters, line separators and the marks that change the direction of writing become
    `\n`, `\t`, `\x1b`, `\u202e`. Everything else stands as it is.
    """
    return _CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")
