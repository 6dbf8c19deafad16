"""The files that are measured on: made once from a seed, kept below the work folder."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

SETTLED_SECONDS = 12.0
"""How old files must be when a run begins: older than `quiet_seconds` is by itself."""
BLOCK_BYTES = 1024 * 1024
LINE_BYTES = 48
"""How much of each file is its own: the rest is a stretch of one long run of random bytes."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What a folder holds. `content`: random bytes; else holes, for what is only listed."""

    files: int
    size_bytes: int
    folders: int
    content: bool = True
    seed: int = 1

    @property
    def total_bytes(self) -> int:
        """All files together."""
        return self.files * self.size_bytes


def tree(work: Path, spec: Tree) -> Path:
    """Give a folder that holds this; it is made where it is not there yet."""
    words = f"{spec.files}x{spec.size_bytes}in{spec.folders}"
    folder = work / "trees" / (words if spec.content else words + "-holes")
    mark = folder.with_suffix(".made")
    wanted = json.dumps(asdict(spec))
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(spec.folders):
        (folder / f"{950000 + number}").mkdir(parents=True)
    if spec.content:
        _write(folder, spec)
    else:
        _punch(folder, spec)
    mark.write_text(wanted, encoding="utf-8")
    return folder


def wait_until_settled(folder: Path) -> None:
    """Wait until every file is as old as a card's files are: made long before they are dropped."""
    youngest = max((path.stat().st_ctime for path in folder.rglob("*")), default=0.0)
    time.sleep(max(0.0, youngest + SETTLED_SECONDS - time.time()))


def _path(folder: Path, spec: Tree, number: int) -> str:
    return f"{folder}/{950000 + number % spec.folders}/20250901_{number:07d}.WAV"


def _write(folder: Path, spec: Tree) -> None:
    """Write random bytes: nothing compresses, and no two files are equal."""
    dice = random.Random(spec.seed)  # noqa: S311 — to be repeated, not to be secret
    pool = dice.randbytes(2 * BLOCK_BYTES)
    for number in range(spec.files):
        with open(_path(folder, spec, number), "wb") as file:  # noqa: PTH123 — a million times
            left = spec.size_bytes
            while left > 0:
                own = dice.randbytes(min(LINE_BYTES, left))
                start = dice.randrange(BLOCK_BYTES)
                block = own + pool[start : start + min(BLOCK_BYTES, left) - len(own)]
                left -= file.write(block)


def _punch(folder: Path, spec: Tree) -> None:
    """Make files of that size that take no room on the disk: a listing can't tell."""
    for number in range(spec.files):
        at = os.open(_path(folder, spec, number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.ftruncate(at, spec.size_bytes + number % 1000)
        os.close(at)
