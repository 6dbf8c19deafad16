r"""Patterns of names, as operators write them in `include` and `exclude`.

One pattern is read once, into tokens, and written down twice. The portable form uses only syntax
that Python and PostgreSQL read alike; the ledger judges whole listings by it, and PostgreSQL's
matcher takes it in one pass. Python's matcher goes back and tries again, which takes hours for a
few wildcards on a long name that somebody chose with care; so the form for Python never goes
back to a wildcard that has found its place. Tests hold the two against each other and against
the rules in plain words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


class _Wildcard(Enum):
    """What stands for a run of any length. The values are the portable form."""

    NAME = "[^/]*"
    """`*`: any part of one name."""
    PATH = ".*"
    """`**` beside other characters, or at the end: any part of a path."""
    FOLDERS = "(?:.*/)?"
    """`**/` where a name begins: any folders, or none. Always begins where a name begins."""


_Token = str | _Wildcard
"""A wildcard, or the regular expression of exactly one character."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Glob:
    tokens: tuple[_Token, ...]
    below_only: bool
    """The pattern ended in a slash: it takes what is below the folder, not a file so named."""


def glob_regex(pattern: str) -> str:
    r"""Translate one pattern into a regular expression that a whole path must match.

    `*` and `?` stay within one name. `**/` where a name begins stands for any folders or none;
    `**` anywhere else for any characters across folders. `[abc0-9]` and `[!abc]` stand for one
    character, never for a slash; `[*]`, `[?]` and `[[]` for these characters themselves; what is
    not a well-formed class stands for itself. A backslash is an ordinary character.

    A pattern without a slash (but at its end) matches a name at any depth; with one it starts at
    the root. It takes the path so named and all that is below it; with a slash at its end, only
    what is below. Never fails.

    The result is to be matched whole, case-sensitively, with newlines as ordinary characters.
    In SQL: `path_text COLLATE "C" ~ ('^(?:' || regex || ')$')`, in a UTF8 database.
    """
    glob = _parse(pattern)
    return _portable(glob.tokens) + ("/.*" if glob.below_only else "(?:/.*)?")


def name_regex(pattern: str) -> str:
    """Translate a pattern without slashes for one name alone: no folders before, nothing below."""
    return _portable(_parse("/" + pattern).tokens)


def forward_regex(pattern: str) -> str:
    """Translate one pattern for Python alone: the meaning of `glob_regex`, without going back.

    Taking the first place that fits is right here. The tokens between two wildcards that cross
    folders can only end earlier by starting earlier, and whatever matches after a later end also
    matches after an earlier one. Within them the same holds for `*` in the names it may reach.
    Hence the atomic groups. The time for one path is bounded by its length times the longest
    name in it, for each wildcard.

    To be compiled with `re.DOTALL` and used with `fullmatch`.
    """
    glob = _parse(pattern)
    end = "(?=/).*" if glob.below_only else "(?![^/]).*"
    units = list(_split(glob.tokens, (_Wildcard.PATH, _Wildcard.FOLDERS)))
    seeks = {None: "", _Wildcard.PATH: ".*?", _Wildcard.FOLDERS: "(?:.*?/)??"}
    return "".join(
        f"(?>{seeks[crossing]}{_unit(tokens, end if number == len(units) else '')})"
        for number, (crossing, tokens) in enumerate(units, start=1)
    )


def _portable(tokens: Sequence[_Token]) -> str:
    return "".join(t if isinstance(t, str) else t.value for t in tokens)


def _unit(tokens: Sequence[_Token], end: str) -> str:
    """Write down tokens without wildcards that cross folders: each `*` seeks what follows it."""
    runs = ["".join(map(str, run)) for _, run in _split(tokens, (_Wildcard.NAME,))]
    runs[-1] += end
    return runs[0] + "".join(f"(?>[^/]*?{run})" for run in runs[1:])


def _split(
    tokens: Sequence[_Token], at: Sequence[_Wildcard]
) -> Iterator[tuple[_Wildcard | None, list[_Token]]]:
    """Split tokens at some wildcards: each piece with the wildcard before it, the first without."""
    before: _Wildcard | None = None
    piece: list[_Token] = []
    for token in tokens:
        if isinstance(token, _Wildcard) and token in at:
            yield before, piece
            before, piece = token, []
        else:
            piece.append(token)
    yield before, piece


def _parse(pattern: str) -> _Glob:
    body = pattern.strip("/")
    tokens: list[_Token] = []
    if "/" not in pattern.rstrip("/"):
        tokens.append(_Wildcard.FOLDERS)
    at = 0
    while at < len(body):
        token, at = _next_token(body, at)
        if token in (_Wildcard.PATH, _Wildcard.NAME) and _Wildcard.PATH in tokens[-1:]:
            continue  # `.*` already stands for it
        if token is _Wildcard.PATH:
            while tokens and isinstance(tokens[-1], _Wildcard):
                tokens.pop()
        elif token is _Wildcard.FOLDERS and token in tokens[-1:]:
            continue
        tokens.append(token)
    return _Glob(tokens=tuple(tokens), below_only=len(body) > 0 and pattern.endswith("/"))


def _next_token(body: str, at: int) -> tuple[_Token, int]:
    """Read one token; give it and where the next begins."""
    if body.startswith("**/", at) and body[at - 1 : at] in ("", "/"):
        return _Wildcard.FOLDERS, at + 3
    if body.startswith("**", at):
        return _Wildcard.PATH, at + 2
    if body[at] == "*":
        return _Wildcard.NAME, at + 1
    if body[at] == "?":
        return "[^/]", at + 1
    if body[at] == "[" and (end := body.find("]", at)) > 0:
        character_class = _character_class(body[at + 1 : end])
        if character_class is not None:
            return character_class, end + 1
    return _quote(body[at]), at + 1


def _character_class(text: str) -> str | None:
    """Write down the class between two brackets, or None if it is not well-formed."""
    negated = text.startswith("!")
    rest = text[1:] if negated else text
    if not rest or "/" in rest:
        return None
    ranges: list[tuple[int, int]] = []
    while rest:
        width = 3 if len(rest) >= 3 and rest[1] == "-" else 1  # `a-c`, or one character
        low, high = ord(rest[0]), ord(rest[width - 1])
        if low > high:
            return None
        ranges.append((low, high))
        rest = rest[width:]
    if negated:
        ranges.append((ord("/"), ord("/")))
        return "[^" + "".join(_range(low, high) for low, high in ranges) + "]"
    return "[" + "".join(_without_slash(low, high) for low, high in ranges) + "]"


def _without_slash(low: int, high: int) -> str:
    slash = ord("/")
    if not low <= slash <= high:
        return _range(low, high)
    below = _range(low, slash - 1) if low < slash else ""
    above = _range(slash + 1, high) if slash < high else ""
    return below + above


def _range(low: int, high: int) -> str:
    return _in_class(low) if low == high else f"{_in_class(low)}-{_in_class(high)}"


def _in_class(code: int) -> str:
    """Write one character of a class by its number, unless it is a plain letter or digit."""
    character = chr(code)
    if character.isascii() and character.isalnum():
        return character
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _quote(character: str) -> str:
    if character.isascii() and character.isprintable() and not character.isalnum():
        return "\\" + character if character not in "_/" else character
    return character
