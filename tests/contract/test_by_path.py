"""Opening by path, where the system can't open below a descriptor: what is exchanged is noticed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sensordrop.adapters import by_path
from sensordrop.adapters.by_path import _read_in_turns as read_in_turns
from sensordrop.adapters.by_path import open_file


@pytest.fixture
def root(tmp_path) -> Path:
    for folder in ("drop", "away"):
        (tmp_path / folder / "S1").mkdir(parents=True)
        (tmp_path / folder / "S1" / "a.wav").write_text(folder)
    return tmp_path / "drop"


def exchange(root: Path) -> None:
    """Put a link that leads out in the folder's place, and the folder aside."""
    (root / "S1").rename(root / "aside")
    (root / "S1").symlink_to(root.parent / "away" / "S1")


def put_back(root: Path) -> None:
    (root / "S1").unlink()
    (root / "aside").rename(root / "S1")


@pytest.mark.parametrize("undone", [True, False])
def test_a_folder_that_becomes_a_link_while_a_file_is_opened_is_noticed(root, monkeypatch, undone):
    made = []

    def meanwhile(path: bytes, flags: int) -> int:
        exchange(root)
        made.append(os_open(path, flags))
        if undone:
            put_back(root)
        return made[-1]

    os_open = os.open
    monkeypatch.setattr(by_path.os, "open", meanwhile)
    with pytest.raises(OSError) as refused:
        open_file(os.fsencode(root), b"S1/a.wav")
    assert refused.value.errno in (errno.ENOENT, errno.ENOTDIR)
    with pytest.raises(OSError):
        os.fstat(made[0])  # nothing of it stays open


def test_a_file_that_is_replaced_while_it_is_opened_is_noticed(root, monkeypatch):
    def meanwhile(path: bytes, flags: int) -> int:
        descriptor = os_open(path, flags)
        (root / "new").write_text("other")
        (root / "new").rename(root / "S1" / "a.wav")
        return descriptor

    os_open = os.open
    monkeypatch.setattr(by_path.os, "open", meanwhile)
    with pytest.raises(FileNotFoundError, match="exchanged"):
        open_file(os.fsencode(root), b"S1/a.wav")


def test_names_that_mean_more_on_windows_are_refused_there(root, monkeypatch):
    monkeypatch.setattr(by_path.os, "sep", "\\")
    for path in (b"..\\x", b"C:x", b"S1/a.wav:stream"):
        with pytest.raises(FileNotFoundError):
            open_file(os.fsencode(root), path)


def test_reading_in_turns_gives_what_a_read_at_a_position_gives(root):
    descriptor = open_file(os.fsencode(root), b"S1/a.wav")
    try:
        assert read_in_turns(descriptor, 2, 1) == os.pread(descriptor, 2, 1) == b"ro"
        assert read_in_turns(descriptor, 9, 0) == b"drop"
    finally:
        os.close(descriptor)
