"""`sensordrop demo`, for real: daemon, PostgreSQL, S3 server and all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sensordrop.cli.demo_card import first_delivery, second_delivery
from sensordrop.cli.demo_folder import MARKER
from sensordrop.core.selection import Selection

PATIENCE_SECONDS = 240.0
DROPPED = {
    file.path: file.content
    for file in (*first_delivery(), *second_delivery())
    if Selection().ignore_reason(file.path) is None
}

OTHER_PLACES = {
    "AWS_ENDPOINT_URL": "http://192.0.2.1:9",
    "AWS_ENDPOINT_URL_S3": "http://192.0.2.1:9",
    "AWS_PROFILE": "nobody-has-this-profile",
    "AWS_CA_BUNDLE": "/nowhere.pem",
    "HTTP_PROXY": "http://192.0.2.1:9",
    "http_proxy": "http://192.0.2.1:9",
    "ALL_PROXY": "socks5://192.0.2.1:9",
    "SENSORDROP_CONFIG": "/nowhere",
    "SENSORDROP_DATABASE_URL": "postgresql://192.0.2.1/nowhere",
    "SENSORDROP_DELIVERY_EXCLUDE": "*",
    "SENSORDROP_NONSENSE": "1",
}
"""What the user's shell may say about other places (192.0.2.1 is no host: RFC 5737)."""


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            str(Path(sys.executable).with_name("sensordrop")),
            "demo",
            "--folder",
            str(folder),
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder.parent,
        env=os.environ | environment,
    )


def end(demo: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        said, complained = demo.communicate(timeout=PATIENCE_SECONDS)
    finally:
        demo.kill()
    return demo.returncode, said, complained


def play(folder: Path, *options: str, **environment: str) -> tuple[int, str, str]:
    return end(start(folder, *options, **environment))


def figures(said: str) -> dict[str, int]:
    return json.loads(said.splitlines()[-1])


def of_folder(folder: Path) -> list[list[str]]:
    """Give the command lines of processes that work on the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in word for word in words):
            found.append(words)
    return found


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_two_cards_arrive_byte_for_byte_whatever_the_environment_says(tmp_path):
    folder = tmp_path / "demo"
    code, said, complained = play(folder, **OTHER_PLACES)
    assert (code, complained) == (0, ""), said
    contents = {path: make() for path, make in DROPPED.items()}
    assert figures(said) == {
        "files": len(contents),
        "bytes": sum(map(len, contents.values())),
        "missing": 0,
        "different": 0,
    }
    assert said.splitlines()[-1].startswith('{"files": ')
    assert "dropped a second card" in said
    assert "14 junk" in said
    objects = folder / "objects" / "sensordrop" / "C1"
    stored = {
        str(path.relative_to(objects)): sha256(path.read_bytes())
        for path in objects.rglob("*")
        if path.is_file()
    }
    assert stored == {path: sha256(content) for path, content in contents.items()}
    assert of_folder(folder) == []


def test_a_demo_clears_what_the_one_before_left_even_if_it_was_killed(tmp_path):
    folder = tmp_path / "demo"
    first = start(folder)
    wait_for((folder / "objects" / "sensordrop" / "C1").exists, "the first object")
    first.kill()
    end(first)
    assert of_folder(folder), "a killed demo can't stop its daemon"
    code, said, complained = play(folder)
    assert (code, complained) == (0, ""), said
    assert figures(said)["files"] == len(DROPPED)
    assert of_folder(folder) == []


AT_REST_SECONDS = 0.5
"""An object of which nothing was written for so long has been answered for."""


def take_away(file: Path, demo: subprocess.Popen[str]) -> None:
    """Remove a file as often as it is there and at rest, until the demo ends."""
    while demo.poll() is None:
        if file.exists() and time.time() - file.stat().st_ctime > AT_REST_SECONDS:
            file.unlink()
        time.sleep(0.02)


def test_objects_that_are_not_as_dropped_are_named_and_fail_the_demo(tmp_path):
    folder = tmp_path / "demo"
    demo = start(folder)
    objects = folder / "objects" / "sensordrop" / "C1"
    altered = objects / "24F319046052C9A1" / "CONFIG.TXT"
    lost = objects / "SMA04512" / "SMA04512_Summary.txt"
    log = folder / "sensordropd.log"
    wait_for(lambda: log.exists() and b"session_opened" in log.read_bytes(), "a session")
    content = DROPPED["24F319046052C9A1/CONFIG.TXT"]()
    wait_for(lambda: altered.exists() and altered.read_bytes() == content, "the one object")
    altered.write_bytes(b"?" + content[1:])
    wait_for(lambda: lost.exists() and lost.stat().st_size > 0, "the other object")
    # A server that had not finished with it lets the daemon send it again: it is taken each time.
    thief = threading.Thread(target=take_away, args=(lost, demo))
    thief.start()
    (objects / "stranger.wav").write_bytes(b"nobody dropped this")
    code, said, complained = end(demo)
    thief.join()
    assert code == 1, said + complained
    assert of_folder(folder) == []
    assert "not in the bucket: SMA04512/SMA04512_Summary.txt" in said, complained
    assert "in the bucket with other bytes: 24F319046052C9A1/CONFIG.TXT" in said
    # The server may have listed the folder before, and then shows the stranger to nobody.
    on_disk_alone = "not the same on disk as through S3: C1/stranger.wav"
    assert "nobody dropped it: C1/stranger.wav" in said or on_disk_alone in said
    found = figures(said)
    assert (found["files"], found["missing"], found["different"]) == (len(DROPPED) - 2, 1, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["copying", "starting", "making the database", "uploading"])
def test_a_signal_ends_everything(tmp_path, number, moment):
    folder = tmp_path / "demo"
    signs = {
        "copying": folder / "drop",
        "starting": folder / "sensordropd.log",
        "making the database": folder / "state" / "postgresql" / "data.new",
        "uploading": folder / "objects" / "sensordrop" / "C1",
    }
    demo = start(folder)
    wait_for(signs[moment].exists, moment)
    demo.send_signal(number)
    code, said, complained = end(demo)
    assert (code, complained) == (130, "interrupted; nothing is left running\n"), said
    assert of_folder(folder) == []


def test_a_daemon_that_dies_fails_the_demo_and_leaves_nothing_running(tmp_path):
    folder = tmp_path / "demo"
    demo = start(folder)
    wait_for((folder / "objects" / "sensordrop" / "C1").exists, "the first object")
    (daemon,) = (child for child in psutil.Process(demo.pid).children())
    daemon.kill()
    code, said, complained = end(demo)
    assert code == 1, said
    assert "sensordropd ended by itself with -9" in complained
    assert f"its log, {folder}/sensordropd.log, ends with:" in complained
    assert of_folder(folder) == []


# --- a folder of one's own ----------------------------------------------------------------

ODD_NAMES = (
    b"a b.wav",
    b"100%25.JPG",
    b"a+b&c=d#e?f.wav",
    b"back\\slash.wav",
    b"\\xff is text.wav",
    b"not \xff utf-8.wav",
    "Wald Überflug 日本.wav".encode(),
    b"-dash.wav",
    b".hidden.wav",
    b"no extension",
    b"x" * 251 + b".wav",
)


def state_of(folder: Path) -> dict[bytes, tuple[int, ...]]:
    """Give all that `stat` tells of everything below, but for the time of the last reading."""
    found = {}
    for below, folders, names in os.walk(os.fsencode(folder)):
        for name in (b".", *folders, *names):
            path = below + b"/" + name
            status = os.lstat(path)
            found[path] = (status.st_mode, status.st_ino, status.st_uid, status.st_size,
                           status.st_mtime_ns, status.st_ctime_ns)  # fmt: skip
    return found


def test_a_folder_of_ones_own_arrives_and_is_only_read(tmp_path):
    drop = tmp_path / "my card"
    for sensor in (b"S1", b"S1/DCIM", b"S 2"):
        below = drop / os.fsdecode(sensor)
        below.mkdir(parents=True)
        for name in ODD_NAMES:
            (below / os.fsdecode(name)).write_bytes(sensor + name)
    (drop / "S1" / ".DS_Store").write_bytes(b"junk")
    (drop / "S1" / "link.wav").symlink_to("/etc/hostname")
    before = state_of(drop)
    code, said, complained = play(tmp_path / "demo", "--drop", str(drop))
    assert (code, complained) == (0, ""), said
    assert state_of(drop) == before
    sizes = [
        len(sensor) + len(name) for sensor in (b"S1", b"S1/DCIM", b"S 2") for name in ODD_NAMES
    ]
    assert figures(said) == {
        "files": len(sizes), "bytes": sum(sizes), "missing": 0, "different": 0,
    }  # fmt: skip
    assert "1 junk, 1 symbolic link" in said
    assert "second card" not in said


@pytest.mark.parametrize("names", [(), ("S1/.DS_Store", "S1/._a.WAV")])
def test_a_folder_without_files_says_so(tmp_path, names):
    drop = tmp_path / "card"
    drop.mkdir()
    for name in names:
        (drop / name).parent.mkdir(exist_ok=True)
        (drop / name).write_bytes(b"junk")
    code, said, _complained = play(tmp_path / "demo", "--drop", str(drop))
    assert code == 0, said
    assert "nothing to store" in said
    assert figures(said) == {"files": 0, "bytes": 0, "missing": 0, "different": 0}


def test_a_folder_that_changes_meanwhile_is_compared_as_it_is_at_the_end_and_told(tmp_path):
    drop, folder = tmp_path / "card", tmp_path / "demo"
    (drop / "S1").mkdir(parents=True)
    (drop / "S1" / "a.wav").write_bytes(b"early")
    demo = start(folder, "--drop", str(drop))
    wait_for((folder / "objects" / "sensordrop" / "C1" / "S1" / "a.wav").exists, "the first file")
    (drop / "S1" / "late.wav").write_bytes(b"late")
    code, said, complained = end(demo)
    assert (code, complained) == (0, ""), said
    assert figures(said) == {"files": 2, "bytes": 9, "missing": 0, "different": 0}
    assert "your folder changed meanwhile: S1/late.wav (added)" in said


# --- what the demo must not do ------------------------------------------------------------


def refused(folder: Path, *options: str) -> str:
    code, said, complained = play(folder, *options)
    assert (code, said) == (2, "")
    assert complained.count("\n") == 1, "one clear line"
    return complained


def test_a_missing_folder_is_one_clear_line(tmp_path):
    told = refused(tmp_path / "demo", "--drop", str(tmp_path / "nowhere"))
    assert told == f"{tmp_path}/nowhere can't be read: No such file or directory\n"
    assert not (tmp_path / "demo").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_one_clear_line(tmp_path):
    drop = tmp_path / "card"
    (drop / "S1").mkdir(parents=True)
    (drop / "S1" / "a.wav").write_bytes(b"secret")
    (drop / "S1" / "a.wav").chmod(0)
    assert "S1/a.wav can't be read" in refused(tmp_path / "demo", "--drop", str(drop))
    (drop / "S1").chmod(0)
    assert "S1 can't be read" in refused(tmp_path / "demo", "--drop", str(drop))
    (drop / "S1").chmod(0o755)


def test_the_demo_and_the_dropped_folder_must_not_lie_in_each_other(tmp_path):
    (tmp_path / "demo" / "inside").mkdir(parents=True)
    assert "must not hold" in refused(tmp_path / "demo", "--drop", str(tmp_path))
    inside = str(tmp_path / "demo" / "inside")
    assert "must not lie inside" in refused(tmp_path / "demo", "--drop", inside)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["demo", "inside"]


def test_a_folder_that_the_demo_did_not_make_is_never_cleared(tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"dear")
    assert "was not made by the demo" in refused(folder)
    assert [p.name for p in folder.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("place", ["drop/S1/own.wav", "own.txt"])
def test_what_somebody_put_into_the_demos_folder_is_never_cleared(tmp_path, place):
    folder = tmp_path / "demo"
    (folder / place).parent.mkdir(parents=True)
    (folder / MARKER).touch()
    (folder / place).write_bytes(b"a real recording")
    assert "is not of the demo" in refused(folder)
    assert (folder / place).read_bytes() == b"a real recording"


def test_two_demos_in_one_folder_don_t_get_into_each_others_way(tmp_path):
    folder = tmp_path / "demo"
    first = start(folder)
    wait_for((folder / "sensordropd.log").exists, "the first demo")
    code, said, complained = play(folder)
    assert (code, said) == (1, "")
    assert "another demo is running" in complained
    code, said, complained = end(first)
    assert (code, complained) == (0, ""), said
