"""Limits as an operator sets them: in the configuration, by hand, with the daemon up and down."""

from __future__ import annotations

import json
import os
import time

import pytest
from daemon import drop_files, under_prefix

KIB = 1024


def limits(station, *arguments):
    """Give what `bandwidth --json` says, by delivery; None is the station's."""
    done = station.sensordrop("bandwidth", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["station"] == "teststation"
    return {each["delivery"]: each for each in told["limits"]}


def wait_for_rate(station, rate, of="this station"):
    station.daemon.wait_for(
        lambda: [line["rate"] for line in station.daemon.logs("bandwidth", of=of)][-1:] == [rate],
        what=f"{rate} for {of}",
    )


@pytest.mark.parametrize("engine", ["curl", "boto3"])
def test_a_limit_slows_uploads_down_until_it_is_lifted_while_they_run(station, engine):
    station.configure(bandwidth="10 KiB/s")
    station.delivery(engine=engine, stall_seconds=2)
    digests = drop_files(
        station.drop, {f"S1/{n}.wav": os.urandom(100 * KIB) for n in range(10)}
    )  # 100 seconds at this rate
    station.start()
    station.wait_for(lambda: station.delivery_status()["counts"]["uploading"] > 0, what="uploads")
    began = time.monotonic()
    time.sleep(6.0)
    stored = len(station.bucket.keys())
    assert stored * 100 * KIB <= 10 * KIB * (time.monotonic() - began + 10)
    assert not station.daemon.logs("breaker_opened"), "waiting is no stall"
    done = station.sensordrop("bandwidth", "off", "--reason", "the technician waits")
    assert done.returncode == 0, done.stderr
    assert "all uploads: full speed" in done.stdout
    assert "the technician waits" in done.stdout
    assert "configured: 10 KiB/s" in done.stdout
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    assert station.bucket.digests() == under_prefix(digests)


def test_what_was_set_by_hand_survives_restarts_and_config_goes_back(station):
    station.configure(bandwidth="4 MiB/s")
    station.start()
    wait_for_rate(station, "4 MiB/s")
    before = limits(station)
    assert before[None]["from"] == "configuration"
    assert before["card"] == before[None] | {
        "delivery": "card",
        "setting": "off",
        "configured": "off",
        "bytes_per_second": None,
    }
    assert limits(station, "1M")[None]["bytes_per_second"] == 1024 * KIB
    wait_for_rate(station, "1 MiB/s")
    assert limits(station, "2M", "--delivery", "card").keys() == {"card"}
    wait_for_rate(station, "2 MiB/s", "card")
    station.daemon.stop()
    station.start()
    wait_for_rate(station, "1 MiB/s")
    wait_for_rate(station, "2 MiB/s", "card")
    shown = limits(station)
    assert shown[None]["from"] == "command"
    assert shown[None]["set_by"].count("@") == 1
    assert shown[None]["set_at"]
    assert limits(station, "config")[None] == before[None]
    wait_for_rate(station, "4 MiB/s")
    kept = station.ledger.rows("SELECT value, ended_at, ended_by FROM controls ORDER BY id")
    assert [row["value"] for row in kept] == ["1M", "2M"]
    assert kept[0]["ended_by"], "the story is kept"
    assert kept[1]["ended_at"] is None


def test_a_limit_for_a_time_ends_by_itself(station):
    station.start()
    told = limits(station, "1M", "--for", "4s")
    assert told[None]["until"]
    wait_for_rate(station, "1 MiB/s")
    wait_for_rate(station, "full")
    assert limits(station)[None]["from"] == "configuration"


def test_it_can_be_set_while_the_daemon_is_down(station):
    station.start()
    station.daemon.stop()
    done = station.sensordrop("bandwidth", "00:00-12:00 1M, else 2M", "--delivery", "card")
    assert done.returncode == 0, done.stderr
    assert "sensordropd is not running" in done.stdout
    shown = limits(station)["card"]
    assert (shown["bytes_per_second"], shown["next_bytes_per_second"]) in {
        (1024 * KIB, 2048 * KIB),
        (2048 * KIB, 1024 * KIB),
    }
    assert shown["next_change"]
    station.start()
    station.daemon.wait_for(
        lambda: station.daemon.logs("bandwidth", of="card"), what="the limit in force"
    )


def test_a_delivery_that_is_pointed_elsewhere_keeps_what_was_set_for_it(station):
    station.start()
    limits(station, "1M", "--delivery", "card")
    station.daemon.stop()
    station.delivery(s3_prefix="C2")
    station.start()
    wait_for_rate(station, "1 MiB/s", "card")
    assert limits(station)["card"]["setting"] == "1M"


def test_mistakes_are_told_and_set_nothing(station):
    station.configure()
    unknown = station.sensordrop("bandwidth")
    assert unknown.returncode == 3, "there is no ledger yet"
    station.start()
    for arguments, words in (
        (["10mb"], "MB/s for bytes or Mbit/s for bits"),
        (["1M", "--delivery", "cart"], "did you mean 'card'"),
        (["1M", "--for", "soon"], "90m, 2h or 3d"),
        (["config", "--for", "2h"], "leave --for out"),
        (["--for", "2h"], "go with a LIMIT"),
    ):
        done = station.sensordrop("bandwidth", *arguments)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert station.ledger.rows("SELECT * FROM controls") == []


def test_a_limit_that_cannot_be_read_is_told_with_all_other_mistakes(station):
    station.configure(bandwidth="20:00-06:00 full else 10M")
    station.delivery(bandwidth="fast", max_workers="many")
    done = station.check_config()
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert "sensordrop.yaml: bandwidth: '20:00-06:00 full else 10M' is not" in said
    assert "at character 18, 'else': expected a comma" in said
    assert "card.yaml: bandwidth: 'fast' is not" in said
    assert "card.yaml: max_workers" in said
    station.configure(bandwidth="off")
    station.delivery(bandwidth="off")
    (station.configuration.path / "sensordrop.yaml").write_text(
        (station.configuration.path / "sensordrop.yaml").read_text().replace("'off'", "off")
    )
    assert station.check_config().returncode == 0
