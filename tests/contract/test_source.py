"""Reading the drop folder: never through links, never changed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from sensordrop.adapters.beneath import BeneathOpener
from sensordrop.adapters.opened_file import IN_MEMORY_BYTES, classified
from sensordrop.adapters.source import FolderSource
from sensordrop.core.failure import FailureError, FailureScope, InterruptedAttemptError
from sensordrop.core.model import EntryType
from sensordrop.ports.reading import DigestPlan, FileGoneError, RootMissingError

GO_ON = threading.Event()
"""A stop flag that nobody sets."""


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


@pytest.fixture(params=["one call", "folder by folder", "by path"])
def source(root, request) -> FolderSource:
    if request.param == "one call":
        return FolderSource(str(root))
    if request.param == "by path":
        return FolderSource(str(root), descriptors=False)
    return FolderSource(str(root), opener=None)


def opened(source: FolderSource, path: bytes) -> bytes:
    with source.open(path) as file, file.open() as reader:
        return reader.read()


def failure_of(source: FolderSource, path: bytes):
    with pytest.raises(FailureError) as caught, source.open(path):
        pass
    return caught.value.failure


def test_a_file_is_read_as_it_is(root, source):
    (root / "S1").mkdir()
    (root / "S1" / "a.wav").write_bytes(b"sound")
    assert opened(source, b"S1/a.wav") == b"sound"


@pytest.mark.parametrize("size", [0, 5, IN_MEMORY_BYTES, IN_MEMORY_BYTES + 1])
def test_digests_are_those_of_the_bytes_and_reading_again_gives_the_same(root, source, size):
    content = os.urandom(size)
    (root / "f").write_bytes(content)
    with source.open(b"f") as file:
        assert file.digest(DigestPlan(), GO_ON) == size
        assert file.sha256 == hashlib.sha256(content).digest()
        assert file.md5 == hashlib.md5(content).digest()
        for _ in range(2):
            with file.open() as reader:
                assert reader.read() == content
                reader.seek(1)
                assert reader.read(2) == content[1:3]


@pytest.mark.parametrize("md5", [True, False])
@pytest.mark.parametrize("size", [0, 1, 1_000_000, 3_000_000, 3_000_001, 9_500_000])
def test_pieces_have_digests_of_their_own(root, source, size, md5):
    content = os.urandom(size)
    (root / "f").write_bytes(content)
    cut = [content[at : at + 1_500_000] for at in range(0, size, 1_500_000)]
    with source.open(b"f") as file:
        file.digest(DigestPlan(md5=md5, piece_bytes=1_500_000), GO_ON)
        assert file.pieces is not None
        assert list(file.pieces.sha256s) == [hashlib.sha256(piece).digest() for piece in cut]
        expected = [hashlib.md5(piece).digest() for piece in cut] if md5 else []
        assert list(file.pieces.md5s) == expected
        assert file.sha256 == hashlib.sha256(content).digest()
        assert file.md5 == hashlib.md5(content).digest(), "it is there for whoever asks"


def test_hashing_a_file_can_be_broken_off(root, source):
    (root / "f").write_bytes(b"sound")
    stop = threading.Event()
    stop.set()
    with source.open(b"f") as file, pytest.raises(InterruptedAttemptError):
        file.digest(DigestPlan(), stop)


def test_a_small_file_is_sent_as_it_was_hashed(root, source):
    (root / "f").write_bytes(b"before")
    with source.open(b"f") as file:
        file.digest(DigestPlan(), GO_ON)
        (root / "f").write_bytes(b"later!")
        with file.open() as reader:
            assert reader.read() == b"before"


def test_links_lead_nowhere(root, source, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(b"secret")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to("loop")
    for path in (b"link", b"loop"):
        failure = failure_of(source, path)
        assert (failure.error_class, failure.permanent) == ("not-a-regular-file", True)
    with pytest.raises(FileGoneError), source.open(b"folder/f"):
        pass
    assert source.look(b"folder/f") is None
    sighting = source.look(b"link")
    assert sighting is not None
    assert sighting.entry_type is EntryType.LINK


@pytest.mark.parametrize("path", [b"../secret", b"/etc/passwd", b"a//b", b"a/./b", b"", b"a/.."])
def test_paths_that_lead_out_are_refused(source, path):
    with pytest.raises(ValueError, match="not a path below the root"), source.open(path):
        pass


def test_the_root_itself_may_be_a_link(root, tmp_path):
    (root / "f").write_bytes(b"x")
    (tmp_path / "alias").symlink_to(root)
    assert opened(FolderSource(str(tmp_path / "alias")), b"f") == b"x"


def test_a_pipe_does_not_block_and_is_no_file(root, source):
    os.mkfifo(root / "pipe")
    assert failure_of(source, b"pipe").error_class == "not-a-regular-file"
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(root)
        listener.bind("sock")
        os.chdir(before)
        assert failure_of(source, b"sock").error_class == "not-a-regular-file"
    folder = source.look(b"pipe")
    assert folder is not None
    assert folder.entry_type is EntryType.PIPE


def test_gone_files_and_gone_folders_are_told_apart(root, source):
    (root / "f").write_bytes(b"")
    with pytest.raises(FileGoneError), source.open(b"S/none"):
        pass
    (root / "f").unlink()
    root.rmdir()
    with pytest.raises(RootMissingError), source.open(b"f"):
        pass
    assert source.device() is None
    assert source.look(b"f") is None


def test_a_kernel_that_can_is_asked_once_and_follows_no_link(root, tmp_path):
    release = tuple(int(part) for part in re.findall(r"[0-9]+", os.uname().release)[:2])
    if release < (5, 6):
        pytest.skip("openat2 came with Linux 5.6")
    (root / "S1").mkdir()
    (root / "S1" / "f").write_bytes(b"sound")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "S1" / "link").symlink_to("f")
    (root / "folder").symlink_to("S1")
    (root / "out").symlink_to(tmp_path)
    opener = BeneathOpener(os.O_RDONLY)
    folder = os.open(root, os.O_RDONLY)
    try:
        descriptor = opener.open(folder, b"S1/f")
        assert descriptor is not None
        assert os.read(descriptor, 9) == b"sound"
        os.close(descriptor)
        for path in (b"S1/link", b"folder/f", b"out/secret", b"../secret", b"S1/f\0more", b"none"):
            assert opener.open(folder, path) is None, path
    finally:
        os.close(folder)


def test_a_file_says_what_it_was_when_it_was_opened(root, source):
    (root / "f").write_bytes(b"x")
    with source.open(b"f") as file:
        assert file.device == source.device()
        assert file.opened == file.fingerprint()
        (root / "f").write_bytes(b"longer")
        assert file.opened.size_bytes == 1
        assert file.fingerprint().size_bytes == 6


def test_paths_longer_than_the_system_allows_are_read(root, source, request):
    if request.node.callspec.params["source"] == "by path":
        pytest.skip("a system that opens by path alone takes no longer ones")
    at = os.open(root, os.O_RDONLY)
    parts = [b"d" * 200] * 30
    for part in parts:
        os.mkdir(part, dir_fd=at)
        deeper = os.open(part, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    file = os.open(b"f.wav", os.O_WRONLY | os.O_CREAT, dir_fd=at)
    os.write(file, b"deep")
    os.close(file)
    os.close(at)
    path = b"/".join([*parts, b"f.wav"])
    assert len(path) > 4096
    assert opened(source, path) == b"deep"
    subprocess.run(["rm", "-rf", root], check=True)


def test_a_writer_is_noticed_and_a_reader_is_not(root, source):
    (root / "f").write_bytes(b"x")
    with source.open(b"f") as file:
        assert file.being_written() is False
        with (root / "f").open("rb"):
            assert file.being_written() is False
        with (root / "f").open("ab"):
            assert file.being_written() is True
        assert file.being_written() is False


def test_asking_for_writers_survives_a_writer_that_opens_meanwhile(root):
    """The kernel sends SIGIO to a lease's holder; ignored, it must not end the process."""
    (root / "f").write_bytes(b"x")
    asker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import signal, sys, time\n"
                "from sensordrop.adapters.source import FolderSource\n"
                "signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
                "end = time.monotonic() + 2\n"
                "print('go', flush=True)\n"
                "while time.monotonic() < end:\n"
                "    with FolderSource(sys.argv[1]).open(b'f') as file:\n"
                "        file.being_written()\n"
            ),
            str(root),
        ],
        stdout=subprocess.PIPE,
    )
    assert asker.stdout is not None
    asker.stdout.readline()
    while asker.poll() is None:
        with (root / "f").open("ab"):
            pass
    assert asker.returncode == 0, signal.strsignal(-asker.returncode)
    asker.stdout.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_unreadable_file_is_a_failure_of_the_file():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "closed").write_bytes(b"x")
        (root / "closed").chmod(0)
        child = os.fork()
        if child == 0:  # the child never returns to pytest
            code = 3
            try:
                os.setuid(65534)
                with FolderSource(folder).open(b"closed"):
                    code = 1
            except FailureError as error:
                fine = error.failure.error_class == "unreadable" and not error.failure.permanent
                code = 0 if fine else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("code", "scope", "error_class"),
    [
        (errno.EMFILE, FailureScope.STATION, "descriptors"),
        (errno.ENFILE, FailureScope.STATION, "descriptors"),
        (errno.ENOMEM, FailureScope.STATION, "memory"),
        (errno.EIO, FailureScope.FILE, "read-error"),
        (errno.EACCES, FailureScope.FILE, "unreadable"),
        (errno.ELOOP, FailureScope.FILE, "not-a-regular-file"),
    ],
)
def test_what_the_system_says_is_classified(code, scope, error_class):
    failure = classified(OSError(code, os.strerror(code)), b"S/\xff", "open").failure
    assert (failure.scope, failure.error_class) == (scope, error_class)
    assert "S/\\xff" in failure.message
    assert failure.hint
