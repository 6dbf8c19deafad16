"""`sensordrop upload`: a folder is uploaded by hand, with the same engine and the same ledger."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from batch_hand import LINE, Hand
from between import GoBetween
from daemon import (
    SOURCES,
    WAIT_SECONDS,
    command,
    drop_files,
    embedded_processes,
    under_prefix,
    wait_until,
)
from s3_servers import Reply, error_xml

from sensordrop.config import DaemonConfig


def described() -> dict[str, set[str]]:
    """Give the keys of every event that docs/cli.md describes."""
    page = (Path(SOURCES).parent / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", page, re.MULTILINE)
    plain = [(name, re.sub(r"\([^)]*\)", "", keys)) for name, keys in rows]
    return {name: set(re.findall(r"`(\w+)`", keys)) for name, keys in plain}


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Give what a run told with --json, which is as docs/cli.md says."""
    assert done.returncode in (0, 1), done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    keys = described()
    for each in told:
        name = each["event"]
        assert name in keys or not name.startswith("run_"), f"{name} stands in no page"
        assert set(each) - {"event", "level"} == keys.get(name, set(each) - {"event", "level"}), (
            name
        )
    return told


def figures(text: str) -> list[tuple[str, ...]]:
    return [match.groups() for match in LINE.finditer(text)]


def test_a_file_with_the_eight_older_keys_is_enough(hand):
    stored = hand.record(30)
    (hand.card / ".DS_Store").write_bytes(b"junk")
    done = hand.upload()
    assert done.returncode == 0, done.stdout + done.stderr
    assert hand.bucket.digests() == stored
    (session,) = hand.ledger.sessions()
    assert (session["state"], session["origin"]) == ("ended", "batch")
    assert "@" in session["started_by"]
    (binding,) = hand.ledger.rows(
        "SELECT c.name AS client, p.name AS project, y.name AS cycle FROM deliveries AS d"
        " JOIN clients AS c ON c.id = d.client_id JOIN projects AS p ON p.id = d.project_id"
        " JOIN cycles AS y ON y.id = d.cycle_id"
    )
    assert binding == {"client": "default", "project": hand.bucket.name, "cycle": "C2"}
    assert session["files_uploaded"] == 30
    told = done.stdout.splitlines()
    for opening in (
        f"Session: {session['id']} (highlands)", "Auto-retry: on, up to 1 retries of a file",
        f"Directory: {hand.card}", "Profile: field", f"Bucket: {hand.bucket.name}/C2",
        "Previously uploaded files loaded: 0",
    ):  # fmt: skip
        assert opening in told
    assert any("identity: " in line for line in told)
    last = figures(done.stdout)[-1]
    assert last[:4] == ("100.0", "30", "30", "0")
    assert last[5:7] == ("30", "0")
    assert "30 files: 30 uploaded" in done.stdout
    assert "\x1b" not in done.stdout, "no terminal, no control characters"

    for verb in ("verify", "receipt"):
        proven = hand.run("--config", hand.file.name, "--json", verb=verb)
        assert json.loads(proven.stdout)["verdict"] == "SAFE", proven.stdout + proven.stderr
    if not DaemonConfig().state_directory.exists():  # no daemon is installed here
        assert len(list((hand.home / ".local/share/sensordrop/receipts").iterdir())) == 1

    again = hand.upload()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Previously uploaded files loaded: 30" in again.stdout
    assert "nothing to do: all files are stored already" in again.stdout
    assert len(hand.ledger.sessions()) == 1, "a session without files leaves no row"
    assert "is not kept: no file came into it" in again.stdout


def test_what_fails_is_told_and_the_next_run_tries_it_again(hand, moto):
    stored = hand.record(5)
    refused = "C2/950349/00003.WAV"
    mended = threading.Event()

    def refuse(method: str, path: str) -> Reply | None:
        if mended.is_set() or method != "PUT" or not path.endswith(refused):
            return None
        return Reply(status=400, body=error_xml("InvalidRequest", "not today"))

    url = hand.environment.pop("SENSORDROP_DATABASE_URL")
    again_there = f"--config highlands.json --database '{url}'"
    with GoBetween(moto.endpoint_url, refuse) as between:
        hand.write(endpoint_url=between.endpoint_url, retry_delay_seconds=0.1)
        told = events(hand.upload("--json", "--database", url))
        hand.environment["SENSORDROP_DATABASE_URL"] = url
        last = told[-1]
        assert (last["event"], last["how"], last["well"]) == ("run_ended", "done", False)
        assert (last["uploaded"], last["failed"], last["remaining"]) == (4, 1, 0)
        ((failure),) = last["failures"]
        assert (failure["error_class"], failure["files"]) == ("rejected", 1)
        session = last["session"]
        assert last["retry"] == f"sensordrop retry --session-id {session} {again_there}"
        (bad,) = [each for each in told if each["event"] == "file_quarantined"]
        assert "not today" in bad["problem"]
        assert [each for each in told if each["event"] == "file_failed"], "it was tried again"
        progress = [each for each in told if each["event"] == "run_progress"]
        assert progress[-1]["uploaded"] == 4
        assert {e["event"] for e in told} >= {"run_started", "run_check", "run_stored_before"}

        quiet = hand.upload("--quiet", "--no-auto-retry")
        assert quiet.returncode == 1, "what had failed before is not stored now either"
        assert "rejected: 1 file" in quiet.stdout
        assert "Session:" not in quiet.stdout

        mended.set()
        again = hand.upload("--verbose")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "Tried again: 1 file that failed before" in again.stdout
        assert "ok 950349/00003.WAV" in again.stdout
    assert hand.bucket.digests() == stored


def test_one_run_of_a_folder_at_a_time_and_ctrl_c_stops_it_in_order(hand, moto):
    stored = hand.record(12)
    with GoBetween(moto.endpoint_url) as between:
        between.gate.clear()
        hand.write(endpoint_url=between.endpoint_url)
        first = hand.start()
        try:
            wait_until(lambda: between.waiting, what="uploads that wait at the gate")
            second = hand.upload()
            assert second.returncode == 1, second.stdout + second.stderr
            assert f"another run is at work on {hand.card}" in second.stdout
            first.send_signal(signal.SIGINT)
            told, _ = first.communicate(timeout=WAIT_SECONDS)
        finally:
            first.kill()
            first.wait()
        assert first.returncode == 130, told
        assert "12 files remain; the same command goes on where this stopped" in told
        assert [s["state"] for s in hand.ledger.sessions()] == ["open"]
        between.gate.set()
        done = hand.upload()
        assert done.returncode == 0, done.stdout + done.stderr
    (session,) = hand.ledger.sessions()
    assert session["files_uploaded"] + session["files_skipped"] == 12, "it went on with the session"
    assert hand.bucket.digests() == stored


def test_a_folder_stays_taken_when_the_database_loses_its_connections(hand, moto):
    stored = hand.record(4)
    taken = (
        "SELECT l.pid FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
        " WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 2"
        " AND l.classid = (hashtext('sensordrop.batch')::bigint & 4294967295)::oid"
    )
    with GoBetween(moto.endpoint_url) as between:
        between.gate.clear()
        hand.write(endpoint_url=between.endpoint_url)
        first = hand.start()
        try:
            wait_until(lambda: between.waiting, what="uploads that wait at the gate")
            (before,) = hand.ledger.rows(taken)
            hand.ledger.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            wait_until(
                lambda: [row for row in hand.ledger.rows(taken) if row != before],
                what="the first run to take its folder again",
            )
            second = hand.upload()
            assert second.returncode == 1, second.stdout + second.stderr
            assert f"another run is at work on {hand.card}" in second.stdout
            between.gate.set()
            told, _ = first.communicate(timeout=WAIT_SECONDS)
        finally:
            between.gate.set()
            first.kill()
            first.wait()
    assert first.returncode == 0, told
    assert "4 files: 4 uploaded" in told
    assert [d["ended_at"] for d in hand.ledger.rows("SELECT ended_at FROM daemons")] != [None]
    assert hand.bucket.digests() == stored


def test_mistakes_are_told_before_anything_is_done(hand):
    hand.write(max_worker=15, use_find="perhaps")
    wrong = hand.upload()
    assert wrong.returncode == 2
    assert "max_worker" in wrong.stderr
    assert "max_workers" in wrong.stderr, "it says what may have been meant"
    assert "use_find" in wrong.stderr
    nothing = hand.run()
    assert nothing.returncode == 2
    assert "sensordrop upload --config FILE" in nothing.stderr
    assert "sensordrop upload --local-directory FOLDER --bucket-name BUCKET" in nothing.stderr
    little = hand.run("--local-directory", "card")
    assert little.returncode == 2
    assert "bucket_name: is missing" in little.stderr
    assert "sensordrop upload --config FILE" in little.stderr
    hand.write()
    gone = hand.upload("--local-directory", "nowhere")
    assert gone.returncode == 1
    assert "nowhere is not there" in gone.stdout
    hand.record(1)
    missing = hand.upload("--bucket-name", "no-such-bucket-here", "--cycle", "C9")
    assert missing.returncode == 1
    assert "no-such-bucket-here" in missing.stdout
    assert hand.ledger.uploads() == [], "nothing went on the books"
    assert hand.ledger.sessions() == []
    nobody = hand.upload(SENSORDROP_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert nobody.returncode == 3
    assert "ledger" in nobody.stderr


def test_a_dry_run_says_what_would_be_done_and_does_nothing(hand):
    hand.record(3)
    (hand.card / "Thumbs.db").write_bytes(b"junk")
    done = hand.upload("--dry-run", "--use-find", "no")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"3 files would be uploaded to {hand.bucket.name}/C2" in done.stdout
    assert "1 file more would be ignored" in done.stdout
    assert hand.bucket.keys() == []
    assert hand.ledger.uploads() == []
    assert hand.upload().returncode == 0
    hand.record(2, first=3)
    later = hand.upload("--dry-run").stdout
    assert "2 files would be uploaded" in later
    *_, dry, last = events(hand.upload("--dry-run", "--json"))
    assert (dry["event"], dry["new"], last["dry_run"]) == ("run_dry", 2, True)
    assert "4 files on the books already" in later


def test_every_ten_thousand_files_it_is_told_how_far_the_listing_is(hand):
    folder = hand.card / "950349"
    folder.mkdir()
    for number in range(20_500):
        os.mknod(folder / f"{number:05}.WAV")
    done = hand.upload("--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.findall(
        r"^find: Found ([\d,]+) files so far… \([\d,]+/s\)$", done.stdout, re.MULTILINE
    )
    assert told == ["10,000", "20,000"], done.stdout
    assert "Found 20,500 files" in done.stdout


def test_a_living_daemon_that_has_the_folder_is_handed_the_work(station):
    station.start()
    station.wait_for_sweep()
    station.delivery_status()
    file = station.folder / "by-hand.json"
    file.write_text(
        json.dumps(
            {
                "local_directory": "drop",
                "bucket_name": station.bucket.name,
                "s3_prefix": "C1",
                "endpoint_url": station.server.endpoint_url,
            }
        )
    )
    digests = drop_files(station.drop, {f"950349/{n}.WAV": b"RIFF %d" % n for n in range(4)})
    done = command(
        "upload", "--config", str(file), environment=station.environment
        | {"SENSORDROP_DATABASE_URL": station.database, "SENSORDROP_STATION": "teststation"},
        cwd=station.folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"sensordropd looks after {station.drop} (delivery card)" in done.stdout
    assert station.bucket.digests() == under_prefix(digests)
    assert {s["origin"] for s in station.ledger.sessions()} == {"daemon"}
    assert len(station.ledger.rows("SELECT * FROM deliveries")) == 1


def test_the_ledger_is_embedded_where_none_is_configured(tmp_path, rclone):
    alone = Hand(tmp_path / "hand", rclone, None)
    alone.environment["XDG_DATA_HOME"] = str(tmp_path / "data")
    stored = alone.record(3)
    done = alone.upload()
    assert done.returncode == 0, done.stdout + done.stderr
    assert alone.bucket.digests() == stored
    assert (tmp_path / "data" / "sensordrop" / "postgresql").is_dir()
    assert embedded_processes(tmp_path) == [], "what it started has ended with it"
    listed = alone.run("--config", alone.file.name, "--json", verb="sessions")
    (session,) = json.loads(listed.stdout)["sessions"]
    assert (session["origin"], session["counts"]["uploaded"]) == ("batch", 3)
    alone.record(1, first=3)
    again = events(alone.upload("--json", "--verbose"))
    assert (again[-1]["well"], again[-1]["uploaded"]) == (True, 1)
    assert [each["path"] for each in again if each["event"] == "file_stored"] == [
        "950349/00003.WAV"
    ]
