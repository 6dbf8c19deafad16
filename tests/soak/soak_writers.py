"""Whoever drops cards in a soak: slowly, in a hurry, twice, wrongly, and by the seed.

Each delivery has a writer in a thread of its own. It notes in the `Record` what every file held as
a whole, before anybody can see it: that is the truth that the oracle judges by.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import re
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from soak_disk import mounted, unmount
from soak_oracle import Path as FilePath
from soak_oracle import Truth, keys_of, text_of

LARGE_SHARE = 0.02
PART_BYTES = 5 * 1024 * 1024
"""The threshold of parts that the soak's deliveries are given."""
PIECE_BYTES = 16 * 1024
LONG_AGO_SECONDS = 30 * 24 * 3600
COPY_MARK = re.compile(r"~[0-9a-f]{16}(?=(\.[^./]*)?$)")
"""What the key of a copy has more than the file's own."""
ODD_NAMES = (  # all that moto can keep: one with a line feed it answers with 404
    b"\x07bell\rreturn.wav",
    b"\x1b[31mred\x1b[0m.wav",
    b"\xff\xfe not utf-8.wav",
    b"back\\x41slash.wav",
    b"percent%2e%2e%2f.wav",
    "Käuzchen \U0001f989.wav".encode(),
    b"'; DROP TABLE file_uploads; --.wav",
    b"$(touch hit) `id`.wav",
    b"..\\..\\up.wav",
    b"#?&=+ .wav",
)


class Record:
    """The truth as it comes to be. Safe from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[FilePath, set[str]] = defaultdict(set)
        self._junk: set[FilePath] = set()
        self._hopeless: set[FilePath] = set()
        self._rewritten: set[FilePath] = set()
        self._foreign: dict[str, str] = {}
        self.done: Counter[str] = Counter()
        """What writers did that is a fault to the daemon, by its kind."""

    def version(self, path: FilePath, content: bytes) -> None:
        with self._lock:
            self._versions[path].add(hashlib.sha256(content).hexdigest())

    def junk(self, path: FilePath) -> None:
        with self._lock:
            self._junk.add(path)

    def hopeless(self, path: FilePath) -> None:
        with self._lock:
            self._hopeless.add(path)

    def rewritten(self, path: FilePath) -> None:
        with self._lock:
            self._rewritten.add(path)

    def foreign(self, key: str, content: bytes) -> None:
        with self._lock:
            self._foreign[key] = hashlib.sha256(content).hexdigest()

    def did(self, kind: str) -> None:
        with self._lock:
            self.done[kind] += 1

    def truth(self, prefixes: dict[str, str], damaged: set[str]) -> Truth:
        spoiled = {COPY_MARK.sub("", key) for key in damaged if COPY_MARK.search(key)}
        with self._lock:
            return Truth(
                prefixes=prefixes,
                versions={path: frozenset(each) for path, each in self._versions.items()},
                junk=frozenset(self._junk),
                hopeless=frozenset(self._hopeless),
                rewritten=frozenset(self._rewritten),
                foreign=dict(self._foreign),
                damaged=frozenset(damaged),
                spoiled=frozenset(
                    path
                    for path in self._versions
                    if path[0] in prefixes and keys_of(prefixes[path[0]], path[1], "")[0] in spoiled
                ),
            )


class Writer:
    """Drops things into one delivery's folder until it is told to stop, and then heals it.

    What it makes belongs to `owner`, the user that the daemon runs as, so that rights which are
    taken away are missed.
    """

    def __init__(
        self,
        *,
        name: str,
        root: Path,
        aside: Path,
        prefix: str,
        seed: str,
        record: Record,
        owner: int | None,
        put_foreign: Callable[[str, bytes], None],
        may_rewrite: bool,
        may_mount: bool = False,
        rest_seconds: tuple[float, float] = (0.2, 1.5),
    ) -> None:
        self.name = name
        self.root = root
        self._aside = aside
        self._prefix = prefix
        self._dice = random.Random(f"{seed}/writer/{name}")
        self._record = record
        self._owner = owner
        self._put_foreign = put_foreign
        self._rest_seconds = rest_seconds
        self._numbers = 0
        self._files: list[bytes] = []
        """Files that are in the folder, and may be worked on again."""
        self._closed: list[tuple[float, Path, int]] = []
        """What can't be read just now: until when, what, and its mode."""
        self.problem: BaseException | None = None
        deeds = [
            (30, self.copy_card),
            (12, self.move_card_in),
            (8, self.drop_odd_name),
            (6, self.drop_large),
            (6, self.touch),
            (6, self.replace),
            (6, self.junk_on_card),
            (6, self.conflict),
            (4, self.same_is_stored),
            (4, self.come_and_go),
            (4, self.remove_card),
            (5, self.lock_file),
            (4, self.lock_folder),
            (2, self.unplug),
            (1, self.too_long_a_name),
        ]
        if may_mount:
            deeds.append((2, self.mount_over))
        if may_rewrite:
            deeds += [(8, self.rewrite), (4, self.go_on_writing)]
        self._weights = [weight for weight, _ in deeds]
        self._deeds = [deed for _, deed in deeds]

    def run(self, stop: threading.Event) -> None:
        """Drop things until `stop` is set, then make all readable again."""
        self._stop = stop
        try:
            while not stop.is_set():
                (deed,) = self._dice.choices(self._deeds, self._weights)
                deed()
                self._reopen(time.monotonic())
                stop.wait(self._dice.uniform(*self._rest_seconds))
        except BaseException as problem:  # noqa: BLE001 — told by whoever waits for the writer
            self.problem = problem
        finally:
            self._reopen(float("inf"))

    # --- cards ----------------------------------------------------------------------------

    def copy_card(self) -> None:
        """Copy a card as a file manager does: one file after the other, in pieces."""
        folder = self._new_card()
        for _ in range(self._dice.randrange(2, 12)):
            self._copy(folder, self._new_name(), self._content(), slowly=self._dice.random() < 0.1)

    def move_card_in(self) -> None:
        """Fill a folder elsewhere and move it in as a whole."""
        folder = self._new_card()
        elsewhere = self._aside / os.fsdecode(folder)
        elsewhere.mkdir(parents=True)
        made = []
        for _ in range(self._dice.randrange(1, 10)):
            name, content = self._new_name(), self._content()
            path = folder + b"/" + name
            self._record.version((self.name, path), content)
            file = elsewhere / os.fsdecode(name)
            file.write_bytes(content)
            then = time.time() - self._dice.uniform(0, LONG_AGO_SECONDS)
            os.utime(file, (then, then))
            made.append(path)
        for each in [elsewhere, *elsewhere.iterdir()]:
            self._own(each)
        elsewhere.rename(self._path(folder))
        self._files += made

    def drop_odd_name(self) -> None:
        self._copy(self._new_card(), self._dice.choice(ODD_NAMES), self._content())

    def drop_large(self) -> None:
        """Drop a file that is sent in parts, or just not."""
        if self._dice.random() < 0.5:
            size = self._dice.choice([PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 17])
        else:
            size = self._dice.randrange(300_000, PART_BYTES)
        self._copy(self._new_card(), self._new_name(), self._dice.randbytes(size))

    def come_and_go(self) -> None:
        """Make a file and take it away again at once."""
        folder, name = self._new_card(), self._new_name()
        self._copy(folder, name, self._content(), remember=False)
        time.sleep(self._dice.uniform(0, 2.5))
        self._path(folder + b"/" + name).unlink()

    def remove_card(self) -> None:
        """Take a card's folder away, stored or not."""
        if not self._files:
            return
        folder = self._dice.choice(self._files).split(b"/")[0]
        self._reopen(float("inf"))
        shutil.rmtree(self._path(folder))
        self._forget_below(folder)
        self._record.did("card-removed")

    def junk_on_card(self) -> None:
        folder = self._new_card()
        for name in (b".DS_Store", b"._A.WAV", b"Thumbs.db"):
            self._record.junk((self.name, folder + b"/" + name))
            self._copy(folder, name, b"junk", remember=False)
        self._copy(folder, self._new_name(), self._content())

    def too_long_a_name(self) -> None:
        """Drop a file whose key no store takes."""
        deep = b"/".join([self._new_card(), *([b"x" * 200] * 5)])
        name = self._new_name()
        self._record.hopeless((self.name, deep + b"/" + name))
        self._copy(deep, name, b"hopeless", remember=False)

    # --- what is in the bucket already ----------------------------------------------------

    def conflict(self) -> None:
        """Drop a file under whose key somebody else has put other content of its size."""
        self._drop_beside(same=False)

    def same_is_stored(self) -> None:
        """Drop a file that somebody else has stored already."""
        self._drop_beside(same=True)

    def _drop_beside(self, *, same: bool) -> None:
        folder, name, content = self._new_card(), self._new_name(), self._content()
        key, _ = keys_of(self._prefix, folder + b"/" + name, "")
        there = content if same else self._dice.randbytes(len(content))
        self._put_foreign(key, there)
        self._record.foreign(key, there)
        self._copy(folder, name, content)
        self._record.did("stored-by-others" if same else "conflict")

    # --- files that change ----------------------------------------------------------------

    def touch(self) -> None:
        """Give some files new times and nothing else."""
        for path in self._some():
            with self._open_again(path):
                os.utime(self._path(path))
        self._record.did("touched")

    def replace(self) -> None:
        """Put another file in a file's place at once."""
        for path in self._some():
            content = self._content()
            self._record.version((self.name, path), content)
            fresh = self._aside / f"fresh-{self._number()}"
            fresh.write_bytes(content)
            self._own(fresh)
            with self._open_again(path):
                fresh.rename(self._path(path))
        self._record.did("replaced")

    def rewrite(self) -> None:
        """Write a file anew in place, in pieces, while it may be read."""
        for path in self._some(most=2):
            content = self._content()
            self._record.rewritten((self.name, path))
            self._record.version((self.name, path), content)
            with self._open_again(path), self._path(path).open("r+b", buffering=0) as file:
                file.truncate()
                self._write(file, content, slowly=True)
        self._record.did("rewritten")

    def go_on_writing(self) -> None:
        """Close a file at half, and go on with it later."""
        folder, name, content = self._new_card(), self._new_name(), self._content() + b"tail"
        half = content[: len(content) // 2]
        path = folder + b"/" + name
        self._record.rewritten((self.name, path))
        self._record.version((self.name, path), content)
        self._copy(folder, name, half)
        time.sleep(self._dice.uniform(0, 2.0))
        with self._path(path).open("ab", buffering=0) as file:
            self._write(file, content[len(half) :], slowly=True)
        self._record.did("gone-on-with")

    # --- the disk -------------------------------------------------------------------------

    def lock_file(self) -> None:
        """Make files unreadable for a while."""
        for path in self._some():
            self._close(self._path(path))
        self._record.did("file-unreadable")

    def lock_folder(self) -> None:
        for path in self._some(most=1):
            self._close(self._path(path).parent)
        self._record.did("folder-unreadable")

    def unplug(self) -> None:
        """Take the whole folder away for some seconds."""
        self._reopen(float("inf"))
        away = self._aside / "unplugged"
        self.root.rename(away)
        self._stop.wait(self._dice.uniform(0.5, 4.0))
        away.rename(self.root)
        self._record.did("folder-away")

    def mount_over(self) -> None:
        """Put an empty disk over the folder for some seconds, as an automounter does that is late."""
        self._reopen(float("inf"))
        if not mounted(self.root, "size=1m", "mode=755"):
            return
        try:
            self._stop.wait(self._dice.uniform(0.5, 4.0))
        finally:
            unmount(self.root)
        self._record.did("folder-mounted-over")

    def _close(self, what: Path) -> None:
        if any(what == each for _, each, _ in self._closed):
            return
        self._closed.append(
            (time.monotonic() + self._dice.uniform(1, 6), what, what.stat().st_mode & 0o777)
        )
        what.chmod(0)

    def _reopen(self, now: float) -> None:
        """Make readable again what was closed long enough."""
        for each in [each for each in self._closed if each[0] <= now]:
            self._closed.remove(each)
            _, what, mode = each
            what.chmod(mode)

    @contextlib.contextmanager
    def _open_again(self, path: bytes) -> Iterator[None]:
        """Let the writer itself at a file that it had closed."""
        if os.geteuid() != 0:
            self._reopen(float("inf"))
        yield

    # --- pieces of deeds ------------------------------------------------------------------

    def _copy(
        self,
        folder: bytes,
        name: bytes,
        content: bytes,
        *,
        slowly: bool = False,
        remember: bool = True,
    ) -> None:
        path = folder + b"/" + name
        self._record.version((self.name, path), content)
        file = self._path(path)
        missing = [each for each in file.parents if not each.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        for each in missing:
            self._own(each)
        with file.open("wb", buffering=0) as opened:
            self._own(file)
            self._write(opened, content, slowly=slowly)
            if self._dice.random() < 0.5:  # as `cp -p` does
                then = time.time() - self._dice.uniform(0, LONG_AGO_SECONDS)
                os.utime(opened.fileno(), (then, then))
        if remember:
            self._files.append(path)

    def _write(self, file: Any, content: bytes, *, slowly: bool) -> None:
        piece = max(1, len(content) // 4) if slowly else PIECE_BYTES * 16
        for start in range(0, len(content), piece):
            file.write(content[start : start + piece])
            if slowly:
                time.sleep(self._dice.uniform(0.05, 0.7))

    def _new_card(self) -> bytes:
        return b"%s-%06d" % (self.name.encode(), self._number())

    def _new_name(self) -> bytes:
        return b"20250909_%06d.WAV" % self._number()

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _content(self) -> bytes:
        """Give bytes that are like no others, most of them few."""
        size = int(2 ** self._dice.uniform(4, 17))
        return b"%s %d " % (self.name.encode(), self._number()) + self._dice.randbytes(size)

    def _some(self, most: int = 4) -> list[bytes]:
        count = min(len(self._files), self._dice.randrange(1, most + 1))
        return self._dice.sample(self._files, count)

    def _path(self, path: bytes) -> Path:
        return self.root / os.fsdecode(path)

    def _own(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, self._owner, self._owner, follow_symlinks=False)

    def _forget_below(self, folder: bytes) -> None:
        self._files = [path for path in self._files if path.split(b"/")[0] != folder]


def leases_work(folder: Path) -> bool:
    """Tell whether the kernel says here that somebody writes a file (without it, a pause in
    somebody's writing that is longer than `quiet_seconds` can't be told from its end)."""
    probe = folder / "lease-probe"
    probe.touch()
    descriptor = os.open(probe, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(descriptor)
        probe.unlink()
    return True


__all__ = ["PART_BYTES", "Record", "Writer", "leases_work", "text_of"]
