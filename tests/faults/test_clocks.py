"""A station whose clock is set while it works, or is decades wrong when it starts.

The real process runs under libfaketime, which tells it another wall clock. The machine's own is
never touched. Time that only passes (the monotonic clock) is real, as
it is where somebody sets a clock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from between import GoBetween
from daemon import Station, drop_files, sha256, under_prefix
from s3_servers import Reply, error_xml

DAY = 86_400
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
"""The library for programs with threads, of Debian's package libfaketime."""

pytestmark = pytest.mark.skipif(
    not LIBRARIES and os.environ.get("CI") != "true",
    reason="libfaketime is missing: as root, tests/faults/install_faketime.sh installs it",
)


class WallClock:
    """The wall clock of one station."""

    def __init__(self, station: Station) -> None:
        self._file = station.folder / "clock"
        self.set(0)
        station.environment |= {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # files keep the times that they have
        }

    def set(self, seconds: float) -> None:
        """Set it so far ahead of the machine's, all at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.replace(self._file)

    def set_to(self, when: datetime) -> None:
        self.set((when - datetime.now(UTC)).total_seconds())


@contextmanager
def station_with(make_station, server, **keys: object) -> Iterator[tuple[Station, WallClock]]:
    station: Station = make_station(server)
    station.configure()
    station.delivery(**keys)
    yield station, WallClock(station)
    station.assert_sound()
    assert station.daemon.stop() == 0, station.daemon.story()


def days_told(station: Station) -> set[str]:
    return {line["timestamp"][:10] for line in station.daemon.logs()}


def test_whatever_the_clock_does_each_file_is_stored_once_and_no_retry_waits_for_it(
    make_station, moto
):
    """One file of each card is refused once; the clock jumps while its retry waits."""
    refused: set[str] = set()

    def refuse(method: str, path: str) -> Reply | None:
        if method != "PUT" or not path.endswith("bad.WAV") or path in refused:
            return None
        refused.add(path)
        return Reply(status=400, body=error_xml("InvalidRequest", "not today"))

    now = datetime.now(UTC)
    spring = datetime(now.year + 1, 3, 28, 0, 59, 58, tzinfo=UTC)
    jumps = {
        "a day ahead": now + timedelta(days=1),
        "two days back": now - timedelta(days=1),
        "ten years ahead": now + timedelta(days=3650),
        "summer time begins": spring,
        "summer time ends": spring.replace(month=10, day=31),
    }
    digests: dict[str, str] = {}
    with (
        GoBetween(moto.endpoint_url, refuse) as between,
        station_with(
            make_station, moto, endpoint_url=between.endpoint_url, retry_delay_seconds=1
        ) as (station, clock),
    ):
        station.environment["TZ"] = "Europe/Berlin"
        station.start()
        assert days_told(station) & {f"{now:%Y-%m-%d}", f"{datetime.now(UTC):%Y-%m-%d}"}
        for number, (what, when) in enumerate(jumps.items()):
            card = {f"{number}/{n}.WAV": b"%d %d" % (number, n) for n in range(5)}
            digests |= drop_files(station.drop, card | {f"{number}/bad.WAV": what.encode()})
            station.wait_for(
                lambda number=number: any(f"/{number}/bad" in path for path in refused),
                what=f"a file is refused before: {what}",
            )
            clock.set_to(when)
            station.wait_for_states(dict.fromkeys(digests, "uploaded"))
        assert station.bucket.digests() == under_prefix(digests)
        assert len(between.puts(".WAV")) == len(digests), "sent once each"
        rows = station.ledger.uploads()
        assert len(rows) == len(digests), "one version of each"
        assert {r["path"]: r["attempts"] for r in rows if r["attempts"]} == {
            f"{number}/bad.WAV": 1 for number in range(len(jumps))
        }
        station.wait_for(
            lambda: all(s["state"] == "ended" for s in station.ledger.sessions()),
            what="sessions ended",
        )
        assert f"{now + timedelta(days=3650):%Y}" in {day[:4] for day in days_told(station)}
        for event in ("bug", "service_failed", "declared_dead", "claims_lost"):
            assert station.daemon.logs(event) == []


def test_a_file_that_is_written_while_the_clock_jumps_is_stored_whole_only(make_station, moto):
    with station_with(make_station, moto, sweep_interval_seconds=1) as (station, clock):
        station.start()
        path = station.drop / "S1" / "long.WAV"
        path.parent.mkdir()
        with path.open("wb") as file:
            for ahead in (DAY, -DAY, 400 * DAY, 0):
                clock.set(ahead)
                file.write(b"recording" * 1000)
                file.flush()
                swept = station.ledger.rows(
                    "SELECT max(last_sweep_ended_at) AS at FROM delivery_status"
                )
                station.wait_for(
                    lambda swept=swept: (
                        station.ledger.rows(
                            "SELECT max(last_sweep_ended_at) AS at FROM delivery_status"
                        )
                        != swept
                    ),
                    what="a sweep saw it",
                )
                assert station.bucket.keys() == []
        station.wait_for_states({"S1/long.WAV": "uploaded"})
        assert station.bucket.digests() == {"C1/S1/long.WAV": sha256(b"recording" * 4000)}
        assert len(station.ledger.uploads()) == 1


def test_a_station_that_starts_in_the_year_2000_stores_all_when_the_time_comes(
    make_station, rclone
):
    """As without a battery for the clock. rclone refuses signatures of another day."""
    with station_with(make_station, rclone) as (station, clock):
        clock.set_to(datetime(2000, 1, 1, tzinfo=UTC))
        digests = drop_files(station.drop, {f"S1/{n}.WAV": b"old %d" % n for n in range(20)})
        station.start()
        opened = station.daemon.wait_for_log("breaker_opened")
        assert opened["error_class"] == "clock-skew"
        assert opened["timestamp"].startswith("2000-01-01")
        clock.set(0)
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
        station.wait_for_session_end()
        assert station.bucket.digests() == under_prefix(digests)
        assert {row["attempts"] for row in station.ledger.uploads()} == {0}
