"""Whose trouble is it? One odd answer stops nobody; a store that is down, or a bad file, does."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from between import GoBetween
from daemon import Station, age, drop_files
from daemon import under_prefix as under
from s3_servers import Reply, error_xml

CARD = {f"950349/{n:03}.WAV": b"RIFF recording %d" % n for n in range(60)}
ODD = "950349/odd.WAV"


def status(station: Station) -> dict[str, Any]:
    done = station.sensordrop("status", "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def denied(method: str, path: str) -> Reply | None:
    if method == "PUT" and path.endswith("odd.WAV"):
        return Reply(status=403, body=error_xml("AccessDenied", "not this one"))
    return None


def test_a_single_odd_answer_among_successes_stops_nobody(station):
    tries: Counter[str] = Counter()

    def sometimes(method: str, path: str) -> Reply | None:
        if method == "PUT" and path.endswith(("7.WAV", "3.WAV")):
            tries[path] += 1
            if tries[path] == 1 and sum(tries.values()) > 1:
                return Reply(status=500, body=error_xml("InternalError", "oh"))
        return None

    with GoBetween(station.server.endpoint_url, sometimes) as between:
        station.delivery(endpoint_url=between.endpoint_url, times_to_retry=0, max_workers=2)
        digests = drop_files(station.drop, CARD)
        age(station.drop)
        station.start()
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    assert len(tries) == 12
    assert station.daemon.logs("breaker_opened") == []
    assert station.ledger.rows("SELECT 1 FROM upload_failures WHERE charged") == []
    told = station.ledger.rows("SELECT error_class FROM upload_failures WHERE NOT charged")
    assert {row["error_class"] for row in told} == {"server-error"}
    assert station.bucket.digests() == under(digests)


def test_one_key_that_is_forbidden_is_quarantined_and_holds_nobody_up(station):
    with GoBetween(station.server.endpoint_url, denied) as between:
        station.delivery(
            endpoint_url=between.endpoint_url, times_to_retry=1, retry_delay_seconds=0.1
        )
        digests = drop_files(station.drop, CARD)
        drop_files(station.drop, {ODD: b"RIFF odd"})
        age(station.drop)
        station.start()
        # When all else is stored, the bucket's check is what shows that the project is well.
        station.wait_for_states(dict.fromkeys(digests, "uploaded") | {ODD: "failed"})
        station.wait_for_published("watching")
        station.wait_for_session_end()
        failures = station.ledger.failures(ODD)
        assert {f["error_class"] for f in failures if f["charged"]} == {"rejected"}
        assert {f["error_class"] for f in failures if not f["charged"]} == {"access-denied"}
        assert "not this one" in failures[-1]["message"]
        more = drop_files(station.drop, {"cam/1.JPG": b"picture"})
        station.wait_for(
            lambda: station.ledger.states().get("cam/1.JPG") == "uploaded", what="others go on"
        )
        assert status(station)["breakers"] == []
    assert station.bucket.digests() == under(digests | more)


def test_a_stopped_destination_is_told_once_and_shown_until_it_is_back(station):
    down = True

    def refuse(method: str, _path: str) -> Reply | None:
        if down and method == "PUT":
            return Reply(status=503, body=error_xml("ServiceUnavailable", "in an hour"))
        return None

    with GoBetween(station.server.endpoint_url, refuse) as between:
        station.delivery(endpoint_url=between.endpoint_url, times_to_retry=0)
        digests = drop_files(station.drop, CARD)
        age(station.drop)
        station.start()
        told = station.wait_for(lambda: status(station)["breakers"], what="status shows it")
        assert (told[0]["scope"], told[0]["error_class"]) == ("destination", "server-error")
        assert told[0]["target"] == between.endpoint_url
        assert told[0]["next_probe_at"] >= told[0]["opened_at"]
        assert "stopped: destination" in station.sensordrop("status").stdout
        down = False
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
        station.wait_for(lambda: status(station)["breakers"] == [], what="it is shown no more")
    assert len(station.daemon.logs("breaker_opened")) == 1
    assert len(station.daemon.logs("breaker_closed")) == 1
    assert station.ledger.rows("SELECT 1 FROM upload_failures WHERE charged") == []
    assert station.bucket.digests() == under(digests)


def test_what_stopped_files_that_are_gone_stops_nothing_once_the_store_is_back(station):
    refused: Counter[str] = Counter()
    down = False

    def refuse(method: str, _path: str) -> Reply | None:
        if down:
            refused[method] += 1
            return Reply(status=503, body=error_xml("ServiceUnavailable", "in an hour"))
        return None

    with GoBetween(station.server.endpoint_url, refuse) as between:
        station.delivery(endpoint_url=between.endpoint_url, times_to_retry=0)
        digests = drop_files(station.drop, CARD)
        age(station.drop)
        station.start()
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
        down = True
        drop_files(station.drop, {ODD: b"RIFF odd"})
        station.wait_for_published("blocked")
        (station.drop / ODD).unlink()
        assert station.sensordrop("rescan", "card").returncode == 0
        station.wait_for(
            lambda: "pending" not in station.ledger.states().values(), what="nothing waits"
        )
        before = refused.total()
        station.wait_for(lambda: refused.total() > before, what="it is asked all the same")
        assert status(station)["breakers"], "it is away, whether anything waits or not"
        down = False
        station.wait_for_published("watching")
        station.wait_for(lambda: status(station)["breakers"] == [], what="it is shown no more")
        more = drop_files(station.drop, {"cam/1.JPG": b"picture"})
        station.wait_for(
            lambda: station.ledger.states().get("cam/1.JPG") == "uploaded", what="others go on"
        )
    assert station.bucket.digests() == under(digests | more)


def test_files_that_fail_one_after_the_other_pause_their_delivery_for_a_human(station):
    mended = False

    def refuse(method: str, path: str) -> Reply | None:
        if method == "PUT" and path.endswith(".WAV") and not mended:
            return Reply(status=400, body=error_xml("InvalidRequest", "not today"))
        return None

    with GoBetween(station.server.endpoint_url, refuse) as between:
        station.delivery(
            endpoint_url=between.endpoint_url, times_to_retry=0, pause_after_failures=3,
            max_workers=1,
        )  # fmt: skip
        digests = drop_files(station.drop, CARD)
        age(station.drop)
        station.start()
        told = station.wait_for_published("paused", reason="3 files failed")
        assert "rejected" in told["reason"]
        assert "sensordropd" in told["reason"]
        failed = [path for path, state in station.ledger.states().items() if state == "failed"]
        assert 3 <= len(failed) <= 5, "no more than were in work already"
        assert station.daemon.wait_for_log("delivery_halted")["hint"]
        # It is a pause like any other: it survives a restart, and resume ends it.
        assert station.daemon.stop() == 0
        station.start()
        station.wait_for_published("paused", reason="3 files failed")
        mended = True
        assert station.sensordrop("resume", "card").returncode == 0
        rest = {p: "failed" if p in failed else "uploaded" for p in digests}
        station.wait_for_states(rest)
        assert station.sensordrop("retry", "--all-failed").returncode == 0
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    assert station.bucket.digests() == under(digests)
