"""What systemd is told, and that it is nobody else's business."""

from __future__ import annotations

import os
import socket
import time

import pytest

from sensordrop.adapters.notify_socket import LONGEST_STATUS, NotifySocket


@pytest.fixture
def manager_socket(tmp_path):
    """Give a socket as systemd listens on, and its address."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.settimeout(5)
        yield listening, address


def test_it_is_told_when_we_are_ready_alive_and_ending(manager_socket):
    listening, address = manager_socket
    manager = NotifySocket(address, watchdog_seconds=30.0)
    for tell in (manager.ready, manager.alive, manager.stopping):
        tell()
    assert [listening.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_a_reload_is_told_from_beginning_to_end_but_not_while_it_starts(manager_socket):
    listening, address = manager_socket
    manager = NotifySocket(address)
    for tell in (manager.reloading, manager.reloaded):
        tell()
    manager.ready()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    for tell in (manager.reloading, manager.reloaded):
        tell()
    assert listening.recv(99) == b"READY=1", "of the start, and nothing before"
    reloading, when = listening.recv(99).split(b"\n")
    assert reloading == b"RELOADING=1"
    assert int(when.removeprefix(b"MONOTONIC_USEC=")) >= before
    assert listening.recv(99) == b"READY=1"


def test_the_watchdog_is_fed_four_times_in_its_period_however_often_it_is_called(manager_socket):
    listening, address = manager_socket
    manager = NotifySocket(address, watchdog_seconds=3600.0)
    for _ in range(100):
        manager.alive()
    manager.stopping()
    assert [listening.recv(99), listening.recv(99)] == [b"WATCHDOG=1", b"STOPPING=1"]
    fast = NotifySocket(address, watchdog_seconds=0.04)
    fast.alive()
    time.sleep(0.02)
    fast.alive()
    assert [listening.recv(99), listening.recv(99)] == [b"WATCHDOG=1", b"WATCHDOG=1"]


def test_a_status_is_one_line_of_bounded_length_and_sent_when_it_is_another(manager_socket):
    listening, address = manager_socket
    manager = NotifySocket(address)
    manager.status("12 of 99 files\nREADY=1")
    manager.status("12 of 99 files\nREADY=1")
    manager.status("x" * 10_000)
    assert listening.recv(9999) == b"STATUS=12 of 99 files READY=1"
    assert listening.recv(9999) == b"STATUS=" + b"x" * LONGEST_STATUS


def test_an_abstract_address_works_too():
    name = f"sensordrop-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(5)
        NotifySocket("@" + name).ready()
        assert listening.recv(99) == b"READY=1"


def test_children_do_not_inherit_the_variables():
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "HOME": "/"}
    manager = NotifySocket.from_environment(environ)
    assert environ == {"HOME": "/"}
    assert manager.listens
    assert manager.watchdog_seconds == 30.0


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
    ],
    ids=["nothing", "meant for another process", "nonsense"],
)
def test_without_a_watchdog_for_us_there_is_none(variables):
    assert NotifySocket.from_environment(dict(variables)).watchdog_seconds is None


def test_nobody_listens_and_nothing_happens(tmp_path, capsys):
    NotifySocket(None).ready()
    broken = NotifySocket(str(tmp_path / "gone"))
    broken.ready()
    broken.alive()
    assert capsys.readouterr().out.count("service_manager_not_reached") == 1
