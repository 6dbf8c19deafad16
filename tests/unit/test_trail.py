"""What a killed process leaves: which files it had in work, and whether the kernel killed it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from sensordrop.adapters.trail import SLOTS, WorkTrail, boot_id, left_in_work, oom_kills
from sensordrop.core.crash import LeftInWork, killed_for_memory

CHILD = """
import os, sys, time
from pathlib import Path
from sensordrop.adapters.trail import WorkTrail
trail = WorkTrail(Path(sys.argv[1]))
for number in (11, 12, 13):
    trail.begin(number)
trail.end(12)
print("ready", flush=True)
time.sleep(60)
"""


def test_what_was_in_work_outlives_a_sigkill(tmp_path):
    path = tmp_path / "in-work"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    left = left_in_work(path)
    assert left is not None
    assert sorted(left.upload_ids) == [11, 13]
    assert left.boot_id == boot_id() != ""
    assert left.oom_kills <= oom_kills()


def test_an_orderly_end_leaves_nothing(tmp_path):
    trail = WorkTrail(tmp_path / "in-work")
    trail.begin(7)
    trail.close()
    assert left_in_work(tmp_path / "in-work") is None


def test_more_files_than_there_is_room_for_are_no_mistake(tmp_path):
    trail = WorkTrail(tmp_path / "in-work")
    for number in range(1, SLOTS + 10):
        trail.begin(number)
    trail.begin(1)
    left = left_in_work(tmp_path / "in-work")
    assert left is not None
    assert set(left.upload_ids) == set(range(1, SLOTS + 1))
    for number in range(1, SLOTS + 10):
        trail.end(number)
    trail.begin(99_999)
    left = left_in_work(tmp_path / "in-work")
    assert left is not None
    assert left.upload_ids == (99_999,)
    trail.close()


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"\0" * 32_824, os.urandom(32_824)])
def test_a_damaged_trail_says_nothing(tmp_path, content):
    (tmp_path / "in-work").write_bytes(content)
    assert left_in_work(tmp_path / "in-work") is None


def left(**changes: object) -> LeftInWork:
    settings: dict[str, object] = {"boot_id": "this", "oom_kills": 3, "upload_ids": (1,)}
    return LeftInWork(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "kills", "shown"),
    [
        (left(), 4, True),
        (left(), 3, False),  # killed by a hand
        (left(), 2, False),
        (left(boot_id="another"), 4, False),  # a power cut
        (left(upload_ids=()), 4, False),  # it died idle
        (None, 4, False),
    ],
)
def test_a_death_is_the_kernel_s_for_memory_only_where_it_is_shown(what, kills, shown):
    assert killed_for_memory(what, boot_id="this", oom_kills=kills) is shown
