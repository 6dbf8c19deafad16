"""Whoever downstream wants to know is told of every session that ends, once."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import SCRIPTS, SOURCES, WAIT_SECONDS, age, drop_files, wait_until
from receivers import Receiver, answer, cut_in_the_answer, hang, receiving

SECRET = "a secret of many letters"
EXAMPLE = Path(__file__).parents[2] / "packaging" / "examples" / "registration_receiver.py"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def told_to(receiver: Receiver, **more: object) -> dict[str, object]:
    return {"url": receiver.url, "allow_private_addresses": True, **more}


def drop(station, name: str = "950349") -> None:
    drop_files(station.drop, {f"{name}/20250909_092000.WAV": b"dawn", f"{name}/CONFIG.TXT": b"c"})
    age(station.drop)


def outbox(station) -> list[dict]:
    return station.ledger.rows("SELECT * FROM outbox ORDER BY id")


def wait_for_told(station, letters: int = 1) -> list[dict]:
    station.wait_for(
        lambda: [row["state"] for row in outbox(station)] == ["told"] * letters,
        what=f"{letters} told",
    )
    return outbox(station)


def test_a_session_that_ended_is_told_with_all_that_downstream_asks_for(station, receiver):
    station.delivery(
        client="acme",
        project="highlands",
        cycle="C1",
        endpoint=told_to(receiver, secret=SECRET, token="t0ken", headers={"X-Site": "north"}),
    )
    drop(station)
    station.start()
    (row,) = wait_for_told(station)
    (heard,) = receiver.heard
    told = heard.told
    assert {key: told[key] for key in ("bucket_name", "s3_prefix", "total_files")} == {
        "bucket_name": station.bucket.name,
        "s3_prefix": "C1",
        "total_files": 2,
    }
    assert (told["files_uploaded"], told["total_bytes"], told["session_id"]) == (2, 5, 1)
    assert (told["client"], told["project"], told["cycle"]) == ("acme", "highlands", "C1")
    assert told["sensors"] == [
        {"sensor": "950349", "files": 2, "bytes": 5, "files_uploaded": 2, "files_failed": 0}
    ]
    assert told["started_at"] < told["ended_at"]
    assert told["receipt_digest"] is None, "no receipt was asked for"
    signed = heard.headers["sensordrop-timestamp"].encode() + b"." + heard.body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert heard.headers["sensordrop-signature"] == f"v1={expected}"
    assert heard.headers["authorization"] == "Bearer t0ken"
    assert heard.headers["x-site"] == "north"
    assert heard.key == str(row["idempotency_key"])
    assert row["endpoint"] == receiver.url
    station.wait_for_session_end()
    for secret in (SECRET, "t0ken"):
        assert secret not in station.daemon.output()
        kept = station.ledger.rows("SELECT configuration::text AS text FROM config_history")
        assert not [each for each in kept if secret in each["text"]]


def test_a_daemon_that_dies_between_telling_and_noting_tells_again_under_the_same_key(
    station, receiver
):
    receiver.script = [hang]
    station.delivery(endpoint=told_to(receiver))
    drop(station)
    station.start()
    station.wait_for(lambda: receiver.heard, what="the first request")
    station.daemon.kill9()
    station.start()
    (row,) = wait_for_told(station)
    first, second = receiver.heard
    assert first.key == second.key == str(row["idempotency_key"])
    assert first.body == second.body


def test_an_endpoint_in_trouble_is_told_as_soon_as_it_is_well_and_one_that_refuses_is_left_alone(
    station, receiver
):
    receiver.script = [answer(503), cut_in_the_answer, answer(200, "welcome")]
    station.delivery(endpoint=told_to(receiver))
    drop(station)
    station.start()
    wait_for_told(station)
    assert len({heard.key for heard in receiver.heard}) == 1
    tries = station.ledger.rows("SELECT status, answer, problem FROM outbox_attempts ORDER BY id")
    assert [each["status"] for each in tries] == [503, None, 200]
    assert tries[2]["answer"] == "welcome"
    receiver.script = [answer(400, "no such project")]
    drop(station, "950350")
    (failed,) = station.wait_for(
        lambda: [row for row in outbox(station) if row["state"] == "failed"], what="a refusal"
    )
    assert station.daemon.logs("letter_failed", session=failed["session_id"])
    assert len(receiver.heard) == 4


def trigger(station, *arguments: str) -> tuple[int, dict]:
    done = station.sensordrop("trigger", *arguments, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["letter"]


def test_what_failed_is_seen_and_told_again_by_hand_with_and_without_a_daemon(station, receiver):
    receiver.always = answer(410, "gone for t0ken")
    station.delivery(endpoint=told_to(receiver, secret=SECRET, token="t0ken"))
    drop(station)
    station.start()
    station.wait_for(lambda: [r for r in outbox(station) if r["state"] == "failed"], what="refused")
    assert station.delivery_status()["letters"] == {"delayed": 0, "failed": 1}
    assert "not heard by the endpoint" in station.sensordrop("status").stdout
    shown = station.sensordrop("session", "1").stdout
    assert "registration to" in shown
    assert "failed after 1 attempt: the endpoint answered 410" in shown
    told = json.loads(station.sensordrop("session", "1", "--json").stdout)["letters"]
    assert [(each["status"], each["answer"]) for each in told] == [(410, "gone for ***")]
    receiver.always = answer(200)
    code, letter = trigger(station, "--session-id", "1")
    assert (code, letter["state"], letter["status"]) == (0, "told", 200)
    assert station.delivery_status()["letters"] == {"delayed": 0, "failed": 0}
    assert station.daemon.stop() == 0
    receiver.always = answer(503)
    code, letter = trigger(station, "--session-id", "1")
    assert (code, letter["state"], letter["status"]) == (1, "waiting", 503)
    with receiving() as other:
        code, letter = trigger(
            station, "--session-id", "1", "--url", other.url, "--allow-private-addresses"
        )
        assert (code, letter["state"]) == (0, "told")
        (heard,) = other.heard
    assert "authorization" not in heard.headers, "it was meant for another host"
    assert "sensordrop-signature" in heard.headers
    assert len({each.key for each in receiver.heard}) == 1
    assert heard.key == receiver.heard[0].key, "it may be the same receiver by another name"
    assert station.sensordrop("trigger", "--session-id", "99").returncode == 1


def test_ctrl_c_breaks_a_trigger_off_and_the_letter_is_free_again(station, receiver):
    station.delivery(endpoint=told_to(receiver, timeout_seconds=300))
    drop(station)
    station.start()
    wait_for_told(station)
    assert station.daemon.stop() == 0
    receiver.always = hang
    verb = [str(SCRIPTS / "sensordrop"), "trigger", "--config", str(station.configuration.path)]
    asked = subprocess.Popen(
        [*verb, "--session-id", "1"], env=station.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
    )  # fmt: skip
    try:
        wait_until(lambda: len(receiver.heard) == 2, what="a letter under way")
        asked.send_signal(signal.SIGINT)
        told, _ = asked.communicate(timeout=WAIT_SECONDS)
    finally:
        asked.kill()
        asked.wait()
    assert (asked.returncode, told) == (130, "")
    (row,) = outbox(station)
    assert (row["state"], row["leased_until"], row["attempts"]) == ("waiting", None, 0)


def test_the_example_receiver_of_the_documentation_takes_each_session_once(station, tmp_path):
    file = tmp_path / "registrations.jsonl"
    server = subprocess.Popen(
        [sys.executable, str(EXAMPLE), "127.0.0.1", "0", str(file)],
        env={"PATH": os.environ["PATH"], "SENSORDROP_ENDPOINT_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        station.environment["SENSORDROP_ENDPOINT_SECRET"] = SECRET
        station.delivery(endpoint={"url": url, "allow_private_addresses": True})
        drop(station)
        station.start()
        wait_for_told(station)
        (line,) = file.read_text().splitlines()
        assert json.loads(line)["told"]["session_id"] == 1
        forged = subprocess.run(
            [sys.executable, "-c", FORGED, url], capture_output=True, text=True, check=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES},
        )  # fmt: skip
        assert forged.stdout.strip() == "401"
        assert len(file.read_text().splitlines()) == 1
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


FORGED = """
import sys, time, urllib.error, urllib.request
from sensordrop.core.letters import signature
at = int(time.time())
headers = {"Idempotency-Key": "x", "Sensordrop-Timestamp": str(at),
           "Sensordrop-Signature": "v1=" + signature("guessed", at, b"{}")}
try:
    print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], b"{}", headers)).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
