"""Folders full of what no recorder writes, and files that change or fail while they are read.

What else is odd on a disk is tried elsewhere: odd names, links, pipes, sockets, devices and deep
trees as they are listed in tests/contract/test_finder.py; links and pipes that are put in a file's
place in tests/contract/test_source.py; unreadable folders in tests/e2e/test_trouble.py.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from daemon import under_prefix as under
from fuse_folder import fuse_folder
from test_engine import Store, make

from sensordrop.adapters.finder import FindFinder, WalkFinder
from sensordrop.adapters.source import FolderSource
from sensordrop.core.failure import FailureError, FailureScope
from sensordrop.core.lifecycle import Failed, Gone, Stored, Unsettled
from sensordrop.core.model import Claim
from sensordrop.engine.attempt import attempt
from sensordrop.ports.reading import DigestPlan

LEVELS = 1_000


def deep_file(root: Path, name: str, content: bytes) -> str:
    """Write a file a thousand folders down: no call takes its whole path. Give the path."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(file, content)
    os.close(file)
    os.close(here)
    return "d/" * LEVELS + name


@pytest.fixture
def deep(station):
    """Give the station's drop folder; it is removed whatever is in it: Python's own recurses."""
    yield station.drop
    subprocess.run(["rm", "-rf", station.drop / "d"], check=True)


def test_a_hostile_tree_arrives_as_far_as_it_is_files_and_the_rest_is_told(station, deep):
    """One daemon, one drop, and everything that a file system can hold at once."""
    drop = station.drop
    sensor = drop / "S1"
    sensor.mkdir()
    files = {
        "S1/plain.wav": b"plain",
        "S1/Case.wav": b"upper",
        "S1/case.wav": b"lower",
        "s1/case.WAV": b"another folder",
        "S1/empty.wav": b"",
    }
    for path, content in files.items():
        (drop / path).parent.mkdir(exist_ok=True)
        (drop / path).write_bytes(content)
    # A hole of 3 MiB, and space that is allocated and was never written.
    with (sensor / "sparse.wav").open("wb") as sparse:
        sparse.truncate(3 << 20)
        sparse.seek((3 << 20) - 4)
        sparse.write(b"tail")
    with (sensor / "preallocated.wav").open("wb") as allocated:
        allocated.write(b"head")
        os.posix_fallocate(allocated.fileno(), 0, 1 << 20)
    files["S1/sparse.wav"] = b"\0" * ((3 << 20) - 4) + b"tail"
    files["S1/preallocated.wav"] = b"head" + b"\0" * ((1 << 20) - 4)
    # Two names of one file are two files.
    (sensor / "linked.wav").hardlink_to(sensor / "plain.wav")
    files["S1/linked.wav"] = b"plain"
    outside = station.folder / "outside.wav"
    outside.write_bytes(b"not ours")
    for name, target in {
        "loop": "loop", "out.wav": outside, "out folder": station.folder, "dangling.wav": "nowhere",
        "up": "..", "shadow.wav": "/etc/shadow",
    }.items():  # fmt: skip
        (sensor / name).symlink_to(target)
    os.mkfifo(sensor / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as made:
        descriptor = os.open(sensor, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{descriptor}/socket.wav")
        os.close(descriptor)
    special = {"S1/pipe.wav", "S1/socket.wav"}
    if os.geteuid() == 0:
        os.mknod(sensor / "device.wav", stat.S_IFCHR | 0o644, os.makedev(1, 5))  # never ends
        special.add("S1/device.wav")
    too_deep = deep_file(deep, "deep.wav", b"deep")

    station.delivery(times_to_retry=0)
    station.start()
    expected = dict.fromkeys(files, "uploaded") | {too_deep: "failed"}
    station.wait_for_states(expected)
    station.wait_for_session_end()
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    assert station.bucket.digests() == under(digests)
    ignored = station.ledger.ignored()
    links = {
        f"S1/{n}" for n in ("loop", "out.wav", "out folder", "dangling.wav", "up", "shadow.wav")
    }
    assert {path for path, reason in ignored.items() if reason == "symbolic link"} == links
    assert {path for path, reason in ignored.items() if reason == "not a regular file"} == special
    failures = station.ledger.failures(too_deep)
    assert [failure["error_class"] for failure in failures] == ["key-too-long"]


# --- files that change between hash and send ----------------------------------------------


class Meddling(Store):
    """A store in front of which somebody meddles with the file while it is sent."""

    def __init__(self, meddle) -> None:
        super().__init__()
        self._meddle = meddle

    def store(self, content, *arguments, **options):
        self._meddle()
        return super().store(content, *arguments, **options)


def tried(root: Path, store: Store) -> object:
    """Make one attempt on the file of a folder."""
    delivery = make(root, 1, store)
    sighting = delivery.settings.source.look(b"a.wav")
    assert sighting is not None
    claim = Claim(
        upload_id=1,
        delivery_id=1,
        path=b"a.wav",
        path_text="a.wav",
        fingerprint=sighting.fingerprint,
        claim_number=1,
        attempts=0,
        crashes=0,
    )
    return attempt(claim, delivery, threading.Event())


def replaced(file: Path) -> None:
    """Put another file of the same length under the name, as editors do."""
    other = file.with_name("other")
    other.write_bytes(b"x" * file.stat().st_size)
    times = file.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.rename(file)


CONTENT = b"recording" * 1000


@pytest.mark.parametrize(
    "meddle",
    [
        lambda file: file.write_bytes(CONTENT + b"more"),
        lambda file: os.truncate(file, 10),
        lambda file: os.truncate(file, 0),
        lambda file: file.write_bytes(b"x" * len(CONTENT)),
        lambda file: os.utime(file, (1e9, 1e9)),
        replaced,
        lambda file: file.unlink(),
    ],
    ids=["grown", "shrunk", "emptied", "overwritten", "touched", "replaced", "deleted"],
)
def test_what_changes_between_hash_and_send_is_never_called_stored(tmp_path, meddle):
    file = tmp_path / "a.wav"
    file.write_bytes(CONTENT)
    assert isinstance(tried(tmp_path, Store()), Stored)
    outcome = tried(tmp_path, Meddling(lambda: meddle(file)))
    assert isinstance(outcome, Unsettled)
    assert outcome.why == "it changed while it was uploaded"


def test_a_file_that_goes_between_listing_and_open_is_gone_and_nothing_is_sent(tmp_path):
    file = tmp_path / "a.wav"
    file.write_bytes(CONTENT)
    store = Store()
    delivery = make(tmp_path, 1, store)
    source = delivery.settings.source
    look = source.look

    def look_and_delete(path):
        seen = look(path)
        file.unlink()
        return seen

    source.look = look_and_delete
    sighting = source.look(b"a.wav")
    claim = Claim(
        upload_id=1, delivery_id=1, path=b"a.wav", path_text="a.wav",
        fingerprint=sighting.fingerprint, claim_number=1, attempts=0, crashes=0,
    )  # fmt: skip
    assert attempt(claim, delivery, threading.Event()) == Gone()
    assert store.calls == 0


# --- disks that fail ----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "offset"), [(1000, 0), (3 << 20, 2 << 20), (9 << 20, 8 << 20)])
def test_a_disk_that_fails_in_the_middle_of_a_file_is_a_failure_of_that_file(
    tmp_path, size, offset
):
    files = {"a.wav": b"x" * size, "b.wav": b"well"}
    with fuse_folder(tmp_path / "card", files) as card:
        card.fail("a.wav", errno.EIO, offset)
        store = Store()
        outcome = tried(card.path, store)
        assert isinstance(outcome, Failed)
        assert outcome.failure.scope is FailureScope.FILE
        assert outcome.failure.error_class == "read-error"
        assert "a.wav" in outcome.failure.message
        assert store.calls == 0
        with FolderSource(str(card.path)).open(b"b.wav") as neighbour:
            assert neighbour.digest(DigestPlan(), threading.Event()) == 4
        # And when it fails only while it is sent.
        card.fail("a.wav", 0)
        with FolderSource(str(card.path)).open(b"a.wav") as file:
            file.digest(DigestPlan(), threading.Event())
            card.fail("a.wav", errno.EIO, offset)
            if size > 8 << 20:  # a smaller one is sent from memory
                with file.open() as reader, pytest.raises(FailureError, match=r"read a\.wav"):
                    list(iter(lambda: reader.read(1 << 20), b""))


def test_a_card_with_a_bad_file_is_stored_but_for_that_file(station):
    files = {f"S1/{n}.wav": b"recording %d" % n for n in range(5)}
    with fuse_folder(station.drop, files) as card:
        card.fail("S1/2.wav", errno.EIO)
        station.delivery(times_to_retry=1, retry_delay_seconds=0)
        station.start()
        station.wait_for_states(dict.fromkeys(files, "uploaded") | {"S1/2.wav": "failed"})
        failures = station.ledger.failures("S1/2.wav")
        assert {failure["error_class"] for failure in failures} == {"read-error"}
        assert "dmesg" in failures[-1]["hint"] or "disk" in failures[-1]["hint"]
        station.wait_for_session_end()
        assert station.daemon.stop() == 0


@pytest.mark.parametrize("make_finder", [FindFinder, WalkFinder], ids=["find", "walk"])
def test_a_card_that_is_pulled_during_the_sweep_makes_it_partial(tmp_path, make_finder):
    slot = tmp_path / "slot"
    slot.mkdir()
    tried = subprocess.run(["mount", "-t", "tmpfs", "none", slot], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"nothing can be mounted here: {tried.stderr.decode().strip()}")
    try:
        for number in range(20_000):
            os.close(os.open(slot / f"{number:040}.wav", os.O_CREAT | os.O_WRONLY))
        finder = make_finder()
        chunks = finder.list(str(slot), threading.Event(), lambda _: None)
        next(chunks)
    finally:
        subprocess.run(["umount", "-l", slot], check=True)
    for _ in chunks:
        pass
    assert not finder.report.complete
    assert "replaced" in (finder.report.problem or "")


@pytest.mark.parametrize("make_finder", [FindFinder, WalkFinder], ids=["find", "walk"])
def test_a_name_that_a_damaged_card_lists_and_does_not_know_is_told_where_it_matters(
    tmp_path, make_finder
):
    with fuse_folder(tmp_path / "card", {"S1/a.wav": b"a", "S1/b.wav": b"b"}) as card:
        card.lose("S1/b.wav")
        assert sorted(os.listdir(card.path / "S1")) == ["a.wav", "b.wav"]  # noqa: PTH208
        finder = make_finder()
        for strict in (False, True):
            for _ in finder.list(str(card.path), threading.Event(), lambda _: None, strict=strict):
                pass
            assert finder.report.files == 1
            assert finder.report.complete is not strict, finder.report
        assert "b.wav: No such file" in (finder.report.problem or "").replace("'", "")
