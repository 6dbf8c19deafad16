"""`sensordrop verify`: what a person who wants to wipe a card is told."""

from __future__ import annotations

import os
from typing import Any

import pytest
from daemon import age, drop_files
from verdicts import FILES, delete, problems, told_by


@pytest.fixture
def stored(station):
    """Give a station whose daemon has stored all files and still runs."""
    drop_files(station.drop, FILES)
    age(station.drop)
    station.start()
    station.wait_for_states(dict.fromkeys(FILES, "uploaded"))
    station.wait_for_session_end()
    return station


def verify(station, *arguments: str) -> tuple[int, dict[str, Any]]:
    return told_by(station, "verify", *arguments)


def checks(station) -> dict[str, tuple[str, str]]:
    rows = station.ledger.rows(
        "SELECT f.path, k.method::text, k.result::text FROM object_checks k"
        " JOIN file_uploads f ON f.id = k.upload_id"
    )
    return {row["path"]: (row["method"], row["result"]) for row in rows}


# --- safe ---------------------------------------------------------------------------------


def test_what_is_all_there_is_safe_by_every_way_of_looking(stored):
    session = str(stored.ledger.sessions()[0]["id"])
    by_listing = {"listing": 5, "head": 0, "read-back": 0}
    by_reading = {"listing": 0, "head": 0, "read-back": 5}
    for arguments, checked in {
        (): by_listing,
        ("--download",): by_reading,
        ("--source",): by_listing,
        ("--sample", "20%"): {"listing": 4, "head": 1, "read-back": 0},
        ("--download", "--sample", "21%"): {"listing": 3, "head": 0, "read-back": 2},
        ("--delivery", "card"): by_listing,
        ("--session-id", session): {"listing": 0, "head": 5, "read-back": 0},
        ("--session", session, "--download"): by_reading,
        ("--sensor", "S1"): {"listing": 0, "head": 3, "read-back": 0},
    }.items():
        code, told = verify(stored, *arguments)
        assert (code, told["verdict"], told["problems"]) == (0, "SAFE", []), (arguments, told)
        (card,) = told["deliveries"]
        assert card["checked"] == checked, arguments
    _, told = verify(stored, "--source")
    assert told["deliveries"][0]["source"] == {"same": 5, "gone": 0}
    assert stored.daemon.stop() == 0
    code, told = verify(stored)
    assert (code, told["verdict"]) == (0, "SAFE"), "the daemon need not run"
    assert checks(stored) == dict.fromkeys(FILES, ("listing", "same"))
    done = stored.sensordrop("verify")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "SAFE"


def test_a_verdict_on_a_part_says_that_it_is_on_a_part(stored):
    done = stored.sensordrop("verify", "--sensor", "S2")
    assert done.stdout.splitlines()[-1] == "SAFE (sensor S2 alone)"


# --- not safe -----------------------------------------------------------------------------


def test_missing_and_different_objects_are_named_and_extra_ones_told(stored):
    delete(stored, "C1/S1/a.wav")
    stored.bucket.put("C1/S2/d.wav", b"recording X")  # the same size
    stored.bucket.put("C1/S2/e.wav", b"shorter")
    stored.bucket.put("C1/S9/stranger.wav", b"?")
    stored.bucket.put("_sensordrop/receipt.json", b"{}")
    code, told = verify(stored)
    assert (code, told["verdict"]) == (1, "NOT SAFE")
    found = problems(told)
    assert found.keys() == {"S1/a.wav", "S2/d.wav", "S2/e.wav"}
    assert "not in the bucket" in found["S1/a.wav"]
    assert "ETag" in found["S2/d.wav"]
    assert "7 bytes" in found["S2/e.wav"]
    (card,) = told["deliveries"]
    assert (card["missing"], card["different"], card["unchecked"]) == (1, 2, 0)
    assert (card["extra"], card["extra_objects"]) == (
        1,
        [{"key": "C1/S9/stranger.wav", "bytes": 1}],
    )
    assert checks(stored)["S1/a.wav"] == ("head", "missing"), "it was looked for once more"
    assert stored.delivery_status()["mismatches"] == 3
    assert "sensordrop verify" in stored.sensordrop("status").stdout
    code, told = verify(stored, "--sensor", "S2")
    assert (code, problems(told).keys()) == (1, {"S2/d.wav", "S2/e.wav"})
    code, told = verify(stored, "--download")
    assert "SHA-256" in problems(told)["S2/d.wav"]
    stored.bucket.put("C1/S1/a.wav", FILES["S1/a.wav"])
    stored.bucket.put("C1/S2/d.wav", FILES["S2/d.wav"])
    stored.bucket.put("C1/S2/e.wav", FILES["S2/e.wav"])
    code, told = verify(stored)
    assert problems(told).keys() == {"S2/d.wav", "S2/e.wav"}
    assert all("--download" in reason for reason in problems(told).values())
    assert verify(stored, "--download")[0] == 0, "they were put back"
    assert stored.delivery_status()["mismatches"] == 0


def test_an_extra_object_alone_is_no_failure(stored):
    stored.bucket.put("C1/S9/stranger.wav", b"?")
    code, told = verify(stored)
    assert (code, told["deliveries"][0]["extra"]) == (0, 1)


def test_a_file_that_the_daemon_has_not_seen_is_not_safe(stored):
    assert stored.daemon.stop() == 0
    drop_files(stored.drop, {"S1/new.wav": b"nobody saw me", "S1/.DS_Store": b"junk"})
    (stored.drop / "S2" / "d.wav").write_bytes(b"recording X")
    (stored.drop / "S2" / "e.wav").unlink()
    code, told = verify(stored, "--source")
    assert (code, told["verdict"]) == (1, "NOT SAFE")
    found = problems(told)
    assert found.keys() == {"S1/new.wav", "S2/d.wav"}
    assert "not on the books" in found["S1/new.wav"]
    assert told["deliveries"][0]["source"] == {"same": 3, "gone": 1}
    reasons = [p["reason"] for p in told["problems"] if p["path"] == "S2/d.wav"]
    assert any("changed on disk" in reason for reason in reasons)
    assert any("SHA-256" in reason for reason in reasons)
    code, told = verify(stored, "--sensor", "S2", "--source")
    assert problems(told).keys() == {"S2/d.wav"}


@pytest.mark.parametrize(
    ("sql", "path", "words"),
    [
        ("UPDATE file_uploads SET state = 'failed', reason = 'no'", "S1/a.wav", "quarantined: no"),
        ("UPDATE file_uploads SET state = 'pending'", "S1/a.wav", "waiting"),
        (
            "UPDATE file_uploads SET state = 'vanished', size_bytes = 5",
            "S1/a.wav",
            "left the folder",
        ),
    ],
    ids=["failed", "pending", "vanished"],
)
def test_a_file_that_is_not_stored_is_not_safe(stored, sql, path, words):
    assert stored.daemon.stop() == 0
    stored.ledger.rows(f"{sql} WHERE path = '{path}' RETURNING id")
    session = str(stored.ledger.sessions()[0]["id"])
    for scope in (("--session-id", session), ("--sensor", "S1")):
        code, told = verify(stored, *scope)
        assert (code, told["verdict"]) == (1, "NOT SAFE")
        assert any(p["path"] == path and words in p["reason"] for p in told["problems"]), told
    stored.ledger.rows(f"UPDATE file_uploads SET state = 'uploaded', size_bytes = 11"
                       f" WHERE path = '{path}' RETURNING id")  # fmt: skip


def test_what_could_not_be_checked_is_never_safe(stored, moto):
    partial = (
        "UPDATE delivery_status SET last_sweep_complete = {}, last_sweep_problem = {} RETURNING 1"
    )
    assert stored.daemon.stop() == 0
    stored.ledger.rows(partial.format("false", "'S3: Permission denied'"))
    code, told = verify(stored)
    assert (code, told["verdict"]) == (1, "NOT SAFE")
    assert "Permission denied" in problems(told)[""]
    stored.ledger.rows(partial.format("true", "NULL"))
    assert verify(stored)[0] == 0
    away = stored.drop.with_name("away")
    stored.drop.rename(away)
    code, told = verify(stored)
    assert (code, problems(told).keys()) == (1, {""})
    assert "folder is missing" in problems(told)[""]
    away.rename(stored.drop)
    moto.freeze()
    try:
        stored.delivery(stall_seconds=1)
        code, told = verify(stored)
    finally:
        moto.thaw()
    (card,) = told["deliveries"]
    assert (code, told["verdict"], card["unchecked"]) == (1, "NOT SAFE", 5)
    assert problems(told).keys() == set(FILES)
    stored.delivery(s3_prefix="elsewhere")
    code, told = verify(stored)
    assert (code, told["verdict"]) == (1, "NOT SAFE")
    assert "goes elsewhere" in problems(told)[""]


def test_nothing_at_all_is_not_safe(station):
    station.start()
    station.wait_for_sweep()
    code, told = verify(station)
    assert (code, told["verdict"]) == (1, "NOT SAFE")


# --- use ----------------------------------------------------------------------------------


def test_a_slip_of_the_pen_is_never_safe(stored):
    for arguments, words in {
        ("--delivery", "cart"): "did you mean 'card'",
        ("--sensor", "S3"): "no file of a sensor 'S3'",
        ("--sample", "5"): "such as 5%",
        ("--sample", "0%"): "above 0%",
        ("--sample", "101%"): "up to 100%",
    }.items():
        done = stored.sensordrop("verify", *arguments)
        assert done.returncode == 2, (arguments, done.stdout)
        assert words in done.stderr
        assert "SAFE" not in done.stdout
    done = stored.sensordrop("verify", "--session-id", "4711")
    asked = stored.sensordrop("session", "4711")
    assert (done.returncode, asked.returncode) == (1, 1), "one table for all verbs"
    assert "there is no session 4711" in done.stderr


def test_without_a_ledger_it_says_so(station):
    done = station.sensordrop("verify")
    assert done.returncode == 3
    assert done.stdout == ""


def test_the_secret_is_never_shown(stored, moto):
    stored.environment["AWS_ACCESS_KEY_ID"] = "wrong"
    done = stored.sensordrop("verify", "--json")
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", moto.secret_key) not in done.stdout + done.stderr


# --- the daemon's own audit ---------------------------------------------------------------


def test_the_daemon_finds_what_is_missing_by_itself(station):
    station.configure(audit_share_per_day="100%")
    drop_files(station.drop, FILES)
    age(station.drop)
    station.start()
    station.wait_for_states(dict.fromkeys(FILES, "uploaded"))
    station.wait_for(
        lambda: station.ledger.rows("SELECT 1 FROM audit_rounds"), what="the audit has begun"
    )
    content = FILES["S1/a.wav"]
    delete(station, "C1/S1/a.wav")
    station.ledger.rows(
        "UPDATE audit_rounds SET used_until = now() - interval '1 day', began_at = now() RETURNING 1"
    )
    told = station.daemon.wait_for_log("object_missing", seconds=180)
    assert (told["level"], told["path"], told["delivery"]) == ("error", "S1/a.wav", "card")
    station.wait_for(lambda: len(checks(station)) == len(FILES), what="all are looked at")
    assert checks(station)["S1/a.wav"] == ("head", "missing")
    assert station.delivery_status()["mismatches"] == 1
    station.bucket.put("C1/S1/a.wav", content)
    assert verify(station)[0] == 0
    assert station.delivery_status()["mismatches"] == 0


def test_the_audit_can_be_switched_off(station):
    station.configure(audit_share_per_day=0)
    station.start()
    station.wait_for_sweep()
    assert station.daemon.stop() == 0
    assert station.ledger.rows("SELECT 1 FROM audit_rounds") == []
