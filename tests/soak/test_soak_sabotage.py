"""A short soak in which something is damaged behind the daemon's back ends red.

`make soak` itself runs in CI and shows the opposite.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
