"""`why`, `retry`, `files`, `sessions`, `session`, `deliveries`: as a data manager uses them."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import Any

from between import GoBetween
from daemon import Station, age, drop_files
from daemon import under_prefix as under
from s3_servers import Reply, error_xml

BAD = "950349/bad.WAV"
GOOD = {f"950349/{n}.WAV": b"RIFF recording %d" % n for n in range(5)}


def asked(station: Station, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = station.sensordrop(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Refusing:
    """A store that refuses files of one ending, until it is mended."""

    def __init__(self) -> None:
        self.mended = False
        self.tries = 0

    def __call__(self, method: str, path: str) -> Reply | None:
        if self.mended or method != "PUT" or not path.endswith("bad.WAV"):
            return None
        self.tries += 1
        return Reply(status=400, body=error_xml("InvalidRequest", "not today"))


@contextmanager
def a_station_with_a_failed_file(station: Station, **delivery: Any):
    refusing = Refusing()
    with GoBetween(station.server.endpoint_url, refusing) as between:
        settings = {"times_to_retry": 1, "retry_delay_seconds": 0.1, **delivery}
        station.delivery(endpoint_url=between.endpoint_url, **settings)
        digests = drop_files(station.drop, GOOD)
        digests |= drop_files(station.drop, {BAD: b"RIFF the store does not like"})
        age(station.drop)
        station.start()
        yield refusing, digests


def test_a_failed_file_is_explained_retried_and_stored_by_a_running_daemon(station):
    with a_station_with_a_failed_file(station) as (refusing, digests):
        station.wait_for_states(dict.fromkeys(GOOD, "uploaded") | {BAD: "failed"})
        station.wait_for_session_end()
        told = asked(station, "why", BAD)
        assert (told["delivery"], told["state"], told["attempts"]) == ("card", "failed", 2)
        assert told["error_class"] == "rejected"
        assert "not today" in told["error"]
        (blocker,) = told["blocked_by"]
        assert blocker["what"] == "quarantine"
        assert f"sensordrop retry {BAD} --delivery card" in blocker["hint"]
        assert [each["charged"] for each in told["failures"]] == [True, True]
        assert [each["final"] for each in told["failures"]] == [False, True]
        for each in told["failures"]:
            assert told["seen_at"] <= told["enrolled_at"] <= each["begun_at"] <= each["ended_at"]
        assert asked(station, "why", str(station.drop / BAD)) == told, "its absolute path will do"
        words = station.sensordrop("why", BAD).stdout
        assert "quarantined" in words
        assert "docs/failures.md" in words

        (line,) = asked(station, "files", "--state", "failed")["files"]
        assert (line["path"], line["error_class"], line["sensor"]) == (BAD, "rejected", "950349")
        (ended,) = asked(station, "sessions")["sessions"]
        assert (ended["files"], ended["counts"]["failed"]) == (len(GOOD) + 1, 1)
        session = asked(station, "session", str(ended["id"]))
        assert session["failures"] == [{"error_class": "rejected", "files": 1, "example": BAD}]

        refusing.mended = True
        done = asked(station, "retry", BAD, "--reason", "the policy is mended")
        assert done["retried"] == 1
        station.wait_for(
            lambda: station.ledger.states()[BAD] == "uploaded", what="the file is stored"
        )
        station.wait_for_session_end(2)
        told = asked(station, "why", BAD)
        assert (told["state"], told["attempts"], told["blocked_by"]) == ("uploaded", 0, [])
        (by_hand,) = told["retries"]
        assert by_hand["reason"] == "the policy is mended"
        assert "@" in by_hand["asked_by"]
        assert len(told["earlier_versions"][0]["failures"]) == 2, "its story goes on"
        assert asked(station, "files", "--state", "failed")["files"] == []
        # The ended session keeps what it counted.
        newest, first = asked(station, "sessions")["sessions"]
        assert first == ended
        assert (newest["files"], newest["counts"]["uploaded"]) == (1, 1)
    assert station.bucket.digests() == under(digests)


def test_a_file_that_waits_is_tried_at_once_when_somebody_says_so(station):
    with a_station_with_a_failed_file(station, times_to_retry=5, retry_delay_seconds=3600) as (
        refusing,
        digests,
    ):
        station.wait_for(lambda: refusing.tries == 1, what="it failed once")
        station.wait_for(
            lambda: [f["charged"] for f in station.ledger.failures(BAD)] == [True], what="told"
        )
        told = asked(station, "why", BAD)
        assert (told["state"], told["attempts"]) == ("pending", 1)
        assert [each["what"] for each in told["blocked_by"]] == ["wait"]
        assert told["next_attempt_at"] is not None
        # It is not failed: only --now hurries it.
        done = asked(station, "retry", BAD, code=1)
        assert (done["retried"], done["hurried"]) == (0, 0)
        refusing.mended = True
        assert asked(station, "retry", "--delivery", "card", "--now")["hurried"] == 1
        station.wait_for(
            lambda: station.ledger.states()[BAD] == "uploaded", what="the file is stored"
        )
        station.wait_for_session_end()
    assert station.bucket.digests() == under(digests)


def test_everything_that_failed_is_retried_while_the_daemon_is_down(station):
    with a_station_with_a_failed_file(station) as (refusing, digests):
        station.wait_for_states(dict.fromkeys(GOOD, "uploaded") | {BAD: "failed"})
        station.wait_for_session_end()
        assert station.daemon.stop() == 0
        assert [b["what"] for b in asked(station, "why", BAD)["blocked_by"]] == ["quarantine"]
        refusing.mended = True
        done = station.sensordrop("retry", "--all-failed")
        assert done.returncode == 0, done.stderr
        assert "not running" in done.stdout
        assert [b["what"] for b in asked(station, "why", BAD)["blocked_by"]] == ["daemon"]
        assert asked(station, "retry", "--all-failed")["retried"] == 0, "nothing is left"
        station.start()
        station.wait_for(
            lambda: station.ledger.states()[BAD] == "uploaded", what="the file is stored"
        )
        station.wait_for_session_end(2)
    assert station.bucket.digests() == under(digests)


def test_why_tells_what_holds_a_file_up_before_it_was_ever_tried(station):
    station.delivery(quiet_seconds=2)
    station.start()
    assert station.sensordrop("pause", "card", "--reason", "a call").returncode == 0
    odd = os.fsdecode(b"950349/caf\xe9 1.WAV")
    drop_files(station.drop, {odd: b"sound", "950349/.DS_Store": b"what?"})
    told = asked(station, "why", odd)
    assert told["state"] in ("settling", "pending")
    station.wait_for(
        lambda: asked(station, "why", odd)["state"] == "pending", what="it is on the books"
    )
    told = asked(station, "why", odd)
    assert told["path"] == "950349/caf\\xe9 1.WAV"
    (blocker,) = told["blocked_by"]
    assert blocker["what"] == "pause"
    assert "a call" in blocker["reason"]
    assert asked(station, "why", told["path"])["state"] == "pending", "the text form will do"
    told = asked(station, "why", "950349/.DS_Store")
    assert (told["state"], told["blocked_by"][0]["what"]) == ("ignored", "ignored")
    done = station.sensordrop("why", "950349/never.WAV")
    assert done.returncode == 1
    assert str(station.drop) in done.stderr
    assert station.sensordrop("resume", "card").returncode == 0
    station.wait_for(lambda: asked(station, "why", odd)["state"] == "uploaded", what="it is stored")


def test_lists_come_in_pages_and_name_only_what_is_asked_for(station):
    drop_files(station.drop, GOOD | {"cam/1.JPG": b"picture"})
    age(station.drop)
    station.start()
    station.wait_for(lambda: len(station.bucket.keys()) == 6, what="all is stored")
    station.wait_for_session_end()
    seen: list[str] = []
    after: list[str] = []
    while True:
        page = asked(station, "files", "--state", "uploaded", "--limit", "4", *after)
        seen += [line["path"] for line in page["files"]]
        if page["next"] is None:
            break
        after = ["--after", str(page["next"])]
    assert sorted(seen) == sorted([*GOOD, "cam/1.JPG"])
    of_sensor = asked(station, "files", "--sensor", "cam")["files"]
    assert [line["path"] for line in of_sensor] == ["cam/1.JPG"]
    assert asked(station, "files", "--state", "vanished")["files"] == []
    (delivery,) = asked(station, "deliveries")["deliveries"]
    assert (delivery["name"], delivery["local_directory"]) == ("card", str(station.drop))
    assert delivery["counts"]["uploaded"] == 6
    assert station.sensordrop("files", "--delivery", "crad").returncode == 2
    assert station.sensordrop("session", "999").returncode == 1
    assert station.sensordrop("retry").returncode == 2
    for verb in ("files", "sessions", "deliveries"):
        assert "card" in station.sensordrop(verb).stdout
