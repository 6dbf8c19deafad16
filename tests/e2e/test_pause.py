"""Pauses by hand: uploads stop at once, nothing is charged, and it all survives a restart."""

from __future__ import annotations

import json
import os
import time

import pytest
from between import Wire
from daemon import Station, age, drop_files, sha256, wait_until

MIB = 1024 * 1024
LARGE = "950349/20250909_092000.WAV"
SILENT_LOOKS = 12
"""So many looks, a tenth of a second apart, at a wire on which nothing passes."""
MOST_UNDER_WAY = 30 * MIB
"""More than the kernel keeps of what was sent into a connection and not taken out of it."""


def paused(station: Station, *arguments: str) -> list[dict[str, object]]:
    done = station.sensordrop(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)["paused"]
    return found


def wait_until_silent(wire: Wire) -> None:
    """Wait until nothing passes any more, in many looks in a row: what was in the pipe goes on.

    Looks and not seconds, since a machine that stands still for a moment stops both.
    """
    seen: list[int] = []

    def silent() -> bool:
        seen.append(wire.sent_bytes)
        return len(seen) >= SILENT_LOOKS and len(set(seen[-SILENT_LOOKS:])) == 1

    wait_until(silent, what="nothing of it is sent any more")


def state(station: Station) -> str:
    told = json.loads(station.sensordrop("status", "--json").stdout)
    return str(told["deliveries"][0]["state"])


@pytest.mark.parametrize(
    "size", [3 * MIB, 40 * MIB, 90 * MIB], ids=["small", "one request", "parts"]
)
def test_a_pause_breaks_a_running_transfer_off_and_a_resume_lets_it_go_on(
    make_station, rclone, size
):
    content = os.urandom(size)
    with Wire(rclone.endpoint_url) as wire:
        wire.bytes_per_second = 100_000
        station = make_station(rclone)
        station.delivery(endpoint_url=wire.endpoint_url)
        drop_files(station.drop, {LARGE: content})
        age(station.drop)
        station.start()
        station.wait_for(lambda: wire.sent_bytes > 200_000, what="the file is on its way")
        told = paused(station, "pause", "card", "--reason", "a call")
        assert [each["delivery"] for each in told] == ["card"]
        station.daemon.wait_for_log("paused", delivery="card")
        station.wait_for(
            lambda: station.ledger.current(LARGE)["claimed_by"] is None, what="it is given back"
        )
        wire.bytes_per_second = None
        wait_until_silent(wire)
        if size > MOST_UNDER_WAY:
            assert wire.sent_bytes < size, "all of it was sent"
        row = station.ledger.current(LARGE)
        assert (row["state"], row["attempts"]) == ("pending", 0)
        station.wait_for(lambda: state(station) == "paused", what="status says so")
        assert paused(station, "resume", "card") == []
        station.wait_for(
            lambda: station.ledger.states()[LARGE] in ("uploaded", "skipped"), what="it goes on"
        )
    assert station.bucket.digests() == {f"C1/{LARGE}": sha256(content)}


def test_a_paused_station_stays_paused_over_a_restart_and_still_takes_files_on(make_station, moto):
    station = make_station(moto)
    station.delivery()
    station.start()
    station.daemon.stop()
    told = paused(station, "pause", "--for", "2h", "--reason", "the link is down")
    assert told[0]["delivery"] is None
    assert told[0]["until"] is not None
    drop_files(station.drop, {"s/a.wav": b"sound"})
    age(station.drop)
    station.start()
    station.wait_for(
        lambda: station.ledger.states() == {"s/a.wav": "pending"}, what="it is on the books"
    )
    station.wait_for(lambda: state(station) == "paused", what="status says so")
    time.sleep(2.0)
    assert station.bucket.keys() == []
    words = station.sensordrop("status").stdout
    assert "the link is down" in words
    assert paused(station, "resume") == []
    station.wait_for(lambda: station.bucket.keys() == ["C1/s/a.wav"], what="it goes on")


def test_a_resumed_delivery_of_a_paused_station_says_what_still_holds(make_station, moto):
    station = make_station(moto)
    station.delivery()
    station.start()
    paused(station, "pause")
    paused(station, "pause", "card")
    assert [each["delivery"] for each in paused(station, "resume", "card")] == [None]
    newest, first = json.loads(station.sensordrop("pause", "--history", "--json").stdout)["pauses"]
    assert (newest["delivery"], first["delivery"]) == ("card", None)
    assert newest["ended_by"] == newest["set_by"], "who let it go on is kept"
    assert first["ended_at"] is None
    assert "card: by" in station.sensordrop("pause", "--history").stdout
    done = station.sensordrop("resume", "crad")
    assert done.returncode == 2
    assert "card" in done.stderr
