"""The station's own time zone, which timetables are in unless they name another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sensordrop.adapters import clock

SUMMER = datetime(2026, 7, 1, tzinfo=UTC)
ZONES = Path("/usr/share/zoneinfo")


def summer_offset():
    return SUMMER.astimezone(clock.local_zone()).utcoffset()


@pytest.mark.parametrize("name", ["America/New_York", ":America/New_York"])
def test_the_environment_wins(monkeypatch, name):
    monkeypatch.setenv("TZ", name)
    assert summer_offset() == timedelta(hours=-4)


@pytest.mark.skipif(not ZONES.is_dir(), reason="this machine has no zone files")
def test_the_machines_file_counts_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("TZ", raising=False)
    link = tmp_path / "localtime"
    link.symlink_to(ZONES / "Europe" / "Berlin")
    monkeypatch.setattr(clock, "LOCAL_ZONE_FILE", link)
    assert summer_offset() == timedelta(hours=2)
    assert str(clock.local_zone()) == "Europe/Berlin"


def test_a_machine_that_says_nothing_is_in_utc(monkeypatch, tmp_path):
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(clock, "LOCAL_ZONE_FILE", tmp_path / "missing")
    assert clock.local_zone() is UTC
    (tmp_path / "missing").write_text("no zone")
    assert clock.local_zone() is UTC
    monkeypatch.setenv("TZ", "../etc/passwd")
    assert clock.local_zone() is UTC
