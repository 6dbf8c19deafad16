"""The systemd unit, as systemd itself reads and rates it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "sensordropd.service"
WORST_EXPOSURE = 1.5
"""Of ten: what `systemd-analyze security` may find at most."""

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed (apt install systemd)",
)


@pytest.fixture
def unit(tmp_path) -> Path:
    """Give the unit with programs that exist on this machine."""
    text = re.sub(r"/opt/sensordrop/bin/\w+", "/bin/true", UNIT.read_text())
    (tmp_path / UNIT.name).write_text(text)
    return tmp_path / UNIT.name


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_systemd_has_nothing_to_say_against_it(unit):
    """It ends with 0 even where it ignores a line; what it ignores it tells."""
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_line_that_systemd_does_not_know_would_be_seen(unit):
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in analyze("verify", "--man=no", str(unit)).stderr


def test_its_exposure_is_low(unit):
    done = analyze("security", "--offline=true", "--json=short", "--no-pager", str(unit))
    found = json.loads(done.stdout)
    exposure = sum(float(each["exposure"] or 0) for each in found)
    assert exposure > 0, "nothing was rated"
    threshold = str(int(WORST_EXPOSURE * 10))
    rated = analyze("security", "--offline=true", f"--threshold={threshold}", str(unit))
    assert rated.returncode == 0, rated.stdout
    stricter = analyze("security", "--offline=true", "--threshold=5", str(unit))
    assert stricter.returncode != 0, "a threshold that nothing can miss"


def test_every_line_of_the_sandbox_says_why():
    lines = UNIT.read_text().splitlines()
    begins = next(n for n, line in enumerate(lines) if line.startswith("# --- What"))
    ends = lines.index("[Install]")
    settings = [n for n in range(begins, ends) if lines[n] and not lines[n].startswith("#")]
    assert len(settings) > 20
    assert [lines[n] for n in settings if not lines[n - 1].startswith("# ")] == []
