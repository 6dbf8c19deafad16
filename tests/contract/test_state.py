"""The state directory: one process at a time, a name, and reports of crashes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from sensordrop.adapters.state import StateDirectory, StateDirectoryError


@pytest.fixture
def state(tmp_path):
    made = StateDirectory(tmp_path / "state")
    made.hold()
    yield made
    made.release()


def test_a_second_holder_is_refused_in_words(state):
    with pytest.raises(StateDirectoryError, match=r"another sensordropd \(process \d+\)"):
        StateDirectory(state.path).hold()
    state.release()
    second = StateDirectory(state.path)
    second.hold()
    second.release()


def test_names_are_made_once(state):
    station, instance = state.station(), state.instance()
    assert station
    assert (StateDirectory(state.path).station(), StateDirectory(state.path).instance()) == (
        station,
        instance,
    )


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match="can't be used"):
        StateDirectory(tmp_path / "file" / "state").hold()


@pytest.mark.parametrize(
    ("number", "reported"),
    [(signal.SIGSEGV, True), (signal.SIGABRT, True), (signal.SIGKILL, False)],
)
def test_only_a_crash_of_its_own_work_leaves_a_report(tmp_path, number, reported):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from sensordrop.adapters.state import StateDirectory\n"
        "state = StateDirectory(Path(sys.argv[1])); state.hold(); state.report_crashes()\n"
        "os.kill(os.getpid(), int(sys.argv[2]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s"), str(int(number))], check=False
    )
    assert ended.returncode == -number
    state = StateDirectory(tmp_path / "s")
    state.hold()
    report = state.crash_of_predecessor()
    assert (report is not None) is reported
    assert state.crash_of_predecessor() is None
    state.release()
