"""Reads one configuration file, YAML or JSON, into keys and values; or says what is wrong.

In YAML every plain value but an empty one is text here, whatever it looks like: each key's kind
knows how to read it. So `cycle: 007` stays "007", `s3_prefix: 2025-09-09` is no date, and `no`
is only a boolean where a boolean is expected.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml

from sensordrop.config.problem import Problem, ProblemCode, shown

SIZE_LIMIT_BYTES = 256 * 1024
"""Longer configuration files are refused: something else was put there."""

DEPTH_LIMIT = 10
"""Lists and mappings inside each other. Our deepest key needs two."""

_EMPTY = frozenset({"", "~", "null", "Null", "NULL"})
_QUOTE = "put quotes around a value that begins with '*', '&', '!', '%', '@' or '`'"


class _Mark(Protocol):
    """A place in a text, counted from 0. PyYAML has two classes for it."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class SyntaxMistakeError(Exception):
    """A text is neither YAML nor JSON as it is used here."""

    def __init__(self, what: str, suggestion: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.suggestion = suggestion


@dataclass(kw_only=True, slots=True)
class Parsed:
    """A text's value, and the keys that stand in it twice, each with the words to say so."""

    value: object = None
    doubled: dict[str, str] = field(default_factory=dict)


def read_document(path: Path, label: str, problems: list[Problem]) -> dict[str, object] | None:
    """Read a file's keys and values; add what is wrong to `problems`. None if there are none.

    Blocks on the disk. An empty file has no keys, and is no problem.
    """
    text = read_text(path, label, problems)
    if text is None:
        return None
    is_json = path.suffix.lower() == ".json"
    try:
        parsed = parse_json(text) if is_json else parse_yaml(text)
    except SyntaxMistakeError as error:
        problems.append(
            Problem(
                file=label,
                what=error.what,
                expected="JSON" if is_json else "YAML",
                suggestion=error.suggestion,
                code=ProblemCode.SYNTAX,
            )
        )
        return None
    problems += [
        Problem(
            file=label, key=key, what=what, expected="each key once", code=ProblemCode.DUPLICATE
        )
        for key, what in parsed.doubled.items()
    ]
    if parsed.value is None:
        return {}
    if not isinstance(parsed.value, dict):
        problems.append(
            Problem(
                file=label,
                value=parsed.value,
                expected="a mapping of keys to values",
                suggestion="write lines like 'bucket_name: recordings'",
            )
        )
        return None
    return {str(key): value for key, value in parsed.value.items()}


def read_text(path: Path, label: str, problems: list[Problem]) -> str | None:
    """Read a small UTF-8 file, or add to `problems` why it can't be. Blocks on the disk."""

    def problem(what: str, suggestion: str = "") -> None:
        problems.append(
            Problem(
                file=label,
                what=what,
                expected="a readable UTF-8 text file",
                suggestion=suggestion,
                code=ProblemCode.UNREADABLE,
            )
        )

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            problem("is not a file")
            return None
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT_BYTES + 1)
    except PermissionError:
        problem("can't be read: permission denied", "let the daemon's user read it")
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        words = error.strerror if isinstance(error, OSError) else None
        problem(f"can't be read: {(words or str(error)).lower()}")
        return None
    if len(content) > SIZE_LIMIT_BYTES:
        problem(f"is longer than {SIZE_LIMIT_BYTES // 1024} KiB, so it is no configuration")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem(f"is not UTF-8 text (line {line})", "save it as UTF-8")
        return None


def parse_json(text: str) -> Parsed:
    """Parse JSON, and note doubled keys. Raises SyntaxMistakeError."""
    parsed = Parsed()

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in items:
            if key in found:
                parsed.doubled[key] = "stands there twice"
            found[key] = value
        return found

    if not text.strip():
        return parsed
    try:
        parsed.value = json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SyntaxMistakeError(f"is not JSON: {where}: {error.msg.lower()}") from None
    except ValueError:  # a number of thousands of digits
        raise SyntaxMistakeError("is not JSON: a number is too long") from None
    except RecursionError:
        raise SyntaxMistakeError("is nested too deeply") from None
    _check_depth(parsed.value)
    return parsed


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_LIMIT + 1):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [
            x
            for item in inner
            if not isinstance(item, str) and isinstance(item, Iterable)
            for x in item
        ]
        if not level:
            return
    raise SyntaxMistakeError("is nested too deeply")


def parse_yaml(text: str) -> Parsed:
    """Parse the part of YAML that is used here, and note doubled keys.

    One document of mappings, lists and text; without anchors, aliases and tags.
    Raises SyntaxMistakeError with line and column.
    """
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = error.problem or error.context or "can't be understood"
        tab = "\\t" in words
        raise SyntaxMistakeError(
            f"is not YAML: {_place(mark)}{words}",
            "indent with spaces, not with tabs" if tab else _hint(text, mark),
        ) from None
    except yaml.YAMLError as error:
        words = getattr(error, "reason", None) or "can't be understood"
        raise SyntaxMistakeError(f"is not YAML: {words}") from None
    except (ValueError, OverflowError):  # PyYAML lets a \U escape beyond Unicode fall through
        raise SyntaxMistakeError("is not YAML: a character that does not exist") from None
    return builder.parsed


def _place(mark: _Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _hint(text: str, mark: _Mark | None) -> str:
    if mark is None:
        return ""
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    value = line.partition(":")[2].strip() or line.strip().removeprefix("- ")
    return _QUOTE if value.startswith(("*", "&", "!", "%", "@", "`")) else ""


@dataclass(kw_only=True, slots=True)
class _Open:
    """A list or mapping that has begun and not ended."""

    container: dict[str, object] | list[object]
    key: str | None = None
    lines: dict[str, int] = field(default_factory=dict)


class _Builder:
    """Makes values of YAML's events, without recursion and without constructing objects."""

    def __init__(self) -> None:
        self.parsed = Parsed()
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._refuse(event, "a second document begins", "one file is one delivery")
            case yaml.AliasEvent():
                self._refuse(event, "an alias is not used here", _QUOTE)
            case yaml.ScalarEvent():
                self._check(event)
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._check(event)
                self._begin(event, {})
            case yaml.SequenceStartEvent():
                self._check(event)
                self._begin(event, [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
            case _:
                pass  # the stream's own beginning and end, the document's end

    def _refuse(self, event: yaml.Event, words: str, suggestion: str) -> None:
        raise SyntaxMistakeError(f"{_place(event.start_mark)}{words}", suggestion)

    def _check(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.anchor is not None:
            self._refuse(event, "an anchor is not used here", _QUOTE)
        if event.tag not in {None, "!"}:
            self._refuse(event, "a tag is not used here", _QUOTE)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.container, dict) and top.key is None:
            self._key(top, event)
            return
        plain = event.style is None
        self._put(event, None if plain and event.value in _EMPTY else event.value)

    def _key(self, top: _Open, event: yaml.ScalarEvent) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        top.key = event.value
        if event.value in top.lines:
            first = top.lines[event.value]
            self.parsed.doubled[event.value] = f"stands there twice, in lines {first} and {line}"
        top.lines[event.value] = line

    def _begin(self, event: yaml.Event, container: dict[str, object] | list[object]) -> None:
        self._put(event, container)
        if len(self._open) >= DEPTH_LIMIT:
            self._refuse(event, "is nested too deeply", "")
        self._open.append(_Open(container=container))

    def _put(self, event: yaml.Event, value: object) -> None:
        if not self._open:
            self.parsed.value = value
            return
        top = self._open[-1]
        if isinstance(top.container, list):
            top.container.append(value)
        elif top.key is None:
            self._refuse(event, f"{shown(value)} can't be a key", "")
        else:
            top.container[top.key] = value
            top.key = None
