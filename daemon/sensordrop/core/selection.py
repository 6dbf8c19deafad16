"""What counts: which names are a card's junk, which are excluded, and what kind a file is.

The rules are compiled once into regular expressions in the part of the syntax that Python and
PostgreSQL read alike, so that a sweep of two million names is judged inside the ledger by the
same rules that judge a single name here. A test holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sensordrop.core.glob import forward_regex, glob_regex, name_regex
from sensordrop.core.model import EntryType, FileKind

__all__ = [
    "EXTENSIONS",
    "JUNK_FILES",
    "JUNK_FOLDERS",
    "KIND_BY_EXTENSION",
    "IgnoreReason",
    "Selection",
    "extension_of",
    "glob_regex",
    "kind_of",
]

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


def _any_of(patterns: Sequence[str], write: Callable[[str], str]) -> str | None:
    return "|".join(f"(?:{write(pattern)})" for pattern in patterns) if patterns else None


def _compiled(patterns: Sequence[str]) -> re.Pattern[str] | None:
    regex = _any_of(patterns, forward_regex)
    return re.compile(regex, re.DOTALL) if regex else None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A delivery's rules for what is uploaded.

    `extensions` None means every extension: nothing that may be data is left behind unless the
    operator says so; they may be given in any case, with or without their dot. Junk is matched
    without regard to case (cards are FAT), `include` and `exclude` exactly.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    extensions: tuple[str, ...] | None = None
    _junk: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _exclude: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _include: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        if self.extensions is not None:
            plain = tuple(_ascii_lower(e).removeprefix(".") for e in self.extensions)
            set_field(self, "extensions", plain)
        junk_flags = re.DOTALL | re.ASCII | re.IGNORECASE
        set_field(self, "_junk", re.compile(self.junk_regex, junk_flags))
        set_field(self, "_exclude", _compiled(self.exclude))
        set_field(self, "_include", _compiled(self.include))

    @property
    def junk_regex(self) -> str:
        """The junk rule; to be matched whole and without regard to ASCII case.

        In SQL: `path_text COLLATE "C" ~ ('(?i)^(?:' || junk_regex || ')$')`.
        """
        folders = "|".join(name_regex(name) for name in JUNK_FOLDERS)
        files = "|".join(name_regex(name) for name in JUNK_FILES)
        return f"(?:.*/)?(?:(?:{folders})(?:/.*)?|{files})"

    @property
    def exclude_regex(self) -> str | None:
        """The operator's `exclude`, or None; to be matched whole, like `glob_regex`."""
        return _any_of(self.exclude, glob_regex)

    @property
    def include_regex(self) -> str | None:
        """The operator's `include`, or None; to be matched whole, like `glob_regex`."""
        return _any_of(self.include, glob_regex)

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
