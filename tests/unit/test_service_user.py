"""Root in the place of the service's user: for one thread, or for a look at folders."""

from __future__ import annotations

import os
import pwd
import threading
from pathlib import Path

import pytest

from sensordrop.adapters import service_user
from sensordrop.adapters.ledger.connection import _on_this_machine
from sensordrop.adapters.service_user import as_service, stand_in_for_root, thread_as
from sensordrop.core.sandbox import Sandbox

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
NOBODY = pwd.getpwnam("nobody")


def ids_of_this_thread() -> tuple[int, ...]:
    """Give real, effective and saved id as the kernel has them."""
    status = Path("/proc/thread-self/status").read_text(encoding="utf-8")
    line = next(each for each in status.splitlines() if each.startswith("Uid:"))
    return tuple(int(word) for word in line.split()[1:4])


@needs_root
def test_one_thread_is_another_user_while_all_others_stay_root():
    became, looked = threading.Event(), threading.Event()
    inside = []

    def other() -> None:
        with thread_as(NOBODY.pw_uid):
            inside.append(ids_of_this_thread())
            became.set()
            looked.wait(60)
        inside.append(ids_of_this_thread())

    thread = threading.Thread(target=other)
    thread.start()
    assert became.wait(60)
    assert ids_of_this_thread() == (0, 0, 0)
    looked.set()
    thread.join(60)
    assert inside == [(0, NOBODY.pw_uid, 0), (0, 0, 0)]


@needs_root
def test_folders_are_seen_with_the_services_rights_and_root_is_root_again(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    group = os.getgid()
    with as_service(Sandbox(user="nobody")):
        assert os.geteuid() == NOBODY.pw_uid
        assert not os.access(closed, os.R_OK, effective_ids=True)
        assert group not in os.getgroups()
    assert (os.geteuid(), os.getegid()) == (0, group)
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize("sandbox", [None, Sandbox(), Sandbox(user="nobody-has-this-name")])
def test_where_there_is_no_such_user_one_stays_who_one_is(sandbox):
    before = os.geteuid()
    with as_service(sandbox):
        assert os.geteuid() == before


@pytest.mark.parametrize(
    ("asks", "sandbox", "found"),
    [
        (0, Sandbox(user="nobody"), NOBODY.pw_uid),
        (0, Sandbox(user="root"), None),
        (0, Sandbox(), None),
        (0, None, None),
        (1000, Sandbox(user="nobody"), None),
    ],
)
def test_only_root_has_a_stand_in_and_only_where_the_unit_has_a_user(
    monkeypatch, asks, sandbox, found
):
    monkeypatch.setattr(service_user.os, "geteuid", lambda: asks)
    monkeypatch.setattr(service_user.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(service_user, "sandbox_of_unit", lambda: sandbox)
    assert stand_in_for_root() == found


@pytest.mark.parametrize(
    ("dsn", "here"),
    [
        ("postgresql:///sensordrop", True),
        ("postgresql:///sensordrop?host=/run/postgresql", True),
        ("dbname=sensordrop host=/a,/b", True),
        ("postgresql://db.example.org/sensordrop", False),
        ("dbname=sensordrop host=/a,db.example.org", False),
        ("dbname=sensordrop hostaddr=127.0.0.1", False),
    ],
)
def test_only_a_server_on_this_machine_sees_who_asks(dsn, here):
    assert _on_this_machine(dsn) is here
