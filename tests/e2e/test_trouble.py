"""Trouble of every reach, told, waited out and mended without losing a file."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from between import GoBetween, Wire
from daemon import (
    QUIET_SECONDS,
    Station,
    database_url,
    drop_files,
    settle_accounts,
    short_socket_folder,
)
from daemon import under_prefix as under
from s3_servers import Reply, error_xml, running

from sensordrop.adapters.ledger.embedded import EmbeddedPostgres

CARD = {f"950349/{n:03}.WAV": b"RIFF recording %d" % n for n in range(30)}
NOBODY = 65534


# --- the folder ---------------------------------------------------------------------------


@pytest.fixture
def nobodys_station(make_station, moto) -> Iterator[Station]:
    """Give a station whose daemon runs as `nobody`, with a ledger that it runs itself."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a daemon as another user")
    # Nobody may not enter the folders of pytest.
    folder = Path(tempfile.mkdtemp(prefix="sensordrop-e2e-"))
    folder.chmod(0o755)
    launcher = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    try:
        station: Station = make_station(moto, folder=folder, database="embedded", launcher=launcher)
        station.configure()
        station.delivery(retry_delay_seconds=0, sweep_interval_seconds=3)
        station.state.mkdir()
        for each in (station.state, station.home):
            os.chown(each, NOBODY, NOBODY)
        yield station
        settle_accounts(station)
    finally:
        if station.has_daemon:
            station.close()
        shutil.rmtree(folder)


def test_an_unreadable_folder_is_not_an_empty_one(nobodys_station):
    station = nobodys_station
    first = drop_files(station.drop, {"open/1.wav": b"one", "closed/2.wav": b"two"})
    locked = station.drop / "closed"
    locked.chmod(0o700)
    station.start()
    station.wait_for_states({"open/1.wav": "uploaded"})
    told = station.wait_for_published("watching", reason="closed")
    assert "partial" in told["reason"]
    swept = station.wait_for_sweep(complete=False)
    assert "closed" in swept["last_sweep_problem"]
    time.sleep(3 * QUIET_SECONDS)
    assert [s["state"] for s in station.ledger.sessions()] == ["open"], "a session ended too early"
    assert "closed" in station.daemon.logs("sweep_partial")[0]["problem"]

    locked.chmod(0o755)
    station.wait_for_states(dict.fromkeys(first, "uploaded"))
    station.wait_for_session_end()
    assert station.bucket.digests() == under(first)
    station.wait_for(lambda: station.published()["reason"] is None, what="all is well")

    # What was seen before and can't be seen now is not gone.
    drop_files(station.drop, {"closed/3.wav": b"three", "open/4.wav": b"four"})
    (station.drop / "closed/3.wav").chmod(0o600)
    station.wait_for_states(
        dict.fromkeys(first, "uploaded") | {"open/4.wav": "uploaded", "closed/3.wav": "failed"}
    )
    failures = station.ledger.failures("closed/3.wav")
    assert {failure["error_class"] for failure in failures} == {"unreadable"}
    assert [failure["final"] for failure in failures] == [False] * 3 + [True]
    locked.chmod(0o700)
    station.wait_for_published("watching", reason="closed")
    assert "vanished" not in station.ledger.states().values()
    locked.chmod(0o755)


def test_a_missing_folder_is_offline_until_it_appears(station):
    station.drop.rmdir()
    station.start()
    told = station.wait_for_published("offline", reason=str(station.drop))
    assert "missing" in told["reason"]
    assert station.delivery_status()["state"] == "offline"
    digests = drop_files(station.folder / "elsewhere", CARD)
    (station.folder / "elsewhere").rename(station.drop)
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    station.wait_for_session_end()
    assert station.bucket.digests() == under(digests)
    station.wait_for_published("watching")


def test_a_folder_that_goes_away_in_the_middle_takes_no_file_with_it(station):
    digests = drop_files(station.drop, CARD)
    with GoBetween(station.server.endpoint_url) as between:
        between.gate.clear()
        station.delivery(endpoint_url=between.endpoint_url)
        station.start()
        station.wait_for(lambda: between.waiting == 4, what="uploads at the gate")
        station.drop.rename(station.folder / "unplugged")
        station.wait_for_published("offline")
        between.gate.set()
        station.wait_for(lambda: between.waiting == 0, what="the gate is free")
        time.sleep(2 * QUIET_SECONDS)
        states = set(station.ledger.states().values())
        assert states <= {"pending", "uploaded"}, "a missing folder says nothing about its files"
        assert station.ledger.sessions()[0]["state"] == "open"
        (station.folder / "unplugged").rename(station.drop)
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
        station.wait_for_session_end()
    assert station.bucket.digests() == under(digests)
    assert station.ledger.rows("SELECT * FROM upload_failures WHERE charged") == []


# --- the store ----------------------------------------------------------------------------


def test_a_store_that_is_down_blocks_and_uses_up_no_attempt(make_station, tmp_path):
    """A real server: away at the start, killed in the middle, and back each time."""
    with running("rclone", tmp_path / "rclone") as server:
        station: Station = make_station(server)
        station.configure()
        station.delivery(times_to_retry=0)
        port = int(server.endpoint_url.rpartition(":")[2])
        server.kill()
        first = drop_files(station.drop, CARD)
        station.start()
        told = station.wait_for_published("blocked")
        assert server.endpoint_url in told["reason"] or "connect" in told["reason"].lower()
        assert station.delivery_status()["state"] == "blocked"
        opened = station.daemon.logs("breaker_opened")[0]
        assert opened["scope"] == "destination"
        server.start(port)
        station.wait_for_states(dict.fromkeys(first, "uploaded"))
        assert station.daemon.logs("breaker_closed") != []

        server.kill()
        more = drop_files(station.drop, {f"cam/{n}.JPG": b"jpg %d" % n for n in range(30)})
        station.wait_for_published("blocked")
        server.start(port)
        station.wait_for_states(dict.fromkeys(first | more, "uploaded"))
        station.wait_for_published("watching")
        station.wait_for(
            lambda: all(s["state"] == "ended" for s in station.ledger.sessions()), what="sessions"
        )
        assert station.bucket.digests() == under(first | more)
        assert station.ledger.rows("SELECT * FROM upload_failures WHERE charged") == []
        assert {row["attempts"] for row in station.ledger.uploads()} == {0}
        settle_accounts(station)


def test_a_missing_bucket_pauses_its_project_alone_until_it_is_there(station):
    other = station.folder / "other"
    waiting = drop_files(station.drop, CARD)
    fine = drop_files(other, {"a/1.wav": b"one"})
    missing = f"{station.bucket.name}-missing"
    station.delivery(bucket_name=missing, times_to_retry=0)
    station.delivery("other", local_directory=str(other), s3_prefix="C2")
    station.elsewhere("card")
    station.start()
    told = station.wait_for_published("blocked", reason=missing)
    assert "—" in told["reason"], "it says what to do"
    station.wait_for_states(dict.fromkeys(waiting, "pending") | dict.fromkeys(fine, "uploaded"))
    assert station.bucket.keys() == sorted(under(fine, "C2"))
    station.server.client().create_bucket(Bucket=missing)
    station.wait_for_states(dict.fromkeys(waiting | fine, "uploaded"))
    assert station.ledger.rows("SELECT * FROM upload_failures WHERE charged") == []
    station.wait_for_published("watching")


def test_wrong_credentials_block_and_the_mended_file_is_enough(rclone_station):
    station = rclone_station
    file = station.home / ".aws" / "credentials"
    file.parent.mkdir()
    secret = "a-wrong-secret-that-must-not-be-shown"
    profile = "[field]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    file.write_text(profile.format(station.server.access_key, secret))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del station.environment[name]
    station.delivery(aws_profile="field", times_to_retry=0)
    digests = drop_files(station.drop, CARD)
    station.start()
    told = station.wait_for_published("blocked")
    assert "—" in told["reason"], "it says what to do"
    file.write_text(profile.format(station.server.access_key, station.server.secret_key))
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    assert station.bucket.digests() == under(digests)
    told = [line for line in station.daemon.logs() if line["level"] in ("warning", "error")]
    events = [line["event"] for line in told]
    assert events.count("breaker_opened") == 1, "it is told once"
    # The bucket's listing may meet the same refusal before the breaker is open, and says so once.
    assert sorted(events) in (["breaker_opened"], ["breaker_opened", "listing_failed"])
    assert secret not in station.daemon.output()
    assert station.server.secret_key not in station.daemon.output()


@pytest.mark.parametrize("times_to_retry", [0, 2])
def test_a_bad_file_uses_its_retries_is_quarantined_and_blocks_nobody(station, times_to_retry):
    bad = "950349/bad.WAV"
    digests = drop_files(station.drop, CARD)
    drop_files(station.drop, {bad: b"RIFF the store does not like"})
    tries = []

    def refuse(method: str, path: str) -> Reply | None:
        if method != "PUT" or not path.endswith("bad.WAV"):
            return None
        tries.append(path)
        return Reply(status=400, body=error_xml("InvalidRequest", "not today"))

    with GoBetween(station.server.endpoint_url, refuse) as between:
        station.delivery(
            endpoint_url=between.endpoint_url,
            times_to_retry=times_to_retry,
            retry_delay_seconds=0.2,
        )
        station.start()
        station.wait_for_states(dict.fromkeys(digests, "uploaded") | {bad: "failed"})
        station.wait_for_session_end()
        # A failed file stays failed: neither a sweep nor a restart sends it again by itself.
        assert station.daemon.stop() == 0
        station.start()
        station.wait_for_sweep()
        assert len(tries) == times_to_retry + 1
        assert sorted(set(between.puts(".WAV"))) == sorted(
            f"/{station.bucket.name}/C1/{path}" for path in digests
        )
    failures = station.ledger.failures(bad)
    assert [failure["final"] for failure in failures] == [False] * times_to_retry + [True]
    assert [failure["attempts"] for failure in failures] == list(range(1, times_to_retry + 2))
    assert station.ledger.current(bad)["attempts"] == times_to_retry + 1
    counts = station.delivery_status()["counts"]
    assert (counts["uploaded"], counts["failed"]) == (len(CARD), 1)
    (session,) = station.ledger.sessions()
    assert (session["files_uploaded"], session["files_failed"]) == (len(CARD), 1)


def test_a_failed_file_that_is_replaced_gets_a_new_chance(station):
    path = "950349/bad.WAV"
    mended = False

    def refuse(method: str, asked: str) -> Reply | None:
        if method == "PUT" and asked.endswith(".WAV") and not mended:
            return Reply(status=400, body=error_xml("InvalidRequest"))
        return None

    with GoBetween(station.server.endpoint_url, refuse) as between:
        station.delivery(endpoint_url=between.endpoint_url, times_to_retry=0)
        drop_files(station.drop, {path: b"RIFF bad"})
        station.start()
        station.wait_for_states({path: "failed"})
        mended = True
        digests = drop_files(station.drop, {path: b"RIFF copied again"})
        station.wait_for_states({path: "uploaded"})
    assert station.bucket.digests() == under(digests)
    assert [row["state"] for row in station.ledger.uploads()] == ["superseded", "uploaded"]


# --- the ledger ---------------------------------------------------------------------------


class StoppablePostgres:
    """A PostgreSQL of this test's own, which can be away for a while."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(folder)
        self.url = ""

    @contextmanager
    def made(self) -> Iterator[StoppablePostgres]:
        self._server.start()
        with short_socket_folder(self._server.socket_directory) as folder:
            self.url = database_url(folder, "sensordrop")
            try:
                yield self
            finally:
                self._server.stop()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()


@pytest.fixture
def stoppable(tmp_path) -> Iterator[StoppablePostgres]:
    with StoppablePostgres(tmp_path / "postgres").made() as server:
        yield server


def test_a_ledger_that_is_away_loses_nothing(make_station, moto, stoppable):
    """Away at the start, away in the middle of uploads, away while files are dropped."""
    station: Station = make_station(moto, database=stoppable.url)
    station.configure()
    first = drop_files(station.drop, CARD)
    stoppable.stop()
    with GoBetween(moto.endpoint_url) as between:
        station.delivery(endpoint_url=between.endpoint_url)
        daemon = station.new_daemon()
        daemon.launch()
        told = daemon.wait_for_log("ledger_unavailable")
        assert told["hint"]
        between.gate.clear()
        stoppable.start()
        daemon.wait_for_log("daemon_started")
        daemon.wait_for(lambda: between.waiting == 4, what="uploads at the gate")

        stoppable.stop()
        between.gate.set()
        more = drop_files(station.drop, {f"cam/{n}.JPG": b"jpg %d" % n for n in range(30)})
        daemon.wait_for(
            lambda: (
                {"uploader", "scout"}
                <= {line.get("service") for line in daemon.logs("ledger_unavailable")}
            ),
            what="the services say that the ledger is away",
        )
        with pytest.raises(psycopg2.OperationalError):
            station.ledger.rows("SELECT 1")
        assert daemon.running
        stoppable.start()
        station.wait_for_states(dict.fromkeys(first | more, "uploaded"))
        assert len(between.puts()) == len(set(between.puts())) == len(CARD) + 30
    assert daemon.logs("ledger_back") != []
    assert station.bucket.digests() == under(first | more)
    assert {row["attempts"] for row in station.ledger.uploads()} == {0}
    assert {row["state"] for row in station.ledger.uploads()} == {"uploaded"}
    settle_accounts(station)


def test_a_password_in_the_databases_url_is_in_no_log(station, ledger_url):
    """The database refuses: nothing of the URL's secret is told while it is tried again."""
    secret = "a-password-that-must-not-be-shown"
    url = ledger_url.replace("sensordrop@", f"nosuchrole:{secret}@")
    assert secret in url
    station.configure(database=url)
    daemon = station.new_daemon()
    daemon.launch()
    daemon.wait_for_log("ledger_unavailable")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_for_end() == 0
    assert secret not in daemon.output()
    assert secret not in station.sensordrop("status").stderr
    station.configure(database=ledger_url)


# --- the process --------------------------------------------------------------------------


def test_sigterm_during_uploads_gives_back_what_is_not_finished(station):
    files = {f"950349/{n}.WAV": os.urandom(1024) * 1024 for n in range(6)}
    digests = drop_files(station.drop, files)
    with Wire(station.server.endpoint_url) as wire:
        wire.bytes_per_second = 20_000.0
        station.delivery(endpoint_url=wire.endpoint_url)
        station.start()
        station.wait_for(lambda: wire.sent_bytes > 100_000, what="uploads are under way")
        assert station.daemon.stop(seconds=30) == 0
        assert station.daemon.logs("daemon_stopped") != []
        rows = station.ledger.uploads()
        assert len(rows) == len(files)
        assert {row["claimed_by"] for row in rows} == {None}, "every claim was given back"
        assert {row["attempts"] for row in rows if row["state"] == "pending"} == {0}
        assert "pending" in {row["state"] for row in rows}
        wire.bytes_per_second = None
        station.start()
        # The store may have got all of a file whose upload was broken off: that one is skipped.
        station.wait_for_session_end()
        assert set(station.ledger.states().values()) <= {"uploaded", "skipped"}
    assert station.bucket.digests() == under(digests)


def test_a_second_signal_means_now(station):
    digests = drop_files(station.drop, {f"950349/{n}.WAV": os.urandom(1024) * 900 for n in "1234"})
    with Wire(station.server.endpoint_url) as wire:
        wire.bytes_per_second = 10_000.0
        station.delivery(endpoint_url=wire.endpoint_url)
        station.start()
        station.wait_for(lambda: wire.sent_bytes > 60_000, what="uploads are under way")
        station.daemon.signal(signal.SIGTERM)
        time.sleep(0.5)
        assert station.daemon.running, "uploads that run are given a moment"
        station.daemon.signal(signal.SIGINT)
        assert station.daemon.wait_for_end() == 130
        wire.bytes_per_second = None
        station.start()
        # The store may have got all of a file whose upload was broken off: that one is skipped.
        station.wait_for_session_end()
        assert set(station.ledger.states().values()) <= {"uploaded", "skipped"}
    assert station.bucket.digests() == under(digests)


def test_sigint_and_an_idle_daemon(station):
    station.start()
    station.wait_for_sweep()
    station.daemon.signal(signal.SIGINT)
    assert station.daemon.wait_for_end() == 0
    assert station.ledger.rows("SELECT * FROM daemons WHERE ended_at IS NULL") == []


def test_a_second_daemon_on_the_same_state_directory_is_refused(station):
    digests = drop_files(station.drop, CARD)
    first = station.start()
    second = station.new_daemon()
    second.launch()
    assert second.wait_for_end() == 1
    assert str(station.state) in second.output()
    assert str(first.pid) in second.output()
    assert "Traceback" not in second.output()
    assert first.running
    first.wait_for(
        lambda: station.ledger.states() == dict.fromkeys(digests, "uploaded"), what="all stored"
    )
    assert first.stop() == 0


@pytest.mark.parametrize("log_format", ["console", "journal", "json"])
def test_names_in_log_lines_cannot_forge_lines_or_speak_to_the_terminal(station, log_format):
    names = {
        "new": b"two\nlines",
        "escape": b"\x1b[31mred",
        "delete": b"rub\x7fout",
        "csi": "c1\u009b31m".encode(),
        "tab": b"a\tb",
    }
    folders = b"/".join([b"d" * 240] * 4)
    for name in names.values():  # too long for a key, so that each is told in a line
        file = os.fsencode(station.drop) + b"/" + folders + b"/" + name + b"x" * 200
        os.makedirs(os.path.dirname(file), exist_ok=True)  # noqa: PTH103, PTH120 — names as bytes
        Path(os.fsdecode(file)).touch()
    station.configure(log_format=log_format)
    daemon = station.new_daemon()
    daemon.launch()
    daemon.wait_for(
        lambda: daemon.output().count("file_quarantined") == len(names), what="all are told"
    )
    output = daemon.output()
    harmful = {c for c in output if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)}
    assert harmful == set()
    assert not any(line.startswith("lines") for line in output.splitlines())
    assert station.server.secret_key not in output
