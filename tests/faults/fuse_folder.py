"""A folder on a real FUSE file system that a test can make hang, fail, or lie about its files.

The server speaks the kernel's protocol (linux/fuse.h) on /dev/fuse, read-only, in a process of its
own: nothing needs to be installed, and a request that gets no answer blocks its caller exactly as
a dead NFS server does. It can be mounted where root may mount; elsewhere tests say that they
can't.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MNT_DETACH = 2
LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 14, 15, 17, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT = 25, 26, 27, 28, 29, 36
DESTROY, BATCH_FORGET = 38, 42
NO_ANSWER = {FORGET, BATCH_FORGET, INTERRUPT}
MINOR = 31
REQUEST_BYTES = 1 << 20
DIRECT_IO = 1

_libc = ctypes.CDLL(None, use_errno=True)


# --- the test's side ----------------------------------------------------------------------


class FuseFolder:
    """A mounted folder, and the means to trouble it."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        self.path = path
        self._process = process

    def hang(self) -> None:
        """Answer nothing any more, from now on."""
        self._say("hang")

    def hang_reads(self) -> None:
        """Answer everything but the reading of files."""
        self._say("hang", READ)

    def answer(self) -> None:
        """Answer what waits, and all that comes."""
        self._say("answer")

    def fail(self, path: str, number: int, offset: int = 0) -> None:
        """Have reads of a file fail from an offset on; number 0: no more."""
        self._say("fail", path, number, offset)

    def lose(self, path: str) -> None:
        """List a file, and know nothing of it when it is looked at: so do damaged cards."""
        self._say("lose", path)

    def _say(self, *words: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def fuse_folder(
    path: Path, files: Mapping[str, bytes], *, kind: str = "fuse.sensordroptest"
) -> Iterator[FuseFolder]:
    """Mount files on a folder as a FUSE file system of a kind; skips where that is not allowed."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("only root can mount a FUSE file system here, with /dev/fuse")
    path.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, __file__, str(path), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({name: body.hex() for name, body in files.items()}) + "\n")
        process.stdin.flush()
        told = process.stdout.readline()
        if told != "mounted\n":
            pytest.skip(f"a FUSE file system can't be mounted on this machine: {told.strip()}")
        yield FuseFolder(path, process)
    finally:
        _libc.umount2(os.fsencode(path), MNT_DETACH)
        process.kill()  # whoever still waits for an answer gets an error now
        process.wait()
        process.stdin.close()
        process.stdout.close()


# --- the server's side --------------------------------------------------------------------


class _Server:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.nodes: list[dict[str, int] | bytes] = [{}, {}]
        self.paths: dict[str, int] = {"": 1}
        for path, body in files.items():
            self._add(path, body)
        self.hanging: set[int] | None = set()
        self.failing: dict[int, tuple[int, int]] = {}
        self.lost: set[int] = set()
        self.held: list[bytes] = []
        self.began = int(time.time()) - 3600

    def _add(self, path: str, content: dict[str, int] | bytes) -> int:
        if path not in self.paths:
            folder, _, name = path.rpartition("/")
            above = self.nodes[self._add(folder, {})]
            assert isinstance(above, dict)
            self.paths[path] = above[name] = len(self.nodes)
            self.nodes.append(content)
        return self.paths[path]

    def obey(self, words: list[object]) -> None:
        match words:
            case ["hang"]:
                self.hanging = None
            case ["hang", int(operation)]:
                self.hanging = {operation}
            case ["answer"]:
                self.hanging = set()
            case ["lose", str(path)]:
                self.lost.add(self.paths[path])
            case ["fail", str(path), int(number), int(offset)]:
                self.failing[self.paths[path]] = (number, offset)

    def holds(self, operation: int) -> bool:
        return operation != INIT and (self.hanging is None or operation in self.hanging)

    def reply(self, operation: int, node: int, body: bytes) -> bytes | int:
        """Give the answer to a request, or the number of an error."""
        match operation:
            case 26:  # INIT
                return struct.pack("<IIIIHHIIHH32x", 7, MINOR, 0, 0, 16, 12, 1 << 17, 1, 32, 0)
            case 1:  # LOOKUP
                folder = self.nodes[node]
                assert isinstance(folder, dict)
                found = folder.get(os.fsdecode(body.rstrip(b"\0")))
                if found is None or found in self.lost:
                    return errno.ENOENT
                return struct.pack("<QQQQII", found, 0, 0, 0, 0, 0) + self._attributes(found)
            case 3:  # GETATTR
                return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
            case 14 | 27:  # OPEN, OPENDIR
                return struct.pack("<QII", 0, DIRECT_IO if operation == OPEN else 0, 0)
            case 15 | 28:  # READ, READDIR
                _, offset, size = struct.unpack_from("<QQI", body)
                return self._read(node, offset, size)
            case 17:  # STATFS
                return struct.pack("<QQQQQIIII24x", 0, 0, 0, len(self.nodes), 0, 4096, 255, 4096, 0)
            case 18 | 25 | 29 | 38:  # RELEASE, FLUSH, RELEASEDIR, DESTROY
                return b""
        return errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        content = self.nodes[node]
        folder = isinstance(content, dict)
        mode = stat.S_IFDIR | 0o555 if folder else stat.S_IFREG | 0o444
        size = 0 if folder else len(content)
        return struct.pack(
            "<QQQQQQIIIIIIIIII",
            node, size, 0, self.began, self.began, self.began, 0, 0, 0,
            mode, 1, os.getuid(), os.getgid(), 0, 4096, 0,
        )  # fmt: skip

    def _read(self, node: int, offset: int, size: int) -> bytes | int:
        content = self.nodes[node]
        if not isinstance(content, dict):
            number, first = self.failing.get(node, (0, 0))
            if number and offset + size > first:
                return number
            return content[offset : offset + size]
        entries = b""
        for at, (name, number) in enumerate(content.items()):
            raw = os.fsencode(name)
            kind = (stat.S_IFDIR if isinstance(self.nodes[number], dict) else stat.S_IFREG) >> 12
            entry = struct.pack("<QQII", number, at + 1, len(raw), kind) + raw
            entry += b"\0" * (-len(entry) % 8)
            if at >= offset and len(entries) + len(entry) <= size:
                entries += entry
            elif at >= offset:
                break
        return entries


def _answer(device: int, server: _Server, request: bytes) -> None:
    _, operation, unique, node = struct.unpack_from("<IIQQ", request)
    if operation in NO_ANSWER:
        return
    if server.holds(operation):
        server.held.append(request)
        return
    answer = server.reply(operation, node, request[40:])
    number, body = (answer, b"") if isinstance(answer, int) else (0, answer)
    with suppress(FileNotFoundError):  # whoever asked was interrupted
        os.write(device, struct.pack("<IiQ", 16 + len(body), -number, unique) + body)


def _tell(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _serve(path: str, kind: str) -> None:
    lines = iter(sys.stdin.readline, "")
    files = {name: bytes.fromhex(body) for name, body in json.loads(next(lines)).items()}
    server = _Server(files)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
    if _libc.mount(b"none", os.fsencode(path), kind.encode(), 0, options.encode()):
        _tell(os.strerror(ctypes.get_errno()))
        return
    _tell("mounted")
    while True:
        ready, _, _ = select.select([device, sys.stdin], [], [])
        if sys.stdin in ready:
            line = next(lines, None)
            if line is None:
                return
            server.obey(json.loads(line))
            waiting, server.held = server.held, []
            for request in waiting:
                _answer(device, server, request)
            _tell("done")
        if device in ready:
            try:
                _answer(device, server, os.read(device, REQUEST_BYTES))
            except OSError as error:
                if error.errno not in {errno.EINTR, errno.ENOENT}:
                    return  # it was unmounted


if __name__ == "__main__":
    _serve(*sys.argv[1:])
