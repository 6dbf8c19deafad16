"""Both finders against real folders: the same tree, the same answer."""

# Paths are bytes here, and Path knows only text.
# ruff: noqa: PTH102, PTH103, PTH118, PTH123, PTH208

from __future__ import annotations

import os
import pickle
import shutil
import socket
import stat
import subprocess
import threading
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensordrop.adapters.finder import FindFinder, WalkFinder, find_is_gnu
from sensordrop.core.keys import path_text
from sensordrop.core.selection import JUNK_FOLDERS

FINDERS = {
    "find": FindFinder,
    "walk": WalkFinder,
    "walk without descriptors": lambda: WalkFinder(descriptors=False),
}
AS_ROOT = os.geteuid() == 0
ODD_NAMES = [
    b"with space", b"line\nbreak", b"carriage\rreturn", b"tab\there", b"back\\slash", b"\\x41",
    b"\\xzz", b"\\N", b"\\.", b"\\", b"ends with\\", b"-rf", b"--", b".hidden", b"...", b"!", b"(",
    b"'quote\"", b"%P%s", b"a+b", b"\xff\xfe", b"half \xc3", b"\xed\xb2\x80", "Dämmerung".encode(),
    "🐦".encode(), b"n" * 255, b"\xc3\xa4" * 127, b"\x01\x7f\x1b[31m",
]  # fmt: skip


@pytest.fixture(params=FINDERS)
def finder(request):
    return FINDERS[request.param]()


@pytest.fixture
def drop(tmp_path):
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


def listing(finder, root, stop=None):
    """List a root; give its rows by path as (type, size, mtime, ctime, text), and the report."""
    entries = {}
    counted = 0
    progress = []
    for chunk in finder.list(os.fsdecode(root), stop or threading.Event(), progress.append):
        lines = chunk.rows.split(b"\n")
        assert lines.pop() == b""
        assert len(lines) == chunk.entries
        counted += chunk.entries
        for line in lines:
            kind, size, mtime, ctime, path, text = line.split(b"\t")
            raw = uncopy(path).replace(b"\\\\", b"\\")
            assert raw not in entries
            entries[raw] = (
                kind.decode(),
                int(size),
                int(Decimal(mtime.decode()) * 10**9),
                int(Decimal(ctime.decode()) * 10**9),
                uncopy(text).decode(),
            )
    assert finder.report.files == counted == len(entries)
    assert all(0 < b - a < 10_000 for a, b in pairwise(progress))
    return entries, finder.report


def uncopy(field):
    """Undo COPY's text escapes; latin-1 keeps the bytes."""
    pairs = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    text, out = field.decode("latin-1"), []
    while text:
        head = text[:2] if text[0] == "\\" else text[0]
        out.append(pairs.get(head, head))
        text = text[len(head) :]
    return "".join(out).encode("latin-1")


def on_disk(root):
    """What the listing should say, by the plainest means there are."""
    kinds = [
        (stat.S_ISREG, "f"), (stat.S_ISLNK, "l"), (stat.S_ISFIFO, "p"), (stat.S_ISSOCK, "s"),
        (stat.S_ISBLK, "b"), (stat.S_ISCHR, "c"),
    ]  # fmt: skip
    expected, folders = {}, 0
    root = os.fsencode(root)
    for folder, _, _ in os.walk(root):
        folders += 1
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                continue
            (kind,) = [letter for is_kind, letter in kinds if is_kind(status.st_mode)]
            relative = os.path.relpath(path, root)
            text = path_text(relative)
            expected[relative] = (
                kind,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                "" if text.encode() == relative else text,
            )
    return expected, folders


def assert_lists_all(finder, root):
    entries, report = listing(finder, root)
    expected, folders = on_disk(root)
    assert entries == expected
    assert report.complete, report.problem
    assert report.problem is None
    assert report.folders == folders
    return entries


def as_nobody(work):
    """Run `work` in a child that is not root, and give what it returns."""
    if not AS_ROOT:
        return work()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with open(writer, "wb") as pipe:
                pickle.dump(work(), pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return pickle.loads(data)


@pytest.fixture
def nobodys_drop(tmp_path):
    """A delivery that an unprivileged user reads, reached from the working directory."""
    folder = tmp_path / "drop"
    (folder / "open").mkdir(parents=True)
    (folder / "open" / "a.wav").write_bytes(b"1234")
    before = Path.cwd()
    os.chdir(tmp_path)  # the folders above it belong to the tests alone
    tmp_path.chmod(0o755)
    yield folder
    os.chdir(before)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)


# --- what is listed -----------------------------------------------------------------------


def test_an_empty_delivery_is_complete_and_empty(finder, drop):
    assert assert_lists_all(finder, drop) == {}
    assert finder.report.folders == 1


def test_a_card_is_listed_with_sizes_and_times(finder, drop):
    for sensor in ("950349", "950350"):
        (drop / sensor / "Data").mkdir(parents=True)
        for number in range(30):
            (drop / sensor / "Data" / f"20250909_{number:06}.WAV").write_bytes(b"x" * number)
    (drop / "empty" / "folders").mkdir(parents=True)

    entries = assert_lists_all(finder, drop)

    assert len(entries) == 60
    assert entries[b"950349/Data/20250909_000007.WAV"][1] == 7


def test_every_odd_name_survives_as_file_and_as_folder(finder, drop):
    for name in ODD_NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(drop), name))).write_bytes(name)
        folder = os.path.join(os.fsencode(drop), b"in", name)
        os.makedirs(folder)
        Path(os.fsdecode(os.path.join(folder, name))).write_bytes(b"")

    entries = assert_lists_all(finder, drop)

    assert set(entries) == {*ODD_NAMES, *(b"in/" + name + b"/" + name for name in ODD_NAMES)}
    assert entries[b"\xff\xfe"][4] == "\\xff\\xfe"
    assert entries[b"\\x41"][4] == "\\x5cx41"
    assert entries["Dämmerung".encode()][4] == ""


component = st.binary(min_size=1, max_size=12).map(
    lambda raw: raw.replace(b"\0", b"\\x").replace(b"/", b"\xc3")
).filter(lambda raw: raw not in {b".", b".."})  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(component, max_size=12), data=st.data())
def test_any_names_at_all(finder, drop, names, data):
    for left in drop.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    folder = os.fsencode(drop)
    for name in sorted(names):
        path = os.path.join(folder, name)
        if data.draw(st.booleans(), label=f"{name!r} is a folder"):
            os.mkdir(path)
            folder = path if data.draw(st.booleans(), label="go into it") else folder
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))

    assert_lists_all(finder, drop)


TIMES = {
    "epoch": 0,
    "just before 1970": -1,
    "half a second before 1970": -500_000_000,
    "pre-1970 with a fraction": -1_500_000_001,
    "pre-1970": -86_400 * 10**9,
    "1902": -2_145_916_800_999_999_999,
    "today": 1_757_409_600_123_456_789,
    "last nanosecond": 1_757_409_600_999_999_999,
    "2106": 4_296_844_800_000_000_001,
}


def test_times_are_exact_to_the_nanosecond(finder, drop):
    (drop / "sub").mkdir()
    for name, mtime_ns in TIMES.items():
        path = drop / "sub" / name
        path.write_bytes(b"")
        os.utime(path, ns=(0, mtime_ns))
        if path.stat().st_mtime_ns != mtime_ns:
            pytest.skip("this file system keeps times less exactly")
    (drop / "-1.5 as a name").write_bytes(b"")

    entries = assert_lists_all(finder, drop)

    assert {name: entries[f"sub/{name}".encode()][2] for name in TIMES} == TIMES


def test_links_pipes_sockets_and_hard_links_are_entries_and_never_followed(finder, drop, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"12")
    (drop / "file").write_bytes(b"123")
    (drop / "hard").hardlink_to(drop / "file")
    (drop / "to file").symlink_to("file")
    (drop / "to folder").symlink_to(outside)
    (drop / "dangling").symlink_to("nowhere")
    (drop / "loop").symlink_to("loop")
    os.mkfifo(drop / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(drop)  # the name of a socket must be short
        try:
            server.bind("socket")
        finally:
            os.chdir(before)

        entries = assert_lists_all(finder, drop)

    assert {path.decode(): entry[0] for path, entry in entries.items()} == {
        "file": "f", "hard": "f", "to file": "l", "to folder": "l", "dangling": "l", "loop": "l",
        "pipe": "p", "socket": "s",
    }  # fmt: skip


@pytest.mark.skipif(not AS_ROOT, reason="only root makes device nodes")
def test_devices_are_entries(finder, drop):
    try:
        os.mknod(drop / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(drop / "loop", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    except PermissionError:
        pytest.skip("device nodes are forbidden here")

    assert {entry[0] for entry in assert_lists_all(finder, drop).values()} == {"b", "c"}


@pytest.mark.parametrize("name", [b"-delete", b"(", b"!", b"\xff\n\\x41", b"LOST.DIR", b" "])
def test_a_root_may_have_any_name(finder, tmp_path, monkeypatch, name):
    root = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(root)
    Path(os.fsdecode(root), "file").write_bytes(b"")
    monkeypatch.chdir(tmp_path)

    assert list(assert_lists_all(finder, root)) == [b"file"]
    assert list(assert_lists_all(finder, root + b"//")) == [b"file"]
    assert list(listing(finder, name)[0]) == [b"file"]


def test_a_root_may_be_a_link(finder, drop, tmp_path):
    (drop / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(drop)

    assert list(assert_lists_all(finder, tmp_path / "link")) == [b"file"]


@pytest.mark.parametrize("name", ["d", "d" * 200])
def test_a_tree_of_a_thousand_levels_is_listed(drop, name):
    levels = 1_200
    here = os.open(drop, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.utime("bottom", ns=(0, -1_500_000_000), dir_fd=here)
    os.close(here)
    bottom = f"{name}/".encode() * levels + b"bottom"
    try:
        for finder in (FindFinder(), WalkFinder()):
            entries, report = listing(finder, drop)

            assert (report.complete, report.folders) == (True, levels + 1), report.problem
            assert list(entries) == [bottom]
            assert entries[bottom][2] == -1_500_000_000

        if len(bottom) > 4_096:
            _, report = listing(WalkFinder(descriptors=False), drop)
            assert not report.complete
            assert "File name too long" in report.problem
            assert len(report.problem) < 1_000
    finally:
        subprocess.run(["rm", "-rf", drop], check=True)


def test_memory_and_chunks_stay_small_and_progress_is_told(finder, drop):
    for number in range(12_000):
        os.close(os.open(drop / f"{number}", os.O_CREAT | os.O_WRONLY))
    progress = []

    sizes = [
        len(chunk.rows) for chunk in finder.list(str(drop), threading.Event(), progress.append)
    ]

    assert max(sizes) < 1_000_000
    assert progress[-1] == finder.report.files == 12_000
    assert all(b - a <= 10_000 for a, b in pairwise([0, *progress]))


# --- unreadable is not empty --------------------------------------------------------------


def test_an_unreadable_folder_makes_the_listing_incomplete(finder, nobodys_drop):
    for name in ("closed", "Dämmerung", "listed only"):
        (nobodys_drop / name).mkdir()
        (nobodys_drop / name / "b.wav").write_bytes(b"")
    (nobodys_drop / "closed").chmod(0)
    (nobodys_drop / "Dämmerung").chmod(0)
    (nobodys_drop / "listed only").chmod(0o444)

    entries, report = as_nobody(lambda: listing(finder, "drop"))

    assert list(entries) == [b"open/a.wav"]
    assert not report.complete
    assert "drop/closed" in report.problem
    assert "drop/Dämmerung" in report.problem
    assert "drop/listed only/b.wav" in report.problem
    assert "Permission denied" in report.problem
    assert report.folders == 5


def test_an_unreadable_root_makes_the_listing_incomplete(finder, nobodys_drop):
    nobodys_drop.chmod(0o311)

    entries, report = as_nobody(lambda: listing(finder, "drop"))
    nobodys_drop.chmod(0o755)

    assert entries == {}
    assert not report.complete
    assert "drop" in report.problem
    assert "Permission denied" in report.problem


def test_an_unreadable_junk_folder_is_one_entry_and_no_error(finder, nobodys_drop):
    names = [pattern.replace("*", "1\n\\") for pattern in JUNK_FOLDERS]
    names[0] = names[0].upper()
    for name in names:
        (nobodys_drop / "open" / name / "below").mkdir(parents=True)
        (nobodys_drop / "open" / name).chmod(0 if name < "M" else 0o444)

    entries, report = as_nobody(lambda: listing(finder, "drop"))

    assert report.complete, report.problem
    assert {path for path, entry in entries.items() if entry[0] == "d"} == {
        f"open/{name}".encode() for name in names
    }
    assert report.folders == 2


def test_a_readable_junk_folder_is_listed_file_by_file(finder, nobodys_drop):
    (nobodys_drop / "System Volume Information" / "below").mkdir(parents=True)
    (nobodys_drop / "System Volume Information" / "below" / "x").write_bytes(b"")

    entries, report = as_nobody(lambda: listing(finder, "drop"))

    assert report.complete
    assert set(entries) == {b"open/a.wav", b"System Volume Information/below/x"}


def test_many_errors_are_quoted_briefly_and_counted(finder, nobodys_drop):
    for number in range(1_500):
        folder = nobodys_drop / f"{number:04}-{'n' * 200}"
        folder.mkdir()
        folder.chmod(0)

    _, report = as_nobody(lambda: listing(finder, "drop"))

    assert not report.complete
    assert report.problem.endswith("and 1,495 more")
    assert len(report.problem) < 4_000


@pytest.mark.parametrize("make", ["missing", "file", "file below", "dangling link", "nul"])
def test_a_root_that_is_no_folder_is_a_problem_and_no_crash(finder, tmp_path, make):
    root = tmp_path / "root"
    if make.startswith("file"):
        root.write_bytes(b"")
    if make == "dangling link":
        root.symlink_to("nowhere")
    asked = {"file below": f"{root}/x", "nul": f"{root}\0"}.get(make, str(root))

    entries, report = listing(finder, asked)

    assert entries == {}
    assert not report.complete
    assert "root" in report.problem


# --- while the tree changes ---------------------------------------------------------------


def test_files_that_vanish_during_the_listing_are_no_errors(finder, drop):
    # Names so long that the first chunk comes when most are read from the folder, but not yet
    # looked at: find waits at a full pipe, the walk in its loop.
    names = {f"{number:04}-{'n' * 200}" for number in range(4_000)}
    for name in names:
        os.close(os.open(drop / name, os.O_CREAT | os.O_WRONLY))
    chunks = finder.list(str(drop), threading.Event(), lambda _: None)

    listed = next(chunks).rows
    for name in names:
        (drop / name).unlink()
    for chunk in chunks:
        listed += chunk.rows

    assert finder.report.complete, finder.report.problem
    assert 0 < finder.report.files < 4_000
    assert listed.count(b"\n") == finder.report.files


@pytest.mark.parametrize("descriptors", [True, False])
def test_a_folder_that_vanishes_before_the_walk_reaches_it_makes_it_incomplete(drop, descriptors):
    for folder in "ab":
        (drop / folder).mkdir()
        for number in range(3_000):
            os.close(os.open(drop / folder / f"{number}", os.O_CREAT | os.O_WRONLY))
    finder = WalkFinder(descriptors=descriptors)
    chunks = finder.list(str(drop), threading.Event(), lambda _: None)

    first = next(chunks)
    (waiting,) = {"a", "b"} - {first.rows.split(b"\t")[4][:1].decode()}
    shutil.rmtree(drop / waiting)
    rest = sum(chunk.entries for chunk in chunks)

    assert first.entries + rest == 3_000
    assert finder.report.problem == f"{drop}/{waiting}: No such file or directory"
    assert not finder.report.complete


def test_a_root_that_is_replaced_during_the_listing_makes_it_incomplete(finder, drop):
    for number in range(20_000):
        os.close(os.open(drop / f"{number}", os.O_CREAT | os.O_WRONLY))
    chunks = finder.list(str(drop), threading.Event(), lambda _: None)

    next(chunks)
    drop.rename(drop.with_name("moved"))
    drop.mkdir()
    for _ in chunks:
        pass

    assert not finder.report.complete
    assert "replaced" in finder.report.problem


def test_a_root_that_is_gone_at_the_end_makes_it_incomplete(finder, drop):
    (drop / "file").write_bytes(b"")
    chunks = finder.list(str(drop), threading.Event(), lambda _: None)

    next(chunks)
    drop.rename(drop.with_name("moved"))

    assert list(chunks) == []
    assert not finder.report.complete
    assert str(drop) in finder.report.problem


# --- ending early -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A tree of 30,000 files that is only looked at."""
    drop = tmp_path_factory.mktemp("wide")
    for folder in range(10):
        (drop / f"{folder}").mkdir()
        for number in range(3_000):
            os.close(os.open(drop / f"{folder}" / f"{number}", os.O_CREAT | os.O_WRONLY))
    return drop


def test_stop_ends_the_listing_and_it_is_not_complete(finder, wide):
    stop = threading.Event()
    chunks = finder.list(str(wide), stop, lambda _: None)

    first = next(chunks)
    stop.set()
    rest = sum(chunk.entries for chunk in chunks)

    assert first.entries + rest < 30_000
    assert not finder.report.complete
    assert "before it was complete" in finder.report.problem


def test_a_listing_that_is_stopped_at_the_start_is_not_complete(finder, wide):
    stop = threading.Event()
    stop.set()

    entries, report = listing(finder, wide, stop)

    assert entries == {}
    assert not report.complete


def children():
    task = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return task.read_text().split()


def test_a_listing_that_is_given_up_leaves_no_process_and_is_not_complete(finder, wide):
    before = children()
    chunks = finder.list(str(wide), threading.Event(), lambda _: None)

    next(chunks)
    chunks.close()

    # What tests before this one left behind may end meanwhile; nothing may be there anew.
    assert set(children()) <= set(before)
    assert not finder.report.complete


def test_one_finder_lists_again_after_a_failure(finder, drop, tmp_path):
    (drop / "file").write_bytes(b"")
    assert not listing(finder, tmp_path / "missing")[1].complete

    assert_lists_all(finder, drop)


# --- find itself in trouble ---------------------------------------------------------------


def program(tmp_path, script):
    """A program in find's place, which behaves as find never should."""
    path = tmp_path / "find"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return FindFinder(str(path))


def test_a_find_that_is_killed_is_not_complete(drop, tmp_path):
    _, report = listing(program(tmp_path, r"printf '///\0'; kill -KILL $$"), drop)

    assert not report.complete
    assert "SIGKILL" in report.problem


def test_a_find_that_fails_silently_is_not_complete(drop, tmp_path):
    _, report = listing(program(tmp_path, r"printf '///\0'; exit 3"), drop)

    assert not report.complete
    assert "exit status 3" in report.problem


def test_a_find_that_only_complains_is_not_complete(drop, tmp_path):
    _, report = listing(program(tmp_path, r"printf '///\0'; echo odd >&2"), drop)

    assert not report.complete
    assert report.problem == "odd"


def test_a_find_that_says_nothing_at_all_is_not_complete(drop, tmp_path):
    _, report = listing(program(tmp_path, "exit 0"), drop)

    assert not report.complete


def test_a_record_that_is_cut_off_is_not_complete(drop, tmp_path):
    script = r"printf '///\0f//1//2.0//3.0//whole\0f//1//2.0//3.0//cu'"

    entries, report = listing(program(tmp_path, script), drop)

    assert list(entries) == [b"whole"]
    assert not report.complete


def test_much_on_stderr_does_not_block_find(drop, tmp_path):
    script = r"printf '///\0'; yes 'find: trouble' | head -c 3000000 >&2"

    _, report = listing(program(tmp_path, script), drop)

    assert not report.complete
    assert report.problem.startswith("trouble; trouble")
    assert len(report.problem) < 200


def test_a_find_that_hangs_and_ignores_sigterm_ends_when_stop_is_set(drop, tmp_path, monkeypatch):
    monkeypatch.setattr("sensordrop.adapters.finder.END_SECONDS", 0.5)
    stop = threading.Event()
    finder = program(tmp_path, r"printf '///\0'; trap '' TERM; exec sleep 600")
    timer = threading.Timer(1.0, stop.set)
    timer.start()
    before = children()

    _, report = listing(finder, drop, stop)

    timer.join()
    assert children() == before
    assert not report.complete


def test_without_a_find_program_the_report_says_so(drop):
    _, report = listing(FindFinder("no-such-find-program"), drop)

    assert not report.complete
    assert "no-such-find-program" in report.problem
    assert "use_find" in report.problem


def test_a_find_that_prints_no_facts_is_not_used(tmp_path):
    """That of macOS, of the BSDs and of BusyBox refuses -printf; Windows has another find."""
    old = tmp_path / "find"
    for script in ('echo "find: -printf: unknown primary" >&2; exit 1', "echo '---- x'; exit 0"):
        old.write_text(f"#!/bin/sh\n{script}\n")
        old.chmod(0o755)
        find_is_gnu.cache_clear()
        assert not find_is_gnu(str(old))
    assert not find_is_gnu(str(tmp_path / "none"))
    assert find_is_gnu("find")
