"""The daemon as a service manager sees it: a real process, and the socket that systemd would hold."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemon import WAIT_SECONDS, drop_files

WATCHDOG_SECONDS = 2.0


class Manager:
    """What arrives on a notification socket, in the order of arrival."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self.messages: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                self.messages.append(self._socket.recv(4096).decode())
            except OSError:
                return

    @property
    def statuses(self) -> list[str]:
        return [m.removeprefix("STATUS=") for m in self.messages if m.startswith("STATUS=")]

    def wait_for(self, message: str) -> None:
        give_up = time.monotonic() + WAIT_SECONDS
        while not any(message in each for each in list(self.messages)):
            assert time.monotonic() < give_up, f"never {message!r}: {self.messages[-20:]}"
            time.sleep(0.05)


@pytest.fixture
def manager(tmp_path, station) -> Iterator[Manager]:
    """Give what the station's next daemon tells its manager."""
    with _listening(tmp_path / "notify") as made:
        station.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        station.environment["WATCHDOG_USEC"] = str(int(WATCHDOG_SECONDS * 1_000_000))
        yield made


@contextmanager
def _listening(path: Path) -> Iterator[Manager]:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(path))
    try:
        yield Manager(listening)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def test_it_is_ready_when_it_sweeps_tells_how_it_goes_and_that_it_ends(station, manager):
    daemon = station.new_daemon()
    daemon.launch()
    manager.wait_for("READY=1")
    daemon.wait_for_log("daemon_started")
    drop_files(station.drop, {"950349/a.WAV": b"a", "950349/b.WAV": b"b"})
    manager.wait_for("1 delivery · 2/2 files")
    manager.wait_for("WATCHDOG=1")
    assert daemon.stop() == 0
    manager.wait_for("STOPPING=1")
    told = [message for message in manager.messages if message in ("READY=1", "STOPPING=1")]
    assert told == ["READY=1", "STOPPING=1"]


def test_it_is_not_ready_before_its_ledger_is_there_and_says_what_it_waits_for(station, manager):
    database = station.daemon_keys["database"]
    station.configure(database="postgresql://nobody@127.0.0.1:1/none")
    daemon = station.new_daemon()
    daemon.launch()
    manager.wait_for("waiting for the ledger")
    assert "READY=1" not in manager.messages
    assert daemon.stop() == 0
    assert "READY=1" not in manager.messages
    station.configure(database=database)
    station.start()
    manager.wait_for("READY=1")


def test_a_daemon_that_hangs_is_ended_with_every_threads_place_in_the_log(station, manager):
    """SIGQUIT is what the unit's watchdog sends. It blames no file: the next start charges none."""
    daemon = station.new_daemon()
    daemon.launch()
    manager.wait_for("READY=1")
    daemon.signal(signal.SIGQUIT)
    assert daemon.wait_for_end(30) == -signal.SIGQUIT
    assert "Current thread" in daemon.output()
    assert "scout.py" in daemon.output()
    again = station.start()
    assert again.logs("predecessor_crashed") == []
