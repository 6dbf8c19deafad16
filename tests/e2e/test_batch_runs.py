"""`sensordrop upload`: a folder is uploaded by hand, with the same engine and the same ledger."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from between import GoBetween
from daemon import (
    SCRIPTS,
    SOURCES,
    WAIT_SECONDS,
    Bucket,
    LedgerView,
    command,
    drop_files,
    embedded_processes,
    sha256,
    under_prefix,
    wait_until,
)
from s3_servers import Reply, error_xml

LINE = re.compile(
    r"\| (\d+\.\d)% \| Uploaded: ([\d,]+)/([\d,]+) \| Skipped: ([\d,]+) \| Size: (\d+\.\d\d) GB "
    r"\| Successful: ([\d,]+) \| Failed: ([\d,]+) \| Speed: (\d+\.\d) files/s "
    r"\| ETA: (\d\d:\d\d|--:--)"
)
OLD_KEYS = (
    "local_directory", "bucket_name", "s3_prefix", "max_workers", "aws_region", "times_to_retry",
    "aws_profile", "use_find",
)  # fmt: skip


class Hand:
    """Somebody at a shell, with a card, a bucket and a JSON file in the older format."""

    def __init__(self, folder: Path, server: Any, database: str | None) -> None:
        self.folder = folder
        self.card = folder / "card"
        self.home = folder / "home"
        for each in (self.card, self.home):
            each.mkdir(parents=True)
        self.bucket = Bucket(server, f"hand-{uuid.uuid4().hex[:12]}")
        self.bucket.make()
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCES,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "AWS_ENDPOINT_URL": server.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SENSORDROP_DELIVERY_QUIET_SECONDS": "0.1",
        }
        if database is not None:
            self.environment["SENSORDROP_DATABASE_URL"] = database
            self.ledger = LedgerView(lambda: database)
        (self.home / ".aws").mkdir()
        (self.home / ".aws" / "credentials").write_text(
            f"[field]\naws_access_key_id = {server.access_key}\n"
            f"aws_secret_access_key = {server.secret_key}\n"
        )
        self.write()

    @property
    def file(self) -> Path:
        return self.folder / "highlands.json"

    def write(self, **keys: object) -> None:
        """Write the configuration: the eight older keys, as the old tool had them."""
        told: dict[str, object] = {
            "local_directory": "card",
            "bucket_name": self.bucket.name,
            "s3_prefix": "C2",
            "max_workers": 4,
            "aws_region": "us-east-1",
            "times_to_retry": 1,
            "aws_profile": "field",
            "use_find": "yes",
        }
        assert tuple(told) == OLD_KEYS
        self.file.write_text(json.dumps(told | keys))

    def record(self, count: int, *, first: int = 0, size: int = 2_000) -> dict[str, str]:
        """Put recordings on the card, and give what the bucket must have of them."""
        made = {}
        for number in range(first, first + count):
            content = f"sound {number} ".encode() * (size // 8)
            file = self.card / "950349" / f"{number:05}.WAV"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            made[f"C2/950349/{number:05}.WAV"] = sha256(content)
        return made

    def run(
        self, *arguments: str, verb: str = "upload", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return command(
            verb, *arguments, environment=self.environment | environment, cwd=self.folder
        )

    def upload(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("--config", self.file.name, *arguments, **environment)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin an upload and don't wait for it."""
        return subprocess.Popen(
            [str(SCRIPTS / "sensordrop"), "upload", "--config", self.file.name, *arguments],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        )  # fmt: skip


@pytest.fixture
def hand(tmp_path, moto, ledger_url) -> Hand:
    return Hand(tmp_path / "hand", moto, ledger_url)


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


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

    again = hand.upload()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Previously uploaded files loaded: 30" in again.stdout
    assert "nothing to do: all files are stored already" in again.stdout
    assert len(hand.ledger.sessions()) == 1, "a session without files leaves no row"


def test_what_fails_is_told_and_the_next_run_tries_it_again(hand, moto):
    stored = hand.record(5)
    refused = "C2/950349/00003.WAV"
    mended = threading.Event()

    def refuse(method: str, path: str) -> Reply | None:
        if mended.is_set() or method != "PUT" or not path.endswith(refused):
            return None
        return Reply(status=400, body=error_xml("InvalidRequest", "not today"))

    with GoBetween(moto.endpoint_url, refuse) as between:
        hand.write(endpoint_url=between.endpoint_url, retry_delay_seconds=0.1)
        told = events(hand.upload("--json"))
        last = told[-1]
        assert (last["event"], last["how"], last["well"]) == ("run_ended", "done", False)
        assert (last["uploaded"], last["failed"], last["remaining"]) == (4, 1, 0)
        ((failure),) = last["failures"]
        assert (failure["error_class"], failure["files"]) == ("rejected", 1)
        session = last["session"]
        assert last["retry"] == f"sensordrop retry --session-id {session} --config highlands.json"
        (bad,) = [each for each in told if each["event"] == "file_quarantined"]
        assert "not today" in bad["problem"]
        assert [each for each in told if each["event"] == "file_failed"], "it was tried again"
        progress = [each for each in told if each["event"] == "run_progress"]
        assert progress[-1]["uploaded"] == 4

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


def test_mistakes_are_told_before_anything_is_done(hand):
    hand.write(max_worker=15, use_find="perhaps")
    wrong = hand.upload()
    assert wrong.returncode == 2
    assert "max_worker" in wrong.stderr
    assert "max_workers" in wrong.stderr, "it says what may have been meant"
    assert "use_find" in wrong.stderr
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
    assert "2 files would be uploaded" in hand.upload("--dry-run").stdout


def test_a_living_daemon_that_has_the_folder_is_handed_the_work(station):
    station.start()
    station.wait_for_sweep()
    station.delivery_status()
    hand = station.folder / "by-hand.json"
    hand.write_text(
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
        "upload", "--config", str(hand), environment=station.environment
        | {"SENSORDROP_DATABASE_URL": station.database, "SENSORDROP_STATION": "teststation"},
        cwd=station.folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"sensordropd looks after {station.drop} (delivery card)" in done.stdout
    assert station.bucket.digests() == under_prefix(digests)
    assert {s["origin"] for s in station.ledger.sessions()} == {"daemon"}
    assert len(station.ledger.rows("SELECT * FROM deliveries")) == 1


def test_the_ledger_is_embedded_where_none_is_configured(tmp_path, rclone):
    hand = Hand(tmp_path / "hand", rclone, None)
    hand.environment["XDG_DATA_HOME"] = str(tmp_path / "data")
    stored = hand.record(3)
    done = hand.upload()
    assert done.returncode == 0, done.stdout + done.stderr
    assert hand.bucket.digests() == stored
    assert (tmp_path / "data" / "sensordrop" / "postgresql").is_dir()
    assert embedded_processes(tmp_path) == [], "what it started has ended with it"
    listed = hand.run("--config", hand.file.name, "--json", verb="sessions")
    (session,) = json.loads(listed.stdout)["sessions"]
    assert (session["origin"], session["counts"]["uploaded"]) == ("batch", 3)
    again = hand.upload("--json")
    assert again.returncode == 0
    assert json.loads(again.stdout.splitlines()[-1])["files"] == 0
