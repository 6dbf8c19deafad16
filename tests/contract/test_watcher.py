"""The watchers against the real kernel: what happens in a folder becomes hints or doubts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sensordrop.adapters.mounts import filesystem_type, needs_polling
from sensordrop.adapters.watcher import InotifyWatcher
from sensordrop.core.model import Doubt, DoubtKind, Hint, HintKind

PATIENCE_SECONDS = 60  # only ever used up by a failing test


class Recorder:
    """A sink that keeps everything and lets a test wait for it."""

    def __init__(self):
        self.hints = []
        self.doubts = []
        self.seen = set()
        self._news = threading.Condition()

    def offer(self, hint):
        with self._news:
            self.hints.append(hint)
            self.seen.add(hint)
            self._news.notify_all()

    def doubt(self, doubt):
        with self._news:
            self.doubts.append(doubt)
            self._news.notify_all()

    def wait(self, condition):
        with self._news:
            assert self._news.wait_for(condition, PATIENCE_SECONDS), (
                self.hints[-5:],
                self.doubts,
            )

    def wait_for(self, path, kind=HintKind.CLOSED):
        self.wait(lambda: Hint(delivery="d", path=path, kind=kind) in self.seen)

    def wait_for_doubt(self, kind):
        self.wait(lambda: Doubt(delivery="d", kind=kind) in self.doubts)

    def paths(self, kind=None):
        return {hint.path for hint in self.hints if kind in {None, hint.kind}}

    def kinds_of_doubt(self):
        return [doubt.kind for doubt in self.doubts]


@pytest.fixture
def sink():
    return Recorder()


@pytest.fixture
def drop(tmp_path):
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


@pytest.fixture
def watcher(sink):
    watcher = InotifyWatcher(sink)
    yield watcher
    watcher.close()


@pytest.fixture
def watched(watcher, drop):
    watcher.watch("d", str(drop))
    return watcher


def barrier(sink, drop, name="barrier"):
    """Wait until everything that happened before this has been told."""
    (drop / name).write_bytes(b"")
    sink.wait_for(name.encode())


def until(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def stalled(watcher):
    """Keep the reader from its work, as a busy machine would."""
    with watcher._deliveries["d"].live._emitter.group._lock:
        yield


# --- hints --------------------------------------------------------------------------------


def test_a_file_that_is_written_appears_and_is_closed(watched, sink, drop):
    (drop / "a.wav").write_bytes(b"data")

    sink.wait_for(b"a.wav", HintKind.CLOSED)

    assert [hint.kind for hint in sink.hints] == [HintKind.APPEARED, HintKind.CLOSED]
    assert sink.paths() == {b"a.wav"}
    assert watched.watching("d")
    assert watched.problem("d") is None


def test_a_file_that_is_only_written_to_gives_no_hint_until_it_is_closed(watcher, sink, drop):
    with (drop / "growing.wav").open("wb") as file:
        watcher.watch("d", str(drop))
        for _ in range(20):
            file.write(b"x" * 1000)
            file.flush()
        barrier(sink, drop)
        assert b"growing.wav" not in sink.paths()

    sink.wait_for(b"growing.wav", HintKind.CLOSED)
    assert b"growing.wav" not in sink.paths(HintKind.APPEARED)


@pytest.mark.usefixtures("watched")
def test_a_file_renamed_to_its_final_name_appears_under_it(sink, drop):
    (drop / ".a.wav.tmp").write_bytes(b"data")
    (drop / ".a.wav.tmp").rename(drop / "a.wav")

    sink.wait_for(b"a.wav", HintKind.APPEARED)


@pytest.mark.usefixtures("watched")
def test_a_file_moved_or_linked_in_from_outside_appears(sink, drop, tmp_path):
    (tmp_path / "outside").write_bytes(b"data")
    (drop / "link").hardlink_to(tmp_path / "outside")
    (tmp_path / "outside").rename(drop / "moved")

    sink.wait_for(b"moved", HintKind.APPEARED)
    sink.wait_for(b"link", HintKind.APPEARED)


@pytest.mark.parametrize("name", [b"\xff\xfe.wav", b"line\nbreak", b" ", b"-rf", b"n" * 255])
@pytest.mark.usefixtures("watched")
def test_any_name_arrives_byte_for_byte(sink, drop, name):
    folder = Path(os.fsdecode(os.fsencode(drop) + b"/in " + name[:200]))
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes(b"")

    sink.wait_for(b"in " + name[:200] + b"/" + name, HintKind.APPEARED)


@pytest.mark.parametrize("root", [b"\xff odd", b"-x", b"with\nbreak"])
def test_a_root_may_have_any_name(watcher, sink, tmp_path, root):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + root))
    folder.mkdir()
    watcher.watch("d", f"{folder}/")

    barrier(sink, folder)


@pytest.mark.usefixtures("watched")
def test_two_thousand_files_are_all_seen(sink, drop):
    names = {f"{number:04}.wav".encode() for number in range(2_000)}
    for name in names:
        (drop / os.fsdecode(name)).write_bytes(b"x")

    barrier(sink, drop)
    assert sink.paths(HintKind.CLOSED) == names | {b"barrier"}
    assert sink.doubts == []


def test_thousands_of_files_that_come_through_temporary_names_are_all_seen(watched, sink, drop):
    # As rsync writes them; and as many at once as a reader finds that was kept waiting.
    with stalled(watched):
        for number in range(3_000):
            os.close(os.open(drop / f".{number}.tmp", os.O_CREAT | os.O_WRONLY))
            (drop / f".{number}.tmp").rename(drop / f"{number}.wav")

    names = {b"%d.wav" % number for number in range(3_000)}
    barrier(sink, drop)
    assert names <= sink.paths(HintKind.APPEARED)
    assert sink.doubts == []


@pytest.mark.parametrize("_attempt", range(3))
@pytest.mark.usefixtures("watched")
def test_a_copied_tree_of_nested_folders_is_seen_whole(sink, drop, tmp_path, _attempt):
    source = tmp_path / "card"
    for number in range(400):
        folder = source / f"{number % 7}" / f"{number % 20}" / f"{number}" / "deep" / "er"
        folder.mkdir(parents=True)
        for level in (folder, folder.parent, folder.parent.parent):
            (level / f"{number}.wav").write_bytes(b"x")
    files = {
        os.fsencode(path.relative_to(tmp_path)) for path in source.rglob("*") if path.is_file()
    }

    subprocess.run(["cp", "-r", source, drop], check=True)

    sink.wait(lambda: files <= sink.paths())
    assert sink.paths() == files  # no folder is ever a hint
    assert sink.doubts == []


@pytest.fixture
def deep(tmp_path):
    """Give a folder that is removed whatever is in it: Python's own removal recurses."""
    folder = tmp_path / "drop"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder, tmp_path / "aside"], check=True)


def test_a_thousand_folders_in_each_other_are_watched(watcher, sink, deep, tmp_path):
    # Whether they are made, are there, or are moved: none of it may recurse.
    watcher.watch("d", str(deep))
    deepest = deep.joinpath(*["d"] * 1_000)
    subprocess.run(["mkdir", "-p", deepest], check=True)
    path = b"d/" * 1_000
    (deepest / "made").write_bytes(b"")
    sink.wait(lambda: path + b"made" in sink.paths())
    watcher.watch("d", str(deep))
    (deepest / "there").write_bytes(b"")
    sink.wait_for(path + b"there")
    (deep / "d").rename(tmp_path / "aside")
    (tmp_path / "aside").rename(deep / "d")
    sink.wait_for_doubt(DoubtKind.FOLDERS_MOVED)
    assert watcher.watching("d")


def test_making_folders_raises_no_doubt(watched, sink, drop):
    (drop / "a" / "b" / "c").mkdir(parents=True)
    (drop / "a" / "b" / "c" / "file").write_bytes(b"")
    sink.wait(lambda: b"a/b/c/file" in sink.paths())
    watched.check("d")

    assert sink.doubts == []


# --- folders that are moved ---------------------------------------------------------------


@pytest.mark.usefixtures("watched")
def test_an_empty_folder_that_is_renamed_needs_no_sweep_and_is_watched(sink, drop):
    (drop / "New folder").mkdir()
    (drop / "New folder").rename(drop / "950349")
    barrier(sink, drop)
    (drop / "950349" / "a.wav").write_bytes(b"")

    sink.wait_for(b"950349/a.wav")

    assert sink.doubts == []


@pytest.mark.usefixtures("watched")
def test_a_moved_in_folder_of_five_thousand_files_is_one_doubt(sink, drop, tmp_path):
    card = tmp_path / "card"
    (card / "sub").mkdir(parents=True)
    for number in range(5_000):
        os.close(os.open(card / "sub" / f"{number}", os.O_CREAT | os.O_WRONLY))

    card.rename(drop / "card")

    barrier(sink, drop)
    assert sink.kinds_of_doubt() == [DoubtKind.FOLDERS_MOVED]
    assert sink.paths() == {b"barrier"}
    (drop / "card" / "sub" / "later.wav").write_bytes(b"")
    sink.wait_for(b"card/sub/later.wav")


@pytest.mark.usefixtures("watched")
def test_a_folder_renamed_inside_the_root_is_a_doubt_and_keeps_being_watched(sink, drop):
    (drop / "wrong" / "sub").mkdir(parents=True)
    barrier(sink, drop)

    (drop / "wrong").rename(drop / "right")

    sink.wait_for_doubt(DoubtKind.FOLDERS_MOVED)
    (drop / "right" / "sub" / "a.wav").write_bytes(b"")
    sink.wait_for(b"right/sub/a.wav")
    assert b"wrong/sub/a.wav" not in sink.paths()


def test_a_folder_moved_out_is_a_doubt_and_no_longer_watched(watched, sink, drop, tmp_path):
    (drop / "card").mkdir()
    barrier(sink, drop)

    (drop / "card").rename(tmp_path / "card")

    until(lambda: watched.check("d") or sink.doubts)
    assert sink.kinds_of_doubt() == [DoubtKind.FOLDERS_MOVED]
    (tmp_path / "card" / "outside.wav").write_bytes(b"")
    barrier(sink, drop, "barrier 2")
    assert sink.paths() == {b"barrier", b"barrier 2"}


def test_the_watch_survives_a_moved_folder_whose_name_is_used_again(watched, sink, drop, tmp_path):
    # Without help, watchdog's reader dies of this and its emitter stays alive.
    (drop / "DCIM").mkdir()
    barrier(sink, drop)
    (drop / "DCIM").rename(tmp_path / "DCIM")
    (drop / "DCIM").mkdir()
    (drop / "DCIM" / "x").write_bytes(b"")
    sink.wait_for(b"DCIM/x", HintKind.APPEARED)
    shutil.rmtree(drop / "DCIM")
    (tmp_path / "DCIM").rmdir()

    barrier(sink, drop, "barrier 2")

    assert watched.watching("d")


# --- doubts -------------------------------------------------------------------------------


def test_an_overflow_is_a_doubt_and_the_watch_goes_on(watched, sink, drop):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip("this machine's queue is too long to fill here")
    with stalled(watched):
        for number in range(limit // 2 + 5_000):
            os.close(os.open(drop / f"{number}", os.O_CREAT | os.O_WRONLY))
        (drop / "new" / "folder").mkdir(parents=True)

    sink.wait_for_doubt(DoubtKind.OVERFLOW)

    assert watched.watching("d")
    (drop / "new" / "folder" / "after.wav").write_bytes(b"")
    sink.wait_for(b"new/folder/after.wav")


def test_a_replaced_root_is_a_doubt_and_the_new_one_is_watched(watched, sink, drop):
    drop.rename(drop.with_name("old"))
    drop.mkdir()

    watched.check("d")

    assert sink.kinds_of_doubt() == [DoubtKind.ROOT_REPLACED]
    barrier(sink, drop)
    (drop.with_name("old") / "x").write_bytes(b"")
    barrier(sink, drop, "barrier 2")
    assert sink.paths() == {b"barrier", b"barrier 2"}


def test_a_root_that_goes_and_comes_back_is_a_doubt_each_time(watched, sink, drop):
    drop.rmdir()
    watched.check("d")
    watched.check("d")

    assert sink.kinds_of_doubt() == [DoubtKind.ROOT_REPLACED]
    assert not watched.watching("d")
    assert "No such file or directory" in watched.problem("d")

    drop.mkdir()
    watched.check("d")

    assert sink.kinds_of_doubt() == [DoubtKind.ROOT_REPLACED] * 2
    assert watched.watching("d")
    assert watched.problem("d") is None
    barrier(sink, drop)


def test_a_root_deleted_and_made_again_between_two_checks_is_a_doubt(watched, sink, drop):
    # Its inode number is often the same one: then the dead watch tells, or that nothing comes
    # through it any more.
    drop.rmdir()
    drop.mkdir()

    until(lambda: watched.check("d") or sink.doubts)

    assert sink.kinds_of_doubt()[0] in {
        DoubtKind.ROOT_REPLACED,
        DoubtKind.EMITTER_DEAD,
        DoubtKind.CANARY_LOST,
    }
    barrier(sink, drop)


def test_a_root_that_is_a_link_is_followed_where_it_points(watcher, sink, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to("one")
    watcher.watch("d", str(link))
    barrier(sink, tmp_path / "one")

    link.unlink()
    link.symlink_to("two")
    watcher.check("d")

    assert sink.kinds_of_doubt() == [DoubtKind.ROOT_REPLACED]
    barrier(sink, tmp_path / "two", "barrier 2")


@pytest.mark.parametrize("part", ["_emitter", "_reader"])
def test_a_dead_thread_is_a_doubt_and_the_watch_is_begun_anew(watched, sink, drop, part):
    thread = getattr(watched._deliveries["d"].live, part)
    thread.stop()
    thread.join(PATIENCE_SECONDS)
    assert not watched.watching("d")

    watched.check("d")

    assert sink.kinds_of_doubt() == [DoubtKind.EMITTER_DEAD]
    assert watched.watching("d")
    barrier(sink, drop)


def test_a_canary_comes_through_and_leaves_no_trace(sink, drop):
    (drop / "S1").mkdir()
    (drop / "S1" / "a.wav").write_bytes(b"data")
    before = [(path.stat(), path) for path in (drop, drop / "S1", drop / "S1" / "a.wav")]
    watcher = InotifyWatcher(sink, canary_seconds=0.0)
    watcher.watch("d", str(drop))
    assert watcher.canary_age_seconds("d") is None

    def came_again():
        flown = time.monotonic()

        def looked():
            watcher.check("d")
            age = watcher.canary_age_seconds("d")
            return age is not None and time.monotonic() - age > flown

        until(looked)

    came_again()
    came_again()
    assert [(path.stat(), path) for _, path in before] == before
    # Only the root's opening is told, and not for longer than that takes.
    os.close(os.open(drop, os.O_RDONLY))
    (drop / "S1" / "a.wav").read_bytes()
    barrier(sink, drop)
    assert sink.paths() == {b"barrier"}
    assert sink.doubts == []
    watcher.close()


def test_a_watch_that_hangs_in_silence_is_begun_anew(sink, drop):
    let_go = threading.Event()
    hung = threading.Event()
    offer = sink.offer

    def offer_or_hang(hint):
        if hint.path == b"hang":
            hung.set()
            assert let_go.wait(PATIENCE_SECONDS)
        offer(hint)

    sink.offer = offer_or_hang
    watcher = InotifyWatcher(sink, canary_seconds=0.1, canary_patience_seconds=1.0)
    watcher.watch("d", str(drop))
    (drop / "hang").write_bytes(b"")
    assert hung.wait(PATIENCE_SECONDS)
    assert watcher.watching("d")  # its threads are alive: nothing else would tell

    until(lambda: watcher.check("d") or sink.doubts)

    assert sink.kinds_of_doubt() == [DoubtKind.CANARY_LOST]
    barrier(sink, drop)
    let_go.set()
    watcher.close()


def test_a_watch_that_the_kernel_has_no_more_is_begun_anew(sink, drop):
    watcher = InotifyWatcher(sink, canary_seconds=0.0)
    watcher.watch("d", str(drop))
    group = watcher._deliveries["d"].live._emitter.group
    group._active_callbacks_by_path[group.path] += 1000  # the root's watch is another one's

    until(lambda: watcher.check("d") or sink.doubts)

    assert sink.kinds_of_doubt() == [DoubtKind.CANARY_LOST]
    barrier(sink, drop)
    watcher.close()


def test_a_quiet_folder_raises_no_doubt(watched, sink):
    for _ in range(5):
        watched.check("d")

    assert (sink.hints, sink.doubts) == ([], [])


# --- beginning and ending -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "file", "dangling link"])
def test_a_root_that_is_no_folder_can_not_be_watched(sink, tmp_path, kind):
    root = tmp_path / "root"
    if kind == "file":
        root.write_bytes(b"")
    if kind == "dangling link":
        root.symlink_to("nowhere")
    watcher = InotifyWatcher(sink)

    with pytest.raises(OSError, match="root"):
        watcher.watch("d", str(root))

    assert not watcher.watching("d")
    watcher.check("d")
    assert sink.doubts == []
    watcher.close()


def resources():
    """Give the threads and open descriptors of this process, each as itself."""
    descriptors = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that this list was read with
            descriptors.add((each.name, str(each.readlink())))
    return {*threading.enumerate()} | descriptors


def test_closing_ends_every_thread_and_gives_back_every_descriptor(sink, drop, tmp_path):
    before = resources()
    watcher = InotifyWatcher(sink)
    watcher.watch("d", str(drop))
    watcher.watch("e", str(tmp_path))
    for _ in range(10):
        watcher.watch("d", str(drop))
        with pytest.raises(OSError):
            watcher.watch("missing", str(tmp_path / "missing"))

    watcher.close()
    watcher.close()
    watcher.check("d")

    # What tests before this one left behind may end meanwhile; nothing may be there anew.
    assert resources() - before == set()
    assert not watcher.watching("d")


def test_watching_again_replaces_the_old_watch(watched, sink, drop):
    watched.watch("d", str(drop))
    (drop / "once").write_bytes(b"")
    barrier(sink, drop)

    assert [hint.path for hint in sink.hints].count(b"once") == 2  # appeared, closed


def test_an_unwatched_delivery_is_silent(watched, sink, drop, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    watched.watch("d2", str(other))
    watched.unwatch("d")
    watched.unwatch("d")

    (drop / "silent").write_bytes(b"")
    (other / "heard").write_bytes(b"")
    sink.wait(lambda: any(hint.path == b"heard" for hint in sink.hints))

    assert {hint.delivery for hint in sink.hints} == {"d2"}
    assert not watched.watching("d")


# --- with other limits and other mounts: children in namespaces of their own ----------------

IN_A_CHILD = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_watcher import *
drop, sink = Path(sys.argv[1]), Recorder()
"""


def run_in(namespaces, drop, script):
    """Run a script with a drop, a sink and this module's names; it must be silent and exit 0."""
    enter = ["unshare", *namespaces]
    if namespaces and subprocess.run([*enter, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are forbidden here")
    command = [*(enter if namespaces else []), sys.executable, "-c", IN_A_CHILD + script]
    child = subprocess.run(
        [*command, drop, Path(__file__).parent],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_SECONDS,
        check=False,
    )
    assert (child.returncode, child.stderr) == (0, "")


def test_folders_beyond_the_watch_limit_are_a_problem_with_its_remedy(drop):
    for number in range(20):
        (drop / f"{number}").mkdir()
    script = """
Path("/proc/sys/user/max_inotify_watches").write_text("8")
watcher = InotifyWatcher(sink)
watcher.watch("d", str(drop))
assert watcher.watching("d")
assert watcher.folders_unwatched("d") == 13
problem = watcher.problem("d")
assert problem.startswith("13 folders are not watched"), problem
assert "sysctl -w fs.inotify.max_user_watches=" in problem, problem
(drop / "late").mkdir()
until(lambda: watcher.folders_unwatched("d") == 14)
watcher.check("d")
assert sink.doubts == [], sink.doubts
try:
    watcher.watch("e", str(drop / "0"))
except OSError as error:
    assert "sysctl -w fs.inotify.max_user_watches=" in error.strerror, error
else:
    raise AssertionError("nothing was left to watch with")
before = resources()
for _ in range(50):
    try:
        watcher.watch("e", str(drop / "0"))
    except OSError:
        continue
assert resources() == before, (before, resources())
watcher.close()
"""
    run_in(["-Ur"], drop, script)


def test_the_instance_limit_is_an_error_with_its_remedy(drop):
    script = """
Path("/proc/sys/user/max_inotify_instances").write_text("0")
watcher = InotifyWatcher(sink)
try:
    watcher.watch("d", str(drop))
except OSError as error:
    assert "sysctl -w fs.inotify.max_user_instances=" in error.strerror, error
else:
    raise AssertionError("there was no instance left")
"""
    run_in(["-Ur"], drop, script)


def test_mounts_that_come_and_go_below_over_and_beside_the_root(drop):
    (drop / "card").mkdir()
    (drop.parent / "beside").mkdir()
    script = """
def mount(where):
    subprocess.run(["mount", "-t", "tmpfs", "none", where], check=True)
watcher = InotifyWatcher(sink)
watcher.watch("d", str(drop))
mount(drop.parent / "beside")
watcher.check("d")
assert sink.doubts == [], sink.doubts
for count, folder in ((1, drop / "card"), (3, drop)):
    mount(folder)
    watcher.check("d")
    assert sink.kinds_of_doubt() == [DoubtKind.MOUNTS_CHANGED] * count, sink.doubts
    (folder / f"on it {count}").write_bytes(b"")
    sink.wait(lambda: any(hint.path.endswith(b"on it %d" % count) for hint in sink.hints))
    watcher.check("d")
    subprocess.run(["umount", folder], check=True)
    watcher.check("d")
    assert sink.kinds_of_doubt() == [DoubtKind.MOUNTS_CHANGED] * (count + 1), sink.doubts
    (folder / f"under it {count}").write_bytes(b"")
    sink.wait(lambda: any(hint.path.endswith(b"under it %d" % count) for hint in sink.hints))
watcher.close()
"""
    run_in(["-Urm"], drop, script)


def test_a_remount_that_is_read_only_changes_nothing(drop):
    script = """
subprocess.run(["mount", "-t", "tmpfs", "none", drop], check=True)
watcher = InotifyWatcher(sink, canary_seconds=0.0)
watcher.watch("d", str(drop))
barrier(sink, drop)
subprocess.run(["mount", "-o", "remount,ro", drop], check=True)
until(lambda: watcher.check("d") or watcher.canary_age_seconds("d") is not None)
assert sink.doubts == [], sink.doubts
subprocess.run(["mount", "-o", "remount,rw", drop], check=True)
watcher.check("d")
barrier(sink, drop, "barrier 2")
assert sink.doubts == [], sink.doubts
watcher.close()
"""
    run_in(["-Urm"], drop, script)


def test_nothing_is_written_to_stderr_behind_the_programs_back(drop):
    # Overflows, folders seen twice, threads that end: all that watchdog would talk about.
    script = """
watcher = InotifyWatcher(sink)
watcher.watch("d", str(drop))
test_a_copied_tree_of_nested_folders_is_seen_whole(sink, drop, drop.parent, 0)
test_an_overflow_is_a_doubt_and_the_watch_goes_on(watcher, sink, drop)
for number in range(50):
    (drop / f"{number} folder" / "a" / "b").mkdir(parents=True)
    (drop / f"{number} folder").rename(drop / f"{number} renamed")
barrier(sink, drop)
watcher.watch("d", str(drop))
watcher.close()
"""
    run_in([], drop, script)


def test_an_unreadable_root_can_not_be_watched_and_an_unreadable_folder_is_left_to_a_sweep(drop):
    for name in ("closed", "closed too", "open"):
        (drop / name).mkdir()
    drop.chmod(0o777)
    script = """
if os.geteuid() == 0:
    # Somebody who may not see the folders above it still sees the drop itself.
    subprocess.run(["mount", "--bind", drop, "/mnt"], check=True)
    drop = Path("/mnt")
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
watcher = InotifyWatcher(sink)
watcher.watch("d", str(drop))
barrier(sink, drop)
assert watcher.watching("d")
assert watcher.problem("d") is None
try:
    watcher.watch("e", str(drop / "closed"))
except OSError as error:
    assert "Permission denied" in error.strerror, error
else:
    raise AssertionError("it can't be read")
assert sink.doubts == [], "the sweep of the beginning tells of what was closed then"
os.mkdir(drop / "came closed", 0)
sink.wait_for_doubt(DoubtKind.FOLDER_CLOSED)
os.rmdir(drop / "came closed")
watcher.close()
"""
    (drop / "closed").chmod(0)
    (drop / "closed too").chmod(0)
    try:
        run_in(["-m"] if os.geteuid() == 0 else [], drop, script)
    finally:
        (drop / "closed").chmod(0o755)
        (drop / "closed too").chmod(0o755)


def test_the_file_system_of_a_folder_is_known(tmp_path, drop):
    told = subprocess.run(
        ["findmnt", "-nro", "FSTYPE", "--target", drop], capture_output=True, text=True, check=True
    )
    (tmp_path / "link").symlink_to(drop)

    assert filesystem_type(str(drop)) == filesystem_type(str(tmp_path / "link"))
    assert filesystem_type(str(drop)) == told.stdout.split()[-1]
    assert filesystem_type("/proc") == "proc"
    assert not needs_polling("/proc")
    with pytest.raises(FileNotFoundError):
        needs_polling(str(tmp_path / "missing"))
