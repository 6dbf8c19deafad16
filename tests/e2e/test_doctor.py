"""`sensordrop doctor` as an operator meets it: marks, what to do, exit codes, with and without a daemon."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from daemon import command, drop_files
from s3_servers import Reply, ScriptedServer, closed_port, error_xml

from sensordrop.adapters import places
from sensordrop.adapters.places import look_at_disk, look_at_folder, look_at_watches
from sensordrop.core.check import CheckOutcome

WHOLE = ["versions", "configuration", "ledger", "daemon", "state directory", "inotify"]
OF_A_DELIVERY = [
    "folder",
    "watching",
    "disk of the folder",
    "credentials",
    "identity",
    "bucket",
    "listing",
    "prefix",
    "clock",
    "overwriting",
    "store check",
    "leftovers",
]


def told(station, *arguments, code):
    done = station.sensordrop("doctor", "--json", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == code
    assert station.server.secret_key not in done.stdout + done.stderr
    for check in answer["checks"]:
        assert check["words"]
        assert check["hint"] or check["outcome"] != "failed", "a failure always says what to do"
    return answer["checks"]


def found(checks, name, delivery=None):
    (check,) = (c for c in checks if c["name"] == name and c["delivery"] == delivery)
    return check


def names(checks, delivery=None):
    return [check["name"] for check in checks if check["delivery"] == delivery]


# --- all is well --------------------------------------------------------------------------


def test_a_station_that_works_is_found_well_while_its_daemon_is_down_and_up(station):
    drop_files(station.drop, {"950349/1.WAV": b"RIFF"})
    station.sensordrop("init-db")
    checks = told(station, code=0)
    assert names(checks) == WHOLE
    assert names(checks, "card") == OF_A_DELIVERY
    assert "failed" not in {check["outcome"] for check in checks}
    assert found(checks, "daemon")["outcome"] == "notice"
    ledger = found(checks, "ledger")["words"]
    assert ledger.startswith("PostgreSQL ")
    assert " MiB, migration " in ledger
    assert "(2 folders)" in found(checks, "folder", "card")["words"]
    assert "it is watched" in found(checks, "watching", "card")["words"]
    assert found(checks, "prefix", "card")["words"].endswith("nothing is there yet")
    station.start()
    station.wait_for_states({"950349/1.WAV": "uploaded"})
    checks = told(station, code=0)
    assert found(checks, "daemon")["outcome"] == "ok"
    assert found(checks, "prefix", "card")["words"].endswith("objects are there already")
    assert station.bucket.keys() == ["C1/950349/1.WAV"]


def test_people_get_marks_and_no_colour_in_a_pipe(station):
    station.sensordrop("init-db")
    station.environment["PYTHONUTF8"] = "1"
    lines = station.sensordrop("doctor").stdout.splitlines()
    assert lines[0].startswith("✓ versions")
    assert any(line.startswith("! daemon") for line in lines)
    assert any("what to do: start it: sensordropd" in line for line in lines)
    assert "delivery card" in lines
    assert lines[-1].startswith("nothing failed, ")
    assert not any("\x1b" in line for line in lines)
    station.environment["PYTHONUTF8"] = "0"
    station.environment["PYTHONIOENCODING"] = "ascii"
    lines = station.sensordrop("doctor").stdout.splitlines()
    assert lines[0].startswith("ok   versions")
    assert any(line.startswith("note daemon") for line in lines)


def test_one_delivery_can_be_looked_at_alone(station):
    station.sensordrop("init-db")
    station.delivery("other", local_directory=str(station.folder / "other"), s3_prefix="C2")
    checks = told(station, "--delivery", "card", code=0)
    assert names(checks, "other") == []
    assert names(checks, "card") == OF_A_DELIVERY
    checks = told(station, "--delivery", "crad", code=2)
    assert "card, other" in found(checks, "configuration")["hint"]


def test_a_local_folder_is_looked_at_with_its_embedded_servers(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="sensordrop-doctor-"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    try:
        (folder / "drop").mkdir()
        prepared = command("init-db", "--local", str(folder), environment=environment, cwd=tmp_path)
        assert prepared.returncode == 0, prepared.stderr
        done = command(
            "doctor", "--json", "--local", str(folder), environment=environment, cwd=tmp_path
        )
        checks = json.loads(done.stdout)["checks"]
        assert found(checks, "embedded S3")["outcome"] == "ok"
        assert found(checks, "ledger")["outcome"] == "ok"
        assert found(checks, "bucket", "drop")["outcome"] == "failed", "no daemon has made it yet"
        assert done.returncode == 1
    finally:
        shutil.rmtree(folder)


# --- trouble ------------------------------------------------------------------------------


def test_a_wrong_configuration_is_told_whole(station):
    station.delivery(max_workers="many", bukket_name="x")
    checks = told(station, code=2)
    assert len([c for c in checks if c["name"] == "configuration"]) == 2
    assert "did you mean" in str(checks)
    station.delivery()


def test_a_ledger_that_is_away_hides_nothing_else(station):
    url = f"postgresql://sensordrop:a-secret-word@127.0.0.1:{closed_port()}/sensordrop"
    done = station.sensordrop("doctor", "--json", "--database", url)
    assert done.returncode == 3, done.stderr
    assert "a-secret-word" not in done.stdout + done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert found(checks, "ledger")["outcome"] == "failed"
    assert found(checks, "bucket", "card")["outcome"] == "ok"


def test_a_ledger_without_tables_is_told_and_left_alone(station):
    checks = told(station, code=3)
    assert "init-db" in found(checks, "ledger")["words"]
    assert station.ledger.rows("SELECT to_regclass('file_uploads') AS made")[0]["made"] is None
    station.sensordrop("init-db")


def test_a_missing_bucket_and_a_missing_folder_are_told_with_what_to_do(station):
    station.sensordrop("init-db")
    missing = str(station.folder / "missing")
    station.delivery("other", bucket_name="not-made-yet", local_directory=missing)
    checks = told(station, code=1)
    bucket = found(checks, "bucket", "other")
    assert bucket["outcome"] == "failed"
    assert "not-made-yet" in bucket["words"]
    folder = found(checks, "folder", "other")
    assert (folder["outcome"], missing in folder["words"]) == ("failed", True)
    assert "leftovers" not in names(checks, "other"), "nothing more can be asked"
    assert "failed" not in {c["outcome"] for c in checks if c["delivery"] == "card"}


def test_wrong_credentials_are_told_without_the_secret(rclone_station):
    station = rclone_station
    station.sensordrop("init-db")
    station.environment["AWS_SECRET_ACCESS_KEY"] = "a-wrong-secret-that-must-not-be-shown"
    done = station.sensordrop("doctor")
    assert done.returncode == 1
    assert "what to do: check the access key and its secret" in done.stdout
    assert "a-wrong-secret" not in done.stdout + done.stderr
    station.environment["AWS_SECRET_ACCESS_KEY"] = station.server.secret_key


def test_uploads_in_parts_that_nobody_finished_are_listed(station):
    station.sensordrop("init-db")
    begin = station.server.client().create_multipart_upload
    begin(Bucket=station.bucket.name, Key="C1/950349/long.WAV")
    begin(Bucket=station.bucket.name, Key="C2/not-ours.WAV")
    leftovers = found(told(station, code=0), "leftovers", "card")
    assert "C1/950349/long.WAV (since " in leftovers["words"]
    assert "not-ours" not in leftovers["words"]


def test_an_upload_that_was_begun_long_ago_is_a_notice(station):
    """The answer of a store where an upload was left behind years ago."""
    old = (
        f"<ListMultipartUploadsResult><Bucket>{station.bucket.name}</Bucket><Upload>"
        "<Key>C1/a.WAV</Key><Initiated>2020-01-02T03:04:05.000Z</Initiated></Upload>"
        "</ListMultipartUploadsResult>"
    )
    listing = (
        f"<ListBucketResult><Name>{station.bucket.name}</Name><KeyCount>0</KeyCount>"
        "</ListBucketResult>"
    )

    def answer(asked):
        if "uploads" in asked.path and asked.method == "GET":
            return Reply(body=old.encode())
        if asked.method == "GET":
            return Reply(body=listing.encode())
        return Reply(status=403, body=error_xml("AccessDenied"))

    station.sensordrop("init-db")
    with ScriptedServer(answer) as scripted:
        station.delivery(endpoint_url=scripted.endpoint_url)
        checks = told(station, code=0)
    leftovers = found(checks, "leftovers", "card")
    assert leftovers["outcome"] == "notice"
    assert "C1/a.WAV (since 2020-01-02 03:04 UTC)" in leftovers["words"]
    assert "lifecycle rule" in leftovers["hint"]
    assert found(checks, "probes", "card")["outcome"] == "notice"
    station.delivery()


def test_files_that_are_to_be_taken_away_need_a_folder_that_may_be_written(station):
    """The unit as systemd would tell of it, by a `systemctl` of the test's own."""
    station.sensordrop("init-db")
    done = station.folder / "done"
    station.delivery(after_verified=f"move:{done}")
    programs = station.folder / "bin"
    programs.mkdir()
    systemctl = programs / "systemctl"
    station.environment["PATH"] = f"{programs}:{station.environment['PATH']}"

    def unit(writable):
        systemctl.write_text(
            "#!/bin/sh\necho LoadState=loaded\necho ProtectSystem=strict\n"
            f"echo ReadWritePaths={writable}\n",
            encoding="utf-8",
        )
        systemctl.chmod(0o755)

    unit(writable=station.drop)
    checks = told(station, code=1)
    after = found(checks, "after verified", "card")
    assert f"makes {done} read-only" in after["words"]
    assert f"[Service] ReadWritePaths={done};" in after["hint"]

    unit(writable=station.folder)
    after = found(told(station, code=1), "after verified", "card")
    assert f"{done} can't be written" in after["words"]
    assert "no such file" in after["words"]

    done.mkdir()
    after = found(told(station, code=0), "after verified", "card")
    assert after["outcome"] == "ok"
    station.delivery()
    assert names(told(station, code=0), "card") == OF_A_DELIVERY


# --- folders and disks --------------------------------------------------------------------


def test_a_folder_that_may_not_be_entered_is_named(tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    (tmp_path / "closed").mkdir()
    (tmp_path / "System Volume Information").mkdir()
    really = os.scandir

    def scandir(path):
        if str(path).endswith(("closed", "Information")):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    seen = look_at_folder(str(tmp_path), "auto", 30.0)
    folder = seen.checks[0]
    assert folder.outcome is CheckOutcome.FAILED
    assert str(tmp_path / "closed") in folder.words
    assert "Information" not in folder.words
    assert "partial" in folder.hint


@pytest.mark.parametrize(
    ("watch", "remote", "watches", "words"),
    [
        ("auto", False, 2, "it is watched"),
        ("auto", True, 0, "it is swept every 30 seconds"),
        ("polling", False, 0, "it is swept every 30 seconds"),
        ("off", False, 0, "by the timer alone"),
        ("inotify", True, 2, "it is watched"),
    ],
)
def test_how_a_folder_is_watched_is_told(tmp_path, monkeypatch, watch, remote, watches, words):
    (tmp_path / "950349").mkdir()
    monkeypatch.setattr(places, "filesystem_type", lambda _: "nfs4" if remote else "ext4")
    seen = look_at_folder(str(tmp_path), watch, 30.0)
    assert seen.watches == watches
    assert words in seen.checks[1].words
    risky = watch == "inotify" and remote
    assert seen.checks[1].outcome is (CheckOutcome.NOTICE if risky else CheckOutcome.OK)


@pytest.mark.parametrize(
    ("watches", "outcome"),
    [(400, CheckOutcome.OK), (900, CheckOutcome.NOTICE), (5000, CheckOutcome.FAILED)],
)
def test_the_watch_limit_comes_with_the_line_that_raises_it(monkeypatch, watches, outcome):
    monkeypatch.setattr(places, "kernel_setting", lambda _: 1000)
    check = look_at_watches(watches)
    assert check.outcome is outcome
    assert f"{watches:,} folders" in check.words
    if outcome is not CheckOutcome.OK:
        assert "sysctl -w fs.inotify.max_user_watches=524288" in check.hint


def test_a_disk_that_is_full_is_a_failure_only_where_we_write(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1024**2)
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: usage)
    missing = str(tmp_path / "not" / "there" / "yet")
    state = look_at_disk("state directory", missing, least=places.STATE_FREE_BYTES)
    assert state.outcome is CheckOutcome.FAILED
    assert look_at_disk("disk", str(tmp_path), least=0).outcome is CheckOutcome.NOTICE
