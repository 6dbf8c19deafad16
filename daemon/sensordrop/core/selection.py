"""What counts: which names are a card's junk, which are excluded, and what kind a file is.

The rules are compiled once into regular expressions in the part of the syntax that Python and
PostgreSQL read alike, so that a sweep of two million names is judged inside the ledger by the
same rules that judge a single name here. A test holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sensordrop.core.model import EntryType, FileKind

JUNK_FOLDERS = (
    "System Volume Information",
    "$RECYCLE.BIN",
    "RECYCLER",
    ".Trash",
    ".Trashes",
    ".Trash-*",
    ".Spotlight-V100",
    ".DocumentRevisions-V100",
    ".fseventsd",
    ".TemporaryItems",
    ".dtrash",
    "LOST.DIR",
)
"""Folders that operating systems and cameras leave on cards; all below them is junk.

`FOUND.000` is not here: the recovered chunks in it may hold recordings.
"""

JUNK_FILES = (
    "._*",
    ".DS_Store",
    ".apdisk",
    ".VolumeIcon.icns",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
)
"""File names that operating systems leave on cards. A leading dot alone makes nothing junk."""

EXTENSIONS: Mapping[FileKind, tuple[str, ...]] = {
    FileKind.AUDIO: (
        "wav", "wave", "flac", "mp3", "ogg", "oga", "opus", "wac", "w4v", "zc", "m4a", "aac",
        "aif", "aiff", "wma", "caf", "wv",
    ),
    FileKind.IMAGE: (
        "jpg", "jpeg", "png", "tif", "tiff", "heic", "heif", "webp", "bmp", "gif", "dng", "cr2",
        "cr3", "nef", "arw", "orf", "raf", "rw2",
    ),
    FileKind.VIDEO: (
        "mp4", "avi", "mov", "mkv", "m4v", "mpg", "mpeg", "mts", "m2ts", "wmv", "3gp", "webm",
        "tls", "asf", "h264",
    ),
    FileKind.SIDECAR: (
        "txt", "csv", "tsv", "log", "json", "xml", "yaml", "yml", "ini", "cfg", "conf", "gpx",
        "kml", "nmea", "miniconfig", "minidiags", "sm4dump", "dump", "sum", "md5", "sha256",
        "thm", "xmp", "dat", "set", "pgm",
    ),
}  # fmt: skip
"""Extensions by kind, lower case, without the dot. Everything else is `other`."""

KIND_BY_EXTENSION: Mapping[str, FileKind] = {
    extension: kind for kind, extensions in EXTENSIONS.items() for extension in extensions
}


class IgnoreReason:
    """Why a folder entry is not uploaded: the words that stand in the ledger."""

    JUNK = "junk"
    EXCLUDED = "excluded"
    NOT_INCLUDED = "not included"
    EXTENSION = "extension not listed"
    LINK = "symbolic link"
    SPECIAL = "not a regular file"


def extension_of(text: str) -> str:
    """Give a path's extension in lower case (ASCII letters only), without the dot, or ''."""
    name = text.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return _ascii_lower(extension) if dot and stem else ""


def kind_of(text: str) -> FileKind:
    """Tell what a file holds by its extension."""
    return KIND_BY_EXTENSION.get(extension_of(text), FileKind.OTHER)


def _ascii_lower(text: str) -> str:
    if text.isascii():
        return text.lower()
    return "".join(c.lower() if c.isascii() else c for c in text)


def _quote(character: str) -> str:
    if character.isalnum() or character == "_" or ord(character) < 32 or ord(character) > 126:
        return character
    return "\\" + character


_CLASS = re.compile(r"\[(!?)([A-Za-z0-9_-]+)\]")


def glob_regex(pattern: str) -> str:
    """Translate one pattern into a regular expression that a whole path must match.

    `*` and `?` stay within one name, `**` crosses folders, `[abc0-9]` and `[!abc]` are character
    classes. A pattern without a slash matches a name at any depth; with one it starts at the
    root. A pattern that names a folder takes all that is below it.
    """
    anchored = "/" in pattern.rstrip("/")
    body = pattern.strip("/")
    out: list[str] = []
    at = 0
    while at < len(body):
        if body.startswith("**/", at):
            out.append("([^/]+/)*")
            at += 3
        elif body.startswith("**", at):
            out.append(".*")
            at += 2
        elif body[at] == "*":
            out.append("[^/]*")
            at += 1
        elif body[at] == "?":
            out.append("[^/]")
            at += 1
        elif character_class := _CLASS.match(body, at):
            negated = "^/" if character_class.group(1) else ""
            out.append(f"[{negated}{character_class.group(2)}]")
            at = character_class.end()
        else:
            out.append(_quote(body[at]))
            at += 1
    lead = "" if anchored else "(.*/)?"
    return f"{lead}{''.join(out)}(/.*)?"


def _any_of(patterns: Sequence[str]) -> str | None:
    return "|".join(f"({glob_regex(p)})" for p in patterns) if patterns else None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A delivery's rules for what is uploaded.

    `extensions` None means every extension: nothing that may be data is left behind unless the
    operator says so. Junk is matched without regard to case (cards are FAT), `include` and
    `exclude` exactly.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    extensions: tuple[str, ...] | None = None
    _junk: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _exclude: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _include: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        flags = re.DOTALL | re.ASCII
        set_field = object.__setattr__
        set_field(self, "_junk", re.compile(self.junk_regex, flags | re.IGNORECASE))
        for name, regex in (("_exclude", self.exclude_regex), ("_include", self.include_regex)):
            set_field(self, name, re.compile(regex, flags) if regex else None)

    @property
    def junk_regex(self) -> str:
        """The junk rule; to be matched whole and without regard to ASCII case."""
        files = "|".join(f"(.*/)?{_strip_below(glob_regex(name))}" for name in JUNK_FILES)
        return f"({_any_of(JUNK_FOLDERS)})|{files}"

    @property
    def exclude_regex(self) -> str | None:
        """The operator's `exclude`, or None; to be matched whole."""
        return _any_of(self.exclude)

    @property
    def include_regex(self) -> str | None:
        """The operator's `include`, or None; to be matched whole."""
        return _any_of(self.include)

    def ignore_reason(self, text: str, entry_type: EntryType = EntryType.FILE) -> str | None:
        """Say why an entry is not uploaded, or None if it is. `text` is the path as text."""
        if self._junk.fullmatch(text):
            return IgnoreReason.JUNK
        if self._exclude and self._exclude.fullmatch(text):
            return IgnoreReason.EXCLUDED
        if entry_type is EntryType.LINK:
            return IgnoreReason.LINK
        if entry_type is not EntryType.FILE:
            return IgnoreReason.SPECIAL
        if self._include and not self._include.fullmatch(text):
            return IgnoreReason.NOT_INCLUDED
        if self.extensions is not None and extension_of(text) not in self.extensions:
            return IgnoreReason.EXTENSION
        return None


def _strip_below(regex: str) -> str:
    """Make a pattern match a last component only: without its lead and without what is below."""
    return regex.removeprefix("(.*/)?").removesuffix("(/.*)?")
