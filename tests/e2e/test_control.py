"""Verbs through the daemon: who may, what they say, and what works without it."""

from __future__ import annotations

import grp
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from daemon import SCRIPTS, SOURCES, WAIT_SECONDS, Station, age, drop_files

NOBODY = 65534
GROUP = "users"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

BECOME = """
import os, sys
import psycopg2, rich.console, rich.table, rich.text
import sensordrop.cli.pause, sensordrop.cli.status, sensordrop.composition.daemon
from sensordrop.cli.app import main
user, groups = int(sys.argv[1]), [int(each) for each in sys.argv[2].split(",") if each]
os.setgroups(groups)
os.setgid(user)
os.setuid(user)
sys.argv = ["sensordrop", *sys.argv[3:]]
main()
"""
"""A verb as another user. What it imports is read before: the code may be root's alone."""


def as_nobody(*arguments: str, groups: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BECOME, str(NOBODY), ",".join(map(str, groups)), *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, "HOME": "/nonexistent",
             "LANG": "C.UTF-8"},
        cwd="/", capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL,
        timeout=2 * WAIT_SECONDS, check=False,
    )  # fmt: skip


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that everybody can reach: pytest's own are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="sensordrop-socket-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def wait_until_served(station: Station) -> Path:
    return Path(station.daemon.wait_for_log("control_served")["socket"])


def test_verbs_are_carried_out_by_the_daemon_and_the_ledger_does_without_it(make_station, moto):
    station = make_station(moto)
    station.delivery()
    drop_files(station.drop, {"950349/a.wav": b"sound"})
    age(station.drop)
    station.start()
    socket = wait_until_served(station)
    assert socket == station.state / "control.sock"
    station.wait_for_session_end()
    # With a configuration that knows no ledger, whoever answers can only be the daemon.
    lost = ("--config", str(station.folder / "lost"), "--socket", str(socket))
    (station.folder / "lost").mkdir()
    (station.folder / "lost" / "sensordrop.yaml").write_text(
        f"state_directory: {station.folder}/nowhere\n"
    )

    def ask(*arguments: str, code: int = 0) -> dict:
        done = station.sensordrop(arguments[0], *lost, *arguments[1:], "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if done.stdout else {}

    (card,) = ask("status")["deliveries"]
    assert (card["name"], card["counts"]["uploaded"], card["daemon_alive"]) == ("card", 1, True)
    assert ask("deliveries")["deliveries"][0]["local_directory"] == str(station.drop)
    assert ask("files")["files"][0]["path"] == "950349/a.wav"
    (session,) = ask("sessions")["sessions"]
    assert ask("session", str(session["id"]))["counts"]["uploaded"] == 1
    (paused,) = ask("pause", "card", "--for", "2h", "--reason", "a call")["paused"]
    assert (paused["delivery"], paused["reason"]) == ("card", "a call")
    station.daemon.wait_for_log("paused", delivery="card")
    assert ask("resume", "card")["paused"] == []
    assert ask("bandwidth", "10M")["limits"][0]["bytes_per_second"] == 10 * 1024 * 1024
    assert ask("rescan")["rescan"] == ["card"]
    why = ask("why", "950349/a.wav")
    assert (why["state"], why["delivery"], why["blocked_by"]) == ("uploaded", "card", [])
    path = str(station.drop / "950349" / "a.wav")
    told = ask("retry", path, "950349/lost.wav", code=1)["paths"]
    assert [(each["path"], each["state_before"]) for each in told] == [
        ("950349/lost.wav", None), ("950349/a.wav", "uploaded"),
    ]  # fmt: skip
    assert station.sensordrop("pause", *lost, "crad").returncode == 2
    for verb in (("status",), ("deliveries",), ("sessions",), ("session", str(session["id"])),
                 ("files",), ("why", "950349/a.wav"), ("bandwidth",)):  # fmt: skip
        piped = station.sensordrop(*verb)
        assert (piped.returncode, piped.stdout != "") == (0, True), piped.stderr
        assert "\x1b" not in piped.stdout + piped.stderr, f"{verb}: colours in a pipe"

    station.daemon.kill9()
    assert socket.exists(), "a kill leaves the socket behind"
    done = station.sensordrop("status", *lost)
    assert done.returncode == 3
    assert str(socket) in done.stderr
    shown = station.sensordrop("status")
    assert shown.returncode == 0, shown.stderr
    assert "950349" not in shown.stderr
    assert station.sensordrop("pause", "card").returncode == 0
    station.start()
    wait_until_served(station)
    (paused,) = ask("pause")["paused"][1:]
    assert paused["delivery"] == "card", "what was set on the ledger holds in the daemon"
    station.daemon.stop()
    assert not socket.exists()


@AS_ROOT
def test_who_is_not_in_the_group_is_denied_and_who_is_may(make_station, moto, open_folder):
    station = make_station(moto)
    socket = open_folder / "control.sock"
    station.configure(control_socket=str(socket), control_group=GROUP)
    station.delivery()
    station.start()
    wait_until_served(station)
    members = [grp.getgrnam(GROUP).gr_gid]
    for verb in ("status", "pause"):
        done = as_nobody(verb, "--socket", str(socket))
        assert done.returncode == 4, done.stderr
        assert "control_group" in done.stderr
    done = as_nobody("pause", "--socket", str(socket), "--json", groups=members)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["paused"][0]["set_by"].startswith("nobody@")
    assert as_nobody("resume", "--socket", str(socket), groups=members).returncode == 0
    station.daemon.stop()

    station.configure(control_mode="0666")
    station.start()
    wait_until_served(station)
    done = as_nobody("status", "--socket", str(socket), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["deliveries"][0]["name"] == "card"
    done = as_nobody("pause", "--socket", str(socket))
    assert done.returncode == 4
    assert "may look" in done.stderr
    told = json.loads(station.sensordrop("pause", "--history", "--json").stdout)["pauses"]
    assert len(told) == 1, "what was denied was not done"


@AS_ROOT
def test_who_is_limited_to_a_client_sees_and_steers_nothing_else(make_station, moto, open_folder):
    station = make_station(moto)
    socket = open_folder / "control.sock"
    limited = {"user": "nobody", "role": "admin", "clients": ["Acme"]}
    station.configure(control_socket=str(socket), control_mode="0666", control_principals=[limited])
    station.delivery("acme", client="Acme", local_directory=str(station.folder / "a"),
                     s3_prefix="A")  # fmt: skip
    station.delivery("beta", client="Beta", local_directory=str(station.folder / "b"),
                     s3_prefix="B")  # fmt: skip
    station.start()
    wait_until_served(station)

    def ask(*arguments: str) -> tuple[int, str]:
        done = as_nobody(*arguments, "--socket", str(socket), "--json")
        return done.returncode, done.stdout + done.stderr

    code, told = ask("status")
    assert (code, [d["name"] for d in json.loads(told)["deliveries"]]) == (0, ["acme"])
    assert ask("pause", "acme")[0] == 0
    code, told = ask("pause", "beta")
    assert code == 4
    assert "may see the deliveries of Acme alone" in told
    assert ask("pause")[0] == 4, "the whole station is not theirs"

    station.configure(control_socket=str(socket), control_mode="0666",
                      control_principals=[{**limited, "user": "root"}])  # fmt: skip
    assert station.sensordrop("reload").returncode == 0
    code, told = ask("status")
    assert code == 4, "who is not named any more is told nothing"
    assert "beta" not in told
    assert len(json.loads(station.sensordrop("status", "--json").stdout)["deliveries"]) == 2


class Terminal:
    """A terminal of its own, in which a verb runs: what it shows, and keys that are pressed."""

    def __init__(self, station: Station, *arguments: str) -> None:
        self._mine, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.shown = b""
        self.process = subprocess.Popen(
            [str(SCRIPTS / "sensordrop"), *arguments, "--config", str(station.configuration.path)],
            env={**station.environment, "TERM": "xterm", "COLUMNS": "250", "LINES": "30"},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip

    def wait_for(self, words: bytes) -> None:
        """Wait until it shows something that it has not shown since it was last waited for."""
        give_up = time.monotonic() + WAIT_SECONDS
        while words not in self.shown:
            assert time.monotonic() < give_up, self.shown
            if select.select([self._mine], [], [], 1.0)[0]:
                self.shown += os.read(self._mine, 10_000)
        self.shown = self.shown.partition(words)[2]

    def press(self, keys: bytes) -> None:
        os.write(self._mine, keys)

    def as_it_was(self) -> bool:
        return termios.tcgetattr(self._theirs) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._mine)
        os.close(self._theirs)


def test_status_is_watched_over_a_restart_until_q_is_pressed(make_station, moto):
    station = make_station(moto)
    station.delivery()
    station.start()
    wait_until_served(station)
    with closing(Terminal(station, "status", "--watch")) as terminal:
        terminal.wait_for(b"\x1b[?1049h")
        for _ in range(2):
            terminal.wait_for(b"card")
        station.daemon.kill9()
        terminal.wait_for(b"no sensordropd answers")
        station.start()
        wait_until_served(station)
        station.sensordrop("pause", "card", "--reason", "a call from the field")
        terminal.wait_for(b"a call from the field")
        terminal.press(b"xq")
        terminal.wait_for(b"\x1b[?1049l")
        assert terminal.process.wait(WAIT_SECONDS) == 0
        assert terminal.as_it_was()

    piped = subprocess.Popen(
        [str(SCRIPTS / "sensordrop"), "status", "--watch", "--config",
         str(station.configuration.path)],
        env=station.environment, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert piped.stdout is not None
        lines = [piped.stdout.readline() for _ in range(5)]
        piped.send_signal(signal.SIGINT)
        rest, _ = piped.communicate(timeout=WAIT_SECONDS)
    finally:
        piped.kill()
    assert piped.returncode == 0
    assert b"\x1b" not in b"".join(lines) + rest
    assert sum(b"a call from the field" in line for line in lines) >= 1


def test_without_a_daemon_and_without_a_ledger_every_verb_says_so(make_station, moto):
    station = make_station(moto, database="embedded")
    station.configure()
    station.delivery()
    for verb in ("status", "pause", "resume", "retry", "rescan", "bandwidth", "files", "sessions"):
        arguments = [verb, "--all-failed"] if verb == "retry" else [verb]
        done = station.sensordrop(*arguments)
        assert done.returncode == 3, f"{verb}: {done.stderr}"
        assert "--socket" in station.sensordrop(verb, "--help").stdout
