"""`sensordrop report`: what a data manager is told of the season."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

import pytest
from daemon import drop_files

HOSTILE = "950350/<img src=x onerror=alert(1)>.wav"
FILES = {
    "950349/20250920_060000.WAV": b"recording a",
    "950349/20250922_060000.WAV": b"recording b",
    "950350/20250921_060000.WAV": b"recording c",
    HOSTILE: b"recording d",
}


@pytest.fixture
def stored(station):
    """Give a station whose daemon has stored all files and still runs."""
    station.delivery("card", client="acme & sons", project="birds", cycle="C1")
    drop_files(station.drop, FILES)
    station.start()
    station.wait_for_states(dict.fromkeys(FILES, "uploaded"))
    station.wait_for_session_end()
    return station


def report(station, *arguments: str) -> dict[str, Any]:
    done = station.sensordrop("report", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_season_is_told_as_it_is(stored):
    told = report(stored)
    (card,) = told["deliveries"]
    assert (card["client"], card["project"], card["cycle"]) == ("acme & sons", "birds", "C1")
    assert card["stored"]["files"] == 4
    assert (card["open"], told["not_safe_yet"]) == ([], 0)
    (cycle,) = told["coverage"]
    sensors = {each["sensor"]: each for each in cycle["sensors"]}
    assert list(sensors["950349"]["days"]) == ["2025-09-20", "2025-09-22"]
    assert sensors["950349"]["gap_days"] == 1
    assert told["cycles"][0]["types"]["audio"]["files"] == 4

    # A file that no store takes is quarantined, and told.
    long = "/".join(["950349", *["x" * 200] * 6, "a.WAV"])
    drop_files(stored.drop, {long: b"too long"})
    stored.wait_for_states({**dict.fromkeys(FILES, "uploaded"), long: "failed"})
    told = report(stored, "--client", "acme & sons", "--project", "birds", "--cycle", "C1")
    assert [each["kind"] for each in told["deliveries"][0]["open"]] == ["failed"]
    assert [each["path"] for each in told["failures"]] == [long]
    human = stored.sensordrop("report")
    assert "1 file quarantined after failures" in human.stdout
    assert "1 of 1 deliveries not safe yet" in human.stdout

    # Nobody looks into the folder any more: a card that is copied there now is not safe.
    assert stored.daemon.stop() == 0
    kinds = [each["kind"] for each in report(stored)["deliveries"][0]["open"]]
    assert kinds == ["failed", "unseen"]


def test_the_page_is_written_whole_or_not_at_all(stored, tmp_path):
    page = tmp_path / "season.html"
    mask = os.umask(0)
    os.umask(mask)
    done = stored.sensordrop("report", "--html", str(page))
    assert (done.returncode, done.stderr) == (0, "")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")
    assert stat.S_IMODE(page.stat().st_mode) == 0o666 & ~mask
    assert not list(tmp_path.glob(".season*"))
    assert "acme &amp; sons" in text

    # One that is there is replaced, and keeps its rights; a link to it stays a link.
    page.chmod(0o640)
    link = tmp_path / "link.html"
    link.symlink_to(page)
    assert stored.sensordrop("report", "--html", str(link)).returncode == 0
    assert link.is_symlink()
    assert stat.S_IMODE(page.stat().st_mode) == 0o640
    assert stored.sensordrop("report", "--html", "-").stdout.startswith("<!DOCTYPE html>")

    done = stored.sensordrop("report", "--html", str(tmp_path / "no folder" / "a.html"))
    assert done.returncode == 1
    assert "can't be written" in done.stderr


def test_passwords_are_not_told(stored, tmp_path):
    page = tmp_path / "season.html"
    secret = stored.database.replace("postgresql://sensordrop@", "postgresql://sensordrop:hush@")
    done = stored.sensordrop("report", "--database", secret, "--html", str(page), "--json")
    assert done.returncode == 0, done.stderr
    assert "hush" not in done.stdout + done.stderr + page.read_text(encoding="utf-8")
    assert json.loads(done.stdout)["ledger"].startswith("postgresql://sensordrop:***@")


def test_what_is_misspelt_is_said(stored):
    for arguments, words in {
        ("--project", "brids"): "birds",
        ("--client", "zeta"): "no delivery has the client 'zeta'; there are: acme & sons",
        ("--html", "-", "--json"): "give --html a file",
    }.items():
        done = stored.sensordrop("report", *arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr, arguments


def test_a_ledger_that_is_not_there_is_said(station):
    done = station.sensordrop("report", "--database", "postgresql://127.0.0.1:1/none")
    assert done.returncode == 3
    assert "the ledger is not available" in done.stderr
