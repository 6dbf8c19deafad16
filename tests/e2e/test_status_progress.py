"""How far a session is, as `sensordrop status` tells it while it runs."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from daemon import drop_files

KIB = 1024
FILES = 100


def test_status_tells_progress_speed_and_when_it_ends_under_the_limits_that_hold(station):
    station.configure(bandwidth="100 KiB/s")
    station.delivery()
    digests = drop_files(
        station.drop, {f"S1/{n}.wav": os.urandom(100 * KIB) for n in range(FILES)}
    )  # 100 seconds at this rate
    station.start()
    told = station.wait_for(
        lambda: (p := station.delivery_status()["progress"]) and p["finished"] >= 3 and p,
        what="some files stored",
    )
    assert (told["files"], told["bytes"]) == (FILES, FILES * 100 * KIB)
    assert told["bytes_left"] == (FILES - told["finished"]) * 100 * KIB
    assert told["share"] == pytest.approx(told["finished"] / FILES)
    assert 0 < told["bytes_per_second"] < 1000 * KIB, "the limit slows it down"
    speed = min(told["bytes_per_second"], 100 * KIB)
    assert told["seconds_left"] == pytest.approx(told["bytes_left"] / speed, rel=0.05)
    eta = datetime.fromisoformat(told["eta"])
    assert 0 < (eta - datetime.now(UTC)).total_seconds() <= told["seconds_left"] + 1
    shown = station.sensordrop("status").stdout
    assert f"of {FILES} files, " in shown
    assert " files/s, " in shown
    assert " left, until " in shown
    # It knows at once that a slower limit holds, before anything was measured under it.
    assert station.sensordrop("bandwidth", "2 KiB/s").returncode == 0
    slower = station.delivery_status()["progress"]
    assert slower["seconds_left"] >= 0.95 * slower["bytes_left"] / (2 * KIB)
    (row,) = station.ledger.rows("SELECT * FROM grafana.session_progress")
    assert (row["total"], row["state"]) == (FILES, "open")
    assert row["files_per_second"] > 0
    assert station.sensordrop("bandwidth", "off").returncode == 0
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    station.wait_for_session_end()
    assert station.delivery_status()["progress"] is None
    assert "files/s" not in station.sensordrop("status").stdout
