"""Lists a delivery's folder, by native `find` or by a walk in Python, as rows for COPY."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import cache
from itertools import islice

from sensordrop.adapters.listing import NOT_ENDED, Problems, Root, opened_folder, record_of, rows_of
from sensordrop.core.keys import path_text
from sensordrop.core.selection import JUNK_FOLDERS, glob_regex
from sensordrop.ports.finding import ListingChunk, ListingReport
from sensordrop.ports.life import StopFlag

CHUNK_BYTES = 256 * 1024
"""Records per chunk, in bytes: fewer than 10,000 entries, so progress is told often enough."""

CHUNK_ENTRIES = 2_000
"""Entries per chunk of the walk."""

STDERR_BYTES = 64 * 1024
"""How much of what find writes to stderr is kept; the rest is read and only counted."""

POLL_MILLISECONDS = 250
"""How long a silent find keeps us from looking at the stop flag."""

END_SECONDS = 5.0
"""How long find may take to end after SIGTERM, and then after SIGKILL."""

PROBE_SECONDS = 30.0
"""How long find may take to say what it can do: it is loaded from a disk that may be busy."""

FOLDER_MARK = b"///\0"
"""What find prints for a folder: counted and taken out. No record can hold three slashes."""

_JUNK_FOLDER = re.compile(
    "|".join(f"({glob_regex(pattern)})" for pattern in JUNK_FOLDERS), re.IGNORECASE | re.ASCII
)
_QUOTED_ROOT = re.compile(rb"'\.(?=[/'])")
_OCTAL = re.compile(rb"\\(\\|[0-7]{3})")

_CAN_USE_DESCRIPTORS = os.scandir in os.supports_fd and {os.open, os.stat, os.access} <= (
    os.supports_dir_fd
)


# --- native find --------------------------------------------------------------------------


@cache
def find_is_gnu(program: str = "find") -> bool:
    """Tell whether this machine's find can do what is wanted of it: print facts of entries.

    GNU's can. That of macOS, the BSDs and BusyBox can't, and Windows calls another program find.
    Asked once for a process; blocks for some milliseconds.
    """
    asked = ["-maxdepth", "0", "-readable", "-printf", "%y//%C@"]
    try:
        done = subprocess.run(
            [program, os.sep, "-ignore_readdir_race", *asked], check=False, capture_output=True,
            stdin=subprocess.DEVNULL, timeout=PROBE_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.startswith(b"d//")


class FindFinder:
    """Lists by GNU find. Implements `Finder`."""

    def __init__(self, program: str = "find") -> None:
        self._program = program
        self._report = NOT_ENDED

    @property
    def report(self) -> ListingReport:
        """How the last listing ended."""
        return self._report

    def list(
        self,
        root: str,
        stop: StopFlag,
        progress: Callable[[int], None],
        *,
        strict: bool = False,
    ) -> Iterator[ListingChunk]:
        """Yield the listing in chunks of about `CHUNK_BYTES`."""
        self._report = NOT_ENDED
        problems = Problems()
        folder = Root(root)
        files = folders = 0
        try:
            if folder.is_there(problems):
                # Closed in order: the report below must hear from find first.
                with closing(self._blocks(folder, stop, problems, strict)) as blocks:
                    for block in blocks:
                        folders += block.count(FOLDER_MARK)
                        records = block.replace(FOLDER_MARK, b"")
                        if b"//-" in records:
                            records = _with_exact_times(records, folder.path)
                        chunk = rows_of(records)
                        files += chunk.entries
                        progress(files)
                        if chunk.entries:
                            yield chunk
                folder.check_unchanged(problems)
                if not folders and not stop.is_set():
                    # The root itself is marked too: without it find has not seen the root.
                    problems.add(f"{path_text(folder.name)}: find listed nothing")
        finally:
            self._report = problems.report(files=files, folders=folders)

    def _blocks(
        self, folder: Root, stop: StopFlag, problems: Problems, strict: bool
    ) -> Generator[bytes, None, None]:
        """Run find and yield its output in blocks of whole records."""
        try:
            process = subprocess.Popen(
                [self._program, *_find_arguments(strict)],
                # Inside the root, find needs neither the root's name, which may look like an
                # option, nor our working directory, which may be closed to it.
                cwd=folder.path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
                bufsize=0,
            )
        except OSError as error:
            where = path_text(folder.name)
            problems.add(
                f"{where}: {self._program} can't be started there: {error.strerror}; "
                "use_find: no does without it"
            )
            return
        complaints = _Complaints()
        finished = False
        try:
            yield from _read_blocks(process, stop, complaints)
            finished = not stop.is_set()
        finally:
            _end(process, finished=finished)
            complaints.tell(problems, folder)
            status = process.returncode
            if not finished:
                problems.add("the listing was ended before it was complete")
            elif status is None or status < 0:
                name = _signal_name(-status) if status else "us: it did not end by itself"
                problems.add(f"{self._program} was killed by {name}")
            elif status > 0 and not problems.any:
                problems.add(f"{self._program} ended with exit status {status}")


def _find_arguments(strict: bool = False) -> Sequence[str]:
    record = r"%y//%s//%T@//%C@//%P\0"
    names = [word for pattern in JUNK_FOLDERS for word in ("-o", "-iname", pattern)][1:]
    leniently = [] if strict else ["-ignore_readdir_race"]
    # fmt: off
    return [
        ".", *leniently,
        # A folder with a junk name that can't be read is an entry and left alone; every other
        # folder, the root included (here its name is a dot), is only marked; all else is an entry.
        "-type", "d", "(",
            "(", *names, ")", "!", "(", "-readable", "-executable", ")",
            "-printf", record, "-prune",
            "-o", "-printf", r"///\0",
        ")",
        "-o", "-printf", record,
    ]
    # fmt: on


def _read_blocks(
    process: subprocess.Popen[bytes], stop: StopFlag, complaints: _Complaints
) -> Iterator[bytes]:
    """Read both of find's pipes as they fill, so that neither can block it."""
    assert process.stdout is not None
    assert process.stderr is not None
    output, errors = process.stdout.fileno(), process.stderr.fileno()
    poller = select.poll()
    poller.register(output, select.POLLIN)
    poller.register(errors, select.POLLIN)
    open_pipes = {output, errors}
    pieces: list[bytes] = []
    size = 0
    while open_pipes and not stop.is_set():
        for descriptor, _ in poller.poll(POLL_MILLISECONDS):
            data = os.read(descriptor, CHUNK_BYTES)
            if not data:
                poller.unregister(descriptor)
                open_pipes.remove(descriptor)
            elif descriptor == errors:
                complaints.take(data)
            else:
                pieces.append(data)
                size += len(data)
        if size >= CHUNK_BYTES or output not in open_pipes:
            joined = b"".join(pieces)
            cut = joined.rfind(b"\0") + 1
            pieces, size = [joined[cut:]], len(joined) - cut
            if cut:
                yield joined[:cut]
    if size and not stop.is_set():
        complaints.take(b"find: its last record is cut off\n")


class _Complaints:
    """What find wrote to stderr, in bounded memory."""

    def __init__(self) -> None:
        self._kept = b""
        self._beyond = 0
        self._lines_beyond = 0

    def take(self, data: bytes) -> None:
        room = STDERR_BYTES - len(self._kept)
        self._kept += data[:room]
        self._beyond += len(data[room:])
        self._lines_beyond += data[room:].count(b"\n")

    def tell(self, problems: Problems, folder: Root) -> None:
        if self._beyond:
            self._kept = self._kept[: self._kept.rfind(b"\n") + 1]  # its rest is counted
        for line in self._kept.splitlines():
            # In the C locale find quotes paths, and in them each byte that is not ASCII as octal.
            raw = line.removeprefix(b"find: ")
            raw = _QUOTED_ROOT.sub(lambda _: b"'" + folder.name, raw, count=1)
            raw = _OCTAL.sub(lambda m: _unquote(m.group(1)), raw)
            problems.add(path_text(raw))
        problems.add_uncounted(self._lines_beyond)


def _unquote(quoted: bytes) -> bytes:
    return quoted if quoted == b"\\" else bytes([int(quoted, 8) & 0xFF])


def _end(process: subprocess.Popen[bytes], *, finished: bool) -> None:
    """See find off: wait for it if it has finished, else end it. Bounded; leaves no zombie."""
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    if not finished:
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    if process.returncode is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _with_exact_times(records: bytes, root: str) -> bytes:
    """Look again at entries from before 1970, whose fractions of a second find gets wrong.

    GNU find 4.9 writes the whole seconds and the fraction of such a time side by side though
    they have opposite signs: half a second before 1970 becomes -1.5.
    """
    return b"".join(_with_exact_time(record, root) for record in records.split(b"\0")[:-1])


def _with_exact_time(record: bytes, root: str) -> bytes:
    _, _, mtime, ctime, path = record.split(b"//", 4)
    if not (mtime.startswith(b"-") or ctime.startswith(b"-")):
        return record + b"\0"
    try:
        with opened_folder(root, path.rpartition(b"/")[0]) as descriptor:
            name = path.rpartition(b"/")[2]
            return record_of(os.stat(name, dir_fd=descriptor, follow_symlinks=False), path)
    except OSError:
        # It has just vanished, or can't be looked at any more: what find saw is close enough
        # for a file that will be looked at again before anything is done with it.
        return record + b"\0"


# --- the portable walk --------------------------------------------------------------------


class WalkFinder:
    """Lists by a walk in Python. Implements `Finder`.

    With descriptors (wherever the system has them) a path may be longer than the system's limit
    for one call. Memory grows with the number of folders that wait to be listed, not with files.
    """

    def __init__(self, *, descriptors: bool = _CAN_USE_DESCRIPTORS) -> None:
        self._descriptors = descriptors
        self._report = NOT_ENDED

    @property
    def report(self) -> ListingReport:
        """How the last listing ended."""
        return self._report

    def list(
        self,
        root: str,
        stop: StopFlag,
        progress: Callable[[int], None],
        *,
        strict: bool = False,
    ) -> Iterator[ListingChunk]:
        """Yield the listing in chunks of `CHUNK_ENTRIES`."""
        self._report = NOT_ENDED
        problems = Problems()
        folder = Root(root)
        files = 0
        walk = _Walk(folder, stop, problems, self._descriptors, strict)
        finished = False
        try:
            if folder.is_there(problems):
                records = walk.records()
                while block := b"".join(islice(records, CHUNK_ENTRIES)):
                    chunk = rows_of(block)
                    files += chunk.entries
                    progress(files)
                    yield chunk
                folder.check_unchanged(problems)
            finished = not stop.is_set()
        finally:
            if not finished:
                problems.add("the listing was ended before it was complete")
            self._report = problems.report(files=files, folders=walk.folders)


class _Walk:
    """One walk through all folders of a root."""

    def __init__(
        self, root: Root, stop: StopFlag, problems: Problems, descriptors: bool, strict: bool
    ) -> None:
        self._root = root
        self._stop = stop
        self._problems = problems
        self._strict = strict
        self._scan = self._scan_by_descriptor if descriptors else self._scan_by_path
        self.folders = 0

    def records(self) -> Iterator[bytes]:
        """Yield the record of each entry; errors go to the problems."""
        waiting = [b""]
        self.folders = 1
        while waiting:
            folder = waiting.pop()
            try:
                for name, entry, unreadable in self._scan(folder):
                    if self._stop.is_set():
                        return
                    path = folder + b"/" + name if folder else name
                    if entry.is_dir(follow_symlinks=False) and not unreadable:
                        self.folders += 1
                        waiting.append(path)
                    elif (record := self._look(entry, path)) is not None:
                        yield record
            except OSError as error:
                # Also for a folder that was removed since its parent was read: find complains
                # of that too, and what a folder held when it went is not known.
                self._problems.add_error(self._full(folder), error)

    def _look(self, entry: os.DirEntry[str], path: bytes) -> bytes | None:
        try:
            return record_of(entry.stat(follow_symlinks=False), path)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)  # removed since its folder was read
            if self._strict or not gone:
                self._problems.add_error(self._full(path), error)
            return None

    def _full(self, path: bytes) -> bytes:
        return self._root.name + b"/" + path if path else self._root.name

    def _scan_by_descriptor(self, folder: bytes) -> Iterator[_Scanned]:
        with opened_folder(self._root.path, folder) as descriptor, os.scandir(descriptor) as found:
            for entry in found:
                unreadable = _is_junk_folder(entry) and not os.access(
                    entry.name, os.R_OK | os.X_OK, dir_fd=descriptor
                )
                yield os.fsencode(entry.name), entry, unreadable

    def _scan_by_path(self, folder: bytes) -> Iterator[_Scanned]:
        with os.scandir(f"{self._root.path}/{os.fsdecode(folder)}") as found:
            for entry in found:
                unreadable = _is_junk_folder(entry) and not os.access(entry.path, os.R_OK | os.X_OK)
                yield os.fsencode(entry.name), entry, unreadable


_Scanned = tuple[bytes, os.DirEntry[str], bool]
"""A name, its entry, and whether it is a folder with a junk name that can't be read."""


def _is_junk_folder(entry: os.DirEntry[str]) -> bool:
    return bool(_JUNK_FOLDER.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False)
