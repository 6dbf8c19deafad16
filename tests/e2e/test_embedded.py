"""Everything embedded: `sensordropd --local`, and `database: embedded` under --config.

What a program starts for itself ends with it, whatever way it ends; the worst way, kill -9, is
made good by the next start and stop.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.config import Config
from daemon import SCRIPTS, Station, drop_files, embedded_processes, under_prefix, wait_until
from local_daemon import LocalDaemon

FILES = {"950349/a.WAV": b"a" * 5000, "950349/b.WAV": b"b" * 70000, "cam/c.JPG": b"c"}
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run it as others")
NAME_LIMIT_BYTES = 107
"""The longest name that a unix socket may have (unix(7))."""


@contextmanager
def ended(local: LocalDaemon) -> Iterator[LocalDaemon]:
    """See to it that nothing of a daemon outlives its test."""
    try:
        yield local
    finally:
        local.end_whatever_happens()


@pytest.fixture
def local(tmp_path) -> Iterator[LocalDaemon]:
    """Give a daemon on a folder that does not exist yet, not started."""
    with ended(LocalDaemon(tmp_path)) as made:
        yield made


def bring_in(local: LocalDaemon, files: dict[str, bytes]) -> dict[str, str]:
    """Drop files, wait until they are stored, and give all that the bucket must hold."""
    expected = local.stored() | under_prefix(drop_files(local.drop, files))
    local.wait_for_objects(expected)
    return expected


def wait_for_counts(local: LocalDaemon, **counts: int) -> None:
    """Wait until `sensordrop status` says so: objects are there a moment before."""
    local.wait_for(
        lambda: counts.items() <= local.status()["counts"].items(), what=f"counts {counts}"
    )


def rights(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Give owner, group and mode of a folder and of all above it."""
    found = {}
    for each in (folder, *folder.parents):
        state = each.stat()
        found[each] = (state.st_uid, state.st_gid, state.st_mode)
    return found


# --- sensordropd --local ------------------------------------------------------------------


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Give a folder whose name leaves psql room for its socket's."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_it_says_where_everything_is(tmp_path, short_folder):
    with ended(LocalDaemon(tmp_path, folder=short_folder / "try")) as local:
        local.start()
        assert_what_it_says_is_so(local)
        assert local.stop() == 0


def assert_what_it_says_is_so(local: LocalDaemon) -> None:
    told = local.greeting()
    assert told["drop cards here"] == str(local.drop)
    assert told["the objects are here"] == str(local.objects)
    expected = bring_in(local, FILES)

    # Whoever reads these lines can use them as they stand.
    shown = subprocess.run(
        [str(SCRIPTS / told["how it stands"].split()[0]), *shlex.split(told["how it stands"])[1:]],
        env=local.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "drop" in shown.stdout
    if shutil.which("psql"):
        asked = subprocess.run(
            [*shlex.split(told["ledger"]), "-Atc", "SELECT count(*) FROM file_uploads"],
            env=local.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert asked.stdout.strip() == "3"
    keys = json.loads((local.state / "s3" / "keys.json").read_text())
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=told["S3 address"].split()[0],
        aws_access_key_id=keys["access_key"],
        aws_secret_access_key=keys["secret_key"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    listed = client.list_objects_v2(Bucket="sensordrop")["Contents"]
    assert {entry["Key"] for entry in listed} == expected.keys()


def test_every_orderly_end_leaves_no_process_and_the_address_stays(local):
    addresses = set()
    for number, (end, files) in enumerate(
        [
            (lambda: local.signal_group(signal.SIGINT), 40),  # Ctrl-C in a terminal
            (lambda: local.signal(signal.SIGTERM), 40),
            (lambda: local.signal_group(signal.SIGHUP), 40),  # the terminal was closed
        ]
    ):
        local.start()
        addresses.add(local.greeting()["S3 address"])
        assert len(local.processes()) > 2, "PostgreSQL and rclone run"
        drop_files(local.drop, {f"s{number}/{n}.wav": b"%d" % n * 999 for n in range(files)})
        end()
        assert local.wait_for_end() == 0, local.story()
        assert local.processes() == []
    assert len(addresses) == 1
    local.start()
    local.wait_for(lambda: len(local.stored()) == 120, what="all that was dropped is stored")
    wait_for_counts(local, pending=0, settling=0, uploading=0)
    assert local.stop() == 0
    assert local.processes() == []


def test_after_a_kill_the_next_start_and_stop_leave_no_process(local):
    local.start()
    expected = bring_in(local, FILES)
    address = local.greeting()["S3 address"]
    store = local.store_process()
    local.kill9()
    assert local.processes(), "servers outlive a kill; nobody was there to end them"
    local.start()
    assert local.store_process() == store, "the next program uses them"
    assert local.greeting()["S3 address"] == address
    assert bring_in(local, {"late/d.WAV": b"d"}).keys() == {*expected, "C1/late/d.WAV"}
    wait_for_counts(local, failed=0, superseded=0)
    assert local.stop() == 0
    assert local.processes() == []


def test_ctrl_c_while_it_starts_leaves_no_process(local):
    for words in ("S3 server started", "making a new database", "PostgreSQL started"):
        shutil.rmtree(local.state / "postgresql", ignore_errors=True)  # so that one is made again
        local.launch()
        local.wait_for(lambda said=words: said in local.output(), what=words)
        local.signal_group(signal.SIGINT)
        assert local.wait_for_end() == 0, local.story()
        assert "Traceback" not in local.output()
        wait_until(lambda: local.processes() == [], what="no process", seconds=10)
    local.start()
    bring_in(local, FILES)
    assert local.stop() == 0
    assert local.processes() == []


def test_a_second_program_on_the_same_folder_is_refused_with_one_line(local, tmp_path):
    local.start()
    with ended(LocalDaemon(tmp_path)) as second:
        second.launch()
        assert second.wait_for_end() == 1
        (line,) = second.output().splitlines()
        assert f"process {local.pid}" in line
        assert str(local.state) in line
        assert local.running
        bring_in(local, FILES)  # and the first was not disturbed
        assert local.stop() == 0
        assert local.processes() == []


def test_verbs_work_beside_the_daemon_and_without_it(local):
    made = local.command("init-db", "--json")  # before anything else was ever there
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["applied"], "the tables were made"
    assert local.processes() == []

    local.start()
    bring_in(local, FILES)
    wait_for_counts(local, uploaded=3)
    assert local.status()["state"] in {"watching", "sweeping"}
    again = local.command("init-db", "--json")
    assert json.loads(again.stdout)["applied"] == []
    assert local.running
    ledger = embedded_processes(local.state / "postgresql")
    assert ledger, "a verb must not end the daemon's database"
    assert local.stop() == 0
    assert local.processes() == []

    after = local.status()
    assert after["counts"]["uploaded"] == 3
    assert "not running" in after["reason"]
    assert local.command("init-db").returncode == 0
    assert local.processes() == []


def test_a_verb_that_is_killed_leaves_nothing_that_lasts(local):
    local.start()
    assert local.stop() == 0
    verb = subprocess.Popen(
        [str(SCRIPTS / "sensordrop"), "status", "--local", str(local.folder)],
        env=local.environment, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(local.processes, what="its PostgreSQL")
    finally:
        verb.kill()
        verb.wait()
    assert local.command("status").returncode == 0
    wait_until(lambda: local.processes() == [], what="no process", seconds=10)


def test_a_folder_whose_name_is_longer_than_a_sockets_may_be(tmp_path):
    folder = tmp_path / ("a long name " * 8).strip() / ("ä" * 60)
    assert len(os.fsencode(folder / "state" / "postgresql" / "socket")) > NAME_LIMIT_BYTES
    folder.parent.mkdir()
    with ended(LocalDaemon(tmp_path, folder=folder)) as local:
        local.start()
        bring_in(local, FILES)
        wait_for_counts(local, uploaded=3)
        assert local.stop() == 0
        assert local.status()["counts"]["uploaded"] == 3
        assert local.processes() == []


# --- database: embedded -------------------------------------------------------------------


def test_an_embedded_ledger_under_a_configuration_folder(make_station, moto):
    station: Station = make_station(moto, database="embedded")
    station.configure()
    station.delivery()
    digests = drop_files(station.drop, FILES)
    for end in (signal.SIGTERM, signal.SIGINT):
        daemon = station.start()
        digests |= drop_files(station.drop, {f"late/{end.name}.wav": end.name.encode()})
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
        assert station.delivery_status()["counts"]["uploaded"] == len(digests)
        station.assert_sound()
        os.killpg(daemon.pid, end)
        assert daemon.wait_for_end() == 0, daemon.story()
        assert embedded_processes(station.folder) == []
    assert station.delivery_status()["counts"]["uploaded"] == len(digests)
    assert station.sensordrop("init-db").returncode == 0
    assert embedded_processes(station.folder) == []
    daemon = station.start()
    daemon.kill9()
    assert embedded_processes(station.folder), "its PostgreSQL outlives a kill"
    station.start()
    assert station.daemon.stop() == 0
    assert embedded_processes(station.folder) == []
    assert station.bucket.digests() == under_prefix(digests)


def test_a_second_daemon_on_the_same_state_directory_is_refused(make_station, moto):
    station: Station = make_station(moto, database="embedded")
    station.configure()
    station.delivery()
    first = station.start()
    second = station.new_daemon()
    second.launch()
    assert second.wait_for_end() == 1
    (line,) = second.output().splitlines()
    assert f"process {first.pid}" in line
    assert str(station.state) in line
    assert first.running
    assert first.stop() == 0
    assert embedded_processes(station.folder) == []


# --- who runs it --------------------------------------------------------------------------


@AS_ROOT
def test_as_root_postgresql_is_another_user_and_nothing_outside_changes(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "try").mkdir(mode=0o750)
    before = rights(closed / "try")
    with ended(LocalDaemon(closed)) as local:
        local.start()
        bring_in(local, FILES)
        servers = [p for p in local.processes() if p.info["name"] == "postgres"]
        assert servers
        assert all(p.info["uids"].real != 0 for p in servers)
        assert local.stop() == 0
        assert local.command("status").returncode == 0
        assert local.processes() == []
        for folder in (local.drop, local.objects):
            assert folder.stat().st_uid == 0
    assert rights(closed / "try") == before


@pytest.fixture(scope="module")
def as_nobody() -> tuple[str, ...]:
    """Give how the user nobody runs our programs' Python, which may lie below a closed folder."""
    switch = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    reading = (
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
        "--securebits=+no_setuid_fixup",
    )
    packages = "PYTHONPATH=" + os.pathsep.join(filter(None, sys.path))
    ways = (
        (*switch, "--", sys.executable),
        (*switch, "--", "env", packages, f"/usr/bin/python3.{sys.version_info.minor}"),
        (*switch, *reading, "--", sys.executable),
    )
    for way in ways:
        trial = [*way, "-c", "import sensordrop.composition.daemon"]
        if subprocess.run(trial, check=False, cwd="/", capture_output=True).returncode == 0:
            return way
    pytest.fail("nobody can't run our programs here")


@AS_ROOT
def test_an_ordinary_user_runs_all_of_it(as_nobody):
    nobody = pwd.getpwnam("nobody")
    with ExitStack() as stack:
        # pytest's own folders are closed to others.
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.chown(parent, nobody.pw_uid, nobody.pw_gid)
        before = rights(parent)
        path = os.pathsep.join((str(SCRIPTS), os.environ["PATH"]))
        local = LocalDaemon(
            parent, program=(*as_nobody, "-m", "sensordrop.main"), environment={"PATH": path}
        )
        os.chown(parent / "home", nobody.pw_uid, nobody.pw_gid)
        stack.enter_context(ended(local))
        local.start()
        bring_in(local, FILES)
        # What was read of them when they were found: a server's worker may have ended since.
        users = {process.info["uids"].real for process in local.processes()}
        assert users | {psutil.Process(local.pid).uids().real} == {nobody.pw_uid}
        local.kill9()
        local.start()
        local.signal_group(signal.SIGINT)
        assert local.wait_for_end() == 0, local.story()
        assert local.processes() == []
        assert rights(parent) == before


def test_verbs_know_which_other_folder_is_watched(tmp_path):
    """`--drop` is said to sensordropd alone; verify and doctor must look there too."""
    card = tmp_path / "card"
    digests = drop_files(card, {"950349/large.WAV": random.Random(1).randbytes(70 * 1024 * 1024)})
    with ended(LocalDaemon(tmp_path, "--drop", str(card))) as local:
        local.start()
        local.wait_for_objects(under_prefix(digests))
        wait_for_counts(local, uploaded=1)
        verified = local.command("verify", "--source")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "SAFE" in verified.stdout
        looked = local.command("doctor")
        assert looked.returncode == 0, looked.stdout + looked.stderr
        assert str(card) in looked.stdout
