"""`sensordrop receipt`: what a person who wants to wipe a card is told, and what they can show."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from daemon import age, drop_files
from verdicts import FILES, delete, problems, told_by

JUNK = {"S1/.DS_Store": b"junk", "S2/._d.wav": b"more junk"}


@pytest.fixture
def stored(make_station, moto):
    """Give a station whose daemon has stored all files, and ended: what lies in its bucket is the
    test's to damage.
    """
    station = make_station(moto)
    station.configure()
    station.delivery()
    drop_files(station.drop, FILES | JUNK)
    age(station.drop)
    station.start()
    station.wait_for_states(dict.fromkeys(FILES, "uploaded"))
    station.wait_for_session_end()
    assert station.daemon.stop() == 0
    return station


def receipt(station, *arguments: str) -> tuple[int, dict[str, Any]]:
    return told_by(station, "receipt", *arguments)


def counts(told: dict[str, Any]) -> dict[str, int]:
    (one,) = told["receipts"]
    return {name: each["files"] for name, each in one["counts"].items()}


def in_bucket(station) -> list[str]:
    answer = station.server.client().list_objects_v2(
        Bucket=station.bucket.name, Prefix="_sensordrop/receipts/"
    )
    return [each["Key"] for each in answer.get("Contents", [])]


def test_what_is_all_stored_is_safe_and_the_receipt_proves_it(stored, tmp_path):
    page = tmp_path / "card.html"
    code, told = receipt(stored, "--html", str(page))
    assert (code, told["verdict"], told["problems"]) == (0, "SAFE", []), told
    assert counts(told) == {"stored": 5, "skipped": 2, "quarantined": 0, "pending": 0}
    (one,) = told["receipts"]
    assert one["payload_oxum"] == f"{sum(map(len, FILES.values()))}.5"
    kept = Path(one["kept_in"])
    manifest = dict(
        line.split("  ", 1)[::-1]
        for line in (kept / "manifest-sha256.txt").read_text().splitlines()
    )
    assert manifest == {
        name.replace("%", "%25"): hashlib.sha256(content).hexdigest()
        for name, content in FILES.items()
    }
    junk = [json.loads(line) for line in (kept / "files.jsonl").read_text().splitlines()]
    assert {j["path"]: j["reason"] for j in junk if j["class"] == "skipped"} == dict.fromkeys(
        JUNK, "junk"
    )
    assert "SAFE" in page.read_text()
    prefix = f"_sensordrop/receipts/{kept.name}"
    assert in_bucket(stored) == sorted(f"{prefix}/{each.name}" for each in kept.iterdir())
    assert one["object_key"] == f"{prefix}/receipt.json"
    assert stored.bucket.read(one["object_key"]) == (kept / "receipt.json").read_bytes()
    rows = stored.ledger.rows("SELECT verdict, encode(digest, 'hex') AS digest, object_key,"
                              " files_stored, files_skipped FROM receipts")  # fmt: skip
    assert rows == [
        {
            "verdict": "SAFE", "digest": one["digest"], "object_key": one["object_key"],
            "files_stored": 5, "files_skipped": 2,
        }
    ]  # fmt: skip
    key = next(kept.parent.parent.glob("receipt-key.pem"))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (made,) = stored.daemon.logs("receipt_key_made")
    public = json.loads((kept / "receipt.json").read_text())["public_key"]
    assert made["public_key"] == public == stored.sensordrop("receipt", "key").stdout.strip(), (
        "it was there before the first receipt"
    )
    code, told = receipt(stored, "--sensor", "S2", "--reread")
    assert (code, counts(told)["stored"], counts(told)["skipped"]) == (0, 2, 1)
    code, told = receipt(stored, "--each-sensor")
    made = {one["scope"]["sensor"]: one for one in told["receipts"]}
    assert (code, list(made)) == (0, ["S1", "S2"])
    assert [one["counts"]["stored"]["files"] for one in made.values()] == [3, 2]
    sections = [
        json.loads(line)["sensor"] for line in (kept / "files.jsonl").read_text().splitlines()
    ]
    assert sections == sorted(sections)
    assert stored.sensordrop("receipt", "verify", made["S2"]["kept_in"], "--store").returncode == 0
    done = stored.sensordrop("receipt")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "SAFE")


def test_a_receipt_that_was_tampered_with_or_lost_an_object_does_not_hold(stored, tmp_path):
    _, told = receipt(stored)
    kept = Path(told["receipts"][0]["kept_in"])
    public = stored.sensordrop("receipt", "key").stdout.strip()

    def verify(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = stored.sensordrop("receipt", "verify", str(folder), "--json", *arguments)
        return done.returncode, json.loads(done.stdout)

    code, found = verify(kept, "--store")
    assert (code, found["verdict"], found["objects"]) == (0, "SAFE", 5), found
    assert verify(kept / "receipt.json", "--public-key", public)[0] == 0
    delete(stored, "C1/S1/a.wav")
    stored.bucket.put("C1/S1/b.wav", b"recording X")
    code, found = verify(kept, "--store")
    assert (code, found["verdict"]) == (1, "NOT SAFE")
    assert problems(found).keys() == {"S1/a.wav", "S1/b.wav"}
    copy = tmp_path / "copy"
    shutil.copytree(kept, copy)
    document = json.loads((copy / "receipt.json").read_text())
    document["counts"]["stored"]["files"] = 6
    (copy / "receipt.json").write_text(json.dumps(document))
    code, found = verify(copy)
    assert (code, found["verdict"], found["genuine"]) == (1, "NOT SAFE", False)
    shutil.copy(kept / "receipt.json", copy / "receipt.json")
    with (copy / "manifest-sha256.txt").open("a") as manifest:
        manifest.write(f"{'0' * 64}  S1/never.wav\n")
    code, found = verify(copy)
    assert (code, found["genuine"], problems(found).keys()) == (1, True, {"manifest-sha256.txt"})


def test_whatever_is_not_stored_is_named_and_not_safe(stored):
    delete(stored, "C1/S1/a.wav")
    stored.bucket.put("C1/S1/b.wav", b"recording X")  # the same size
    drop_files(stored.drop, {"S1/new.wav": b"nobody saw me"})
    (stored.drop / "S2" / "link.wav").symlink_to("d.wav")
    times = os.stat(stored.drop / "S2" / "e.wav")  # noqa: PTH116
    (stored.drop / "S2" / "e.wav").write_bytes(b"recording Y")  # the same size and mtime
    os.utime(stored.drop / "S2" / "e.wav", ns=(times.st_atime_ns, times.st_mtime_ns))
    code, told = receipt(stored)
    assert (code, told["verdict"]) == (1, "NOT SAFE")
    found = problems(told)
    assert found.keys() == {
        "S1/a.wav", "S1/b.wav", "S1/new.wav", "S2/link.wav", "S2/e.wav"
    }  # fmt: skip
    assert "not in the bucket" in found["S1/a.wav"]
    assert "SHA-256" in found["S1/b.wav"], "it was read back"
    assert "not on the books" in found["S1/new.wav"]
    assert "symbolic link" in found["S2/link.wav"]
    assert "changed after it was stored" in found["S2/e.wav"]
    assert counts(told) == {"stored": 2, "skipped": 3, "quarantined": 2, "pending": 2}
    code, told = receipt(stored, "--reread", "--sensor", "S2")
    assert "SHA-256" in problems(told)["S2/e.wav"]
    os.utime(stored.drop / "S2" / "d.wav")  # touched, not changed
    assert "S2/d.wav" in problems(receipt(stored)[1])
    assert "S2/d.wav" not in problems(receipt(stored, "--reread")[1])


def test_a_folder_that_is_not_wholly_known_is_not_safe(stored):
    partial = "UPDATE delivery_status SET last_sweep_complete = {} RETURNING 1"
    stored.ledger.rows(partial.format("false"))
    code, told = receipt(stored)
    assert (code, problems(told).keys()) == (1, {""})
    assert "partial" in problems(told)[""]
    kept = told["receipts"][0]["kept_in"]
    done = stored.sensordrop("receipt", "verify", kept, "--json")
    found = json.loads(done.stdout)
    assert (found["verdict"], found["genuine"]) == ("NOT SAFE", True)
    assert done.returncode == 1, "a script that wipes after 0 must not"
    stored.ledger.rows(partial.format("true"))
    for path in FILES | JUNK:
        (stored.drop / path).unlink()
    code, told = receipt(stored)
    assert (code, told["receipts"][0]["gone"]) == (1, 5)
    assert "no file in the folder" in problems(told)[""], "an empty folder proves nothing"
    stored.drop.rename(stored.drop.with_name("away"))
    done = stored.sensordrop("receipt", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "missing" in done.stderr
    stored.drop.with_name("away").rename(stored.drop)


def test_a_store_that_does_not_answer_is_never_safe(stored, moto):
    stored.delivery(stall_seconds=1)
    moto.freeze()
    try:
        code, told = receipt(stored)
    finally:
        moto.thaw()
    assert (code, counts(told)["pending"]) == (1, 5)
    assert problems(told).keys() == {"", *FILES}
    (one,) = told["receipts"]
    assert one["object_key"] is None
    assert one["bucket_problem"]


def test_a_card_is_compared_by_content_whatever_it_is_called(stored, tmp_path):
    card = tmp_path / "NO NAME"
    drop_files(
        card,
        {f"DCIM/{n}.dat": content for n, content in enumerate(FILES.values())}
        | {"System Volume Information/x": b"junk"},
    )
    code, told = receipt(stored, "--card", str(card))
    assert (code, told["verdict"], counts(told)["stored"]) == (0, "SAFE", 5), told
    assert told["receipts"][0]["object_key"] is not None
    done = stored.sensordrop("receipt", "verify", told["receipts"][0]["kept_in"], "--store")
    assert (done.returncode, "5 as they were stored" in done.stdout) == (0, True), done.stdout
    (card / "DCIM" / "0.dat").write_bytes(b"recording Z")
    code, told = receipt(stored, "--card", str(card))
    assert (code, problems(told)) == (1, {"DCIM/0.dat": "its content is not stored"})
    (card / "DCIM" / "0.dat").write_bytes(b"recording a")
    delete(stored, "C1/S1/a.wav")
    code, told = receipt(stored, "--card", str(card))
    assert (code, problems(told)) == (1, {"DCIM/0.dat": "it is not in the bucket"})
    empty = tmp_path / "empty"
    empty.mkdir()
    assert receipt(stored, "--card", str(empty))[0] == 1
    done = stored.sensordrop("receipt", "--card", str(tmp_path / "nothing"))
    assert (done.returncode, "is the card mounted?" in done.stderr) == (1, True)


def test_a_delivery_that_no_daemon_has_begun_with_is_not_left_out(stored, tmp_path):
    (tmp_path / "new").mkdir()
    stored.delivery("new", local_directory=str(tmp_path / "new"), s3_prefix="C2")
    done = stored.sensordrop("receipt", "--json")
    assert (done.returncode, done.stdout) == (1, ""), "SAFE would be said of new, too"
    assert "does not know new yet" in done.stderr
    assert receipt(stored, "--delivery", "card")[0] == 0


def test_wrong_use_is_told(stored):
    for arguments in (
        ("--delivery", "carb"),
        ("--sensor", "S9"),
        ("--card", "/", "--sensor", "S1"),
        ("--each-sensor", "--sensor", "S1"),
        ("verify", str(stored.configuration.path / "sensordrop.yaml")),
    ):
        assert stored.sensordrop("receipt", *arguments).returncode == 2, arguments


# --- at the end of a session ---------------------------------------------------------------


def session_receipts(station) -> list[dict[str, Any]]:
    return station.ledger.rows(
        "SELECT r.verdict, r.files_stored, r.object_key, s.id AS session, s.state::text AS state"
        " FROM receipts r JOIN sync_sessions s ON s.id = r.session_id ORDER BY r.id"
    )


def state_of(station) -> Path:
    """Give the state directory, made by a daemon that found nothing to do."""
    station.start()
    assert station.daemon.stop() == 0
    return next(path.parent for path in station.folder.rglob("instance"))


def test_a_session_ends_with_a_receipt_also_after_a_kill_and_when_files_come_meanwhile(
    make_station, moto
):
    station = make_station(moto)
    station.configure()
    station.delivery(session_receipt=True)
    key = state_of(station) / "receipt-key.pem"
    # Every receipt is held up: its key's place is taken by a pipe that nobody writes into.
    key.unlink()
    os.mkfifo(key)
    drop_files(station.drop, FILES)
    age(station.drop)
    station.start()
    station.wait_for(
        lambda: [s["state"] for s in station.ledger.sessions()] == ["verifying"],
        what="a session that is verifying",
    )
    drop_files(station.drop, {"S3/late.wav": b"late"})
    station.wait_for(
        lambda: station.ledger.states().get("S3/late.wav") == "uploaded", what="the late file"
    )
    station.daemon.kill9()
    assert session_receipts(station) == []
    key.unlink()
    station.start()
    station.wait_for_session_end()
    (made,) = session_receipts(station)
    assert (made["verdict"], made["files_stored"], made["state"]) == ("SAFE", 6, "ended")
    assert made["object_key"] in in_bucket(station)
    assert station.daemon.stop() == 0


def test_a_session_whose_receipt_can_not_be_made_ends_and_says_why(make_station, moto):
    station = make_station(moto)
    station.configure()
    station.delivery(session_receipt=True)
    (state_of(station) / "receipt-key.pem").write_text("no key")
    drop_files(station.drop, FILES)
    age(station.drop)
    station.start()
    station.wait_for_session_end()
    (session,) = station.ledger.sessions()
    assert "receipt-key.pem" in session["receipt_problem"]
    assert session["files_uploaded"] == len(FILES)
    assert station.daemon.stop() == 0
