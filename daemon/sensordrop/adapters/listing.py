r"""What both finders share: an entry's record, COPY rows of records, and what went wrong.

The record is `type//size//mtime//ctime//path`, ended by a NUL. No path holds `//` or NUL, so the
form needs no escaping, and a block of thousands of records becomes COPY rows by a few
`bytes.replace` calls, without touching the single entry.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from sensordrop.core.keys import path_text
from sensordrop.core.model import EntryType
from sensordrop.ports.finding import ListingChunk, ListingReport

PROBLEM_LINES = 5
"""How many errors a report quotes; the others are counted."""

PROBLEM_LINE_CHARACTERS = 600
"""How much of one error is quoted: a path may have thousands of characters."""

STEP_BYTES = 2_048
"""A folder's path is opened in steps of about this size: one call takes less than 4,096 bytes."""

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.FOLDER,
    stat.S_IFLNK: EntryType.LINK,
    stat.S_IFIFO: EntryType.PIPE,
    stat.S_IFSOCK: EntryType.SOCKET,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
}

NOT_ENDED = ListingReport(
    files=0, folders=0, complete=False, problem="no listing has come to its end yet"
)


# --- records and rows ---------------------------------------------------------------------


def rows_of(block: bytes) -> ListingChunk:
    r"""Turn a block of whole records into COPY rows.

    A name's backslash is doubled for bytea's escape format and then again for COPY, so one
    becomes four. The sixth column stays empty unless some name in the block needs a text form of
    its own; then the block goes entry by entry.
    """
    entries = block.count(b"\0")
    if b"\\x" in block or not _is_utf8(block):
        rows = b"".join(map(_row_with_text, block.split(b"\0")[:-1]))
    else:
        rows = _escape(block.replace(b"\\", b"\\\\")).replace(b"//", b"\t")
        rows = rows.replace(b"\0", b"\t\n")
    return ListingChunk(rows=rows, entries=entries)


def _row_with_text(record: bytes) -> bytes:
    *numbers, path = record.split(b"//", 4)
    text = path_text(path).encode("utf-8")
    escaped = _escape(path.replace(b"\\", b"\\\\"))
    return b"\t".join((*numbers, escaped, b"" if text == path else _escape(text))) + b"\n"


def _escape(raw: bytes) -> bytes:
    """Escape for COPY's text format."""
    escaped = raw.replace(b"\\", b"\\\\").replace(b"\t", b"\\t")
    return escaped.replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def _is_utf8(block: bytes) -> bool:
    # One look at the whole block is enough: NUL and the slashes never continue a character.
    if block.isascii():
        return True
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def record_of(status: os.stat_result, path: bytes) -> bytes:
    """Make the record of an entry at a path relative to the root."""
    entry_type = _TYPES.get(stat.S_IFMT(status.st_mode), EntryType.UNKNOWN)
    mtime, ctime = _seconds(status.st_mtime_ns), _seconds(status.st_ctime_ns)
    return f"{entry_type}//{status.st_size}//{mtime}//{ctime}//".encode() + path + b"\0"


def _seconds(nanoseconds: int) -> str:
    """Write nanoseconds as seconds with ten decimals, as find does, without losing any."""
    whole, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{fraction:09d}0"


# --- folders with long paths --------------------------------------------------------------


@contextmanager
def opened_folder(root: str, path: bytes) -> Iterator[int]:
    """Open a folder below a root, however long its path is. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    try:
        for step in _steps(path):
            below = os.open(step, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _steps(path: bytes) -> Iterator[bytes]:
    """Cut a path at slashes into pieces that one system call takes."""
    while len(path) > STEP_BYTES:
        cut = path.rindex(b"/", 0, STEP_BYTES)
        yield path[:cut]
        path = path[cut + 1 :]
    if path:
        yield path


# --- what went wrong ----------------------------------------------------------------------


class Problems:
    """The first errors in words, and how many more there were."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._count = 0

    def add(self, line: str) -> None:
        """Take note of an error in words."""
        self._count += 1
        if len(self._lines) < PROBLEM_LINES:
            if len(line) > PROBLEM_LINE_CHARACTERS:
                half = PROBLEM_LINE_CHARACTERS // 2  # the reason stands at the end
                line = f"{line[:half]} … {line[-half:]}"
            self._lines.append(line)

    @property
    def any(self) -> bool:
        """Tell whether anything went wrong."""
        return self._count > 0

    def add_error(self, path: bytes, error: OSError) -> None:
        """Take note of what the system answered about a path."""
        self.add(f"{path_text(path)}: {error.strerror}")

    def add_uncounted(self, more: int) -> None:
        """Count errors whose words are not known any more."""
        self._count += more

    def report(self, *, files: int, folders: int) -> ListingReport:
        """Give the listing's report: complete if nothing went wrong."""
        more = self._count - len(self._lines)
        words = "; ".join(self._lines) + (f"; and {more:,} more" if more else "")
        return ListingReport(
            files=files, folders=folders, complete=self._count == 0, problem=words or None
        )


class Root:
    """The folder to list, and a way to tell afterwards that it still is the same one."""

    def __init__(self, root: str) -> None:
        self.path = root
        self.name = os.fsencode(root)
        self._identity: tuple[int, int] | None = None

    def is_there(self, problems: Problems) -> bool:
        """Look whether the root is a folder, and remember which."""
        identity = self._look(problems)
        if identity is None:
            return False
        self._identity = identity
        return True

    def check_unchanged(self, problems: Problems) -> None:
        """Look whether the root still is the folder that was seen first."""
        # A card reader that is pulled out, or a share that is mounted over the folder, in the
        # middle of a listing may leave a listing that looks well and is short.
        identity = self._look(problems)
        if identity is not None and identity != self._identity:
            problems.add(f"{path_text(self.name)}: was replaced during the listing")

    def _look(self, problems: Problems) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - text stays text
        except OSError as error:
            problems.add_error(self.name, error)
            return None
        except ValueError as error:  # a NUL in the path
            problems.add(f"{self.path!r}: {error}")
            return None
        if not stat.S_ISDIR(status.st_mode):
            problems.add(f"{path_text(self.name)}: is not a folder")
            return None
        return status.st_dev, status.st_ino
