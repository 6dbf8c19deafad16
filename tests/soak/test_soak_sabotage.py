"""A short soak in which something is damaged behind the daemon's back ends red.

`make soak` itself runs in CI and shows the opposite.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from soak_sabotage import KINDS

SOAK = Path(__file__).with_name("soak.py")
FOUND_AS = {"lose": "lost", "alter": "altered", "double": "doubled", "stick": "stuck"}
MINUTES = "0.1"


@pytest.fixture(scope="module")
def soaks():
    """Give how each sabotaged soak ended: they wait most of the time, so they run together."""
    running = {}
    for kind in KINDS:
        changes = {"SABOTAGE": kind, "MINUTES": MINUTES, "SEED": kind, "KEEP": ""}
        running[kind] = subprocess.Popen(
            [sys.executable, str(SOAK)],
            env=os.environ | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    ended = {}
    for kind, process in running.items():
        told, _ = process.communicate()
        ended[kind] = (process.returncode, told)
    return ended


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_sabotage_is_seen(soaks, kind):
    code, told = soaks[kind]
    last = json.loads(told.splitlines()[-1])
    assert code == 1, told
    assert last[FOUND_AS[kind]] > 0, told
    assert f"sabotage: {kind}" in told
    assert last["faults"], "nothing befell it, so nothing was shown"


@pytest.fixture
def open_folder():
    """Give a folder that the soak's database, which is another user's, may enter."""
    with tempfile.TemporaryDirectory(prefix="broken-off-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def cards_in(folder: Path) -> bool:
    try:
        return any(folder.glob("soak-*/drop/*/*"))
    except FileNotFoundError:
        return False  # a folder was renamed while it was looked at: the soak does such things


def working_on(folder: Path) -> list[dict[str, object]]:
    return [p.info for p in psutil.process_iter(["cmdline"]) if str(folder) in str(p.info)]


@pytest.mark.timeout(600)
def test_a_soak_that_is_broken_off_takes_everything_with_it(open_folder):
    process = subprocess.Popen(
        [sys.executable, "-u", str(SOAK)],
        env=os.environ | {"MINUTES": "30", "SEED": "broken off", "SABOTAGE": "", "KEEP": "",
                          "TMPDIR": str(open_folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert "30 minutes" in process.stdout.readline()
        give_up = time.monotonic() + 240
        while not cards_in(open_folder):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < give_up, "no card was dropped"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, told
    assert "broken off" in told.splitlines()[-1]
    assert "Traceback" not in told
    assert [*open_folder.iterdir()] == []
    give_up = time.monotonic() + 60
    while left := working_on(open_folder):  # a killed daemon's `find` ends when it is next read
        assert time.monotonic() < give_up, left
        time.sleep(0.1)


def test_a_sabotage_that_nobody_knows_is_refused():
    done = subprocess.run(
        [sys.executable, str(SOAK)],
        env=os.environ | {"SABOTAGE": "burn"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "lose, alter, double, stick" in done.stderr
