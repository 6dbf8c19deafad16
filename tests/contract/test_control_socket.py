"""The control socket: who is let in, what is answered, and that nobody can hold it up."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from test_ledger import binding, register, row, sweep

from sensordrop.control import handler, visits
from sensordrop.control import server as control_server
from sensordrop.control.address import connect
from sensordrop.control.answers import ANSWERS, REFUSAL
from sensordrop.control.client import ControlClient, NoDaemonError
from sensordrop.control.refusal import Reason, RefusedError
from sensordrop.control.routes import BY_NAME, ROUTES
from sensordrop.control.server import ControlServer, SocketSettings
from sensordrop.control.service import Operations
from sensordrop.core.admission import (
    KEPT_FOR_CONTROLLERS,
    KEPT_FOR_TRUSTED,
    MOST_CONNECTIONS,
    MOST_OF_A_USER,
)
from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.core.principal import Peer, Principal, Role

WAIT_SECONDS = 60.0
ABOUT = {"version": "1", "station": "hut", "pid": 1, "started_at": "2026-01-01T00:00:00+00:00",
         "ledger": "here"}  # fmt: skip
EVERYTHING = {
    "session": {"session_id": 1},
    "known": {"delivery": "north", "path": "S/a"},
    "why": {"delivery": "north", "path": "S/a"},
    "set_bandwidth": {"limit": "10M"},
    "retry": {"all_failed": True},
}
"""What the operations need that can't be called without anything."""


def operations(ledger, **changes: object) -> Operations:
    settings = {"ledger": ledger, "station": "hut", "zone": UTC, "daemon": lambda: ABOUT}
    return Operations(**{**settings, **changes})


@contextmanager
def served(
    path: Path, told: Operations, *, close=lambda: None, grants=tuple
) -> Iterator[ControlServer]:
    """Serve operations at a socket as the daemon does."""
    settings = SocketSettings(path=path, mode=0o660, group=None)
    server = ControlServer(settings, told, close_thread=close, grants=grants)
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        server.wake()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


def wait_for_daemon(path: Path) -> ControlClient:
    client = ControlClient(path)
    give_up = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            client.hello()
        except NoDaemonError:
            assert time.monotonic() < give_up, "no answer"
            time.sleep(0.02)
        else:
            return client


def say(path: Path, raw: bytes) -> tuple[int, dict]:
    """Send bytes as they are, and give status and JSON of the answer."""
    with closing(connect(path, timeout_seconds=WAIT_SECONDS)) as connection:
        connection.sendall(raw)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())


def get(path: Path, target: str) -> tuple[int, dict]:
    return say(path, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def post(path: Path, target: str, body: bytes) -> tuple[int, dict]:
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return say(path, head.encode() + body)


@pytest.fixture
def hut(ledger, tmp_path) -> Iterator[tuple[Path, ControlClient]]:
    """Give the socket of a station `hut` with a delivery `north`, and a client of it."""
    place = register(ledger)
    sweep(ledger, place.delivery_ids["north"], row(b"S/a"), row(b"S/b"))
    path = tmp_path / "control.sock"
    with served(path, operations(ledger), close=ledger.close_own):
        yield path, wait_for_daemon(path)


def test_every_route_answers_as_its_description_says(hut):
    path, client = hut
    status, described = get(path, "/api/v1/openapi.json")
    assert status == 200
    validate(described)
    named = {
        operation["operationId"] for each in described["paths"].values() for operation in each.values()
    }  # fmt: skip
    assert named == {*BY_NAME, "openapi"}
    for route in ROUTES:
        if route.name == "trigger":
            continue  # it needs a session that has ended: test_outbox.py
        told = client.ask(route.name, **EVERYTHING.get(route.name, {}))
        schema = {**ANSWERS[route.name], "$schema": "https://json-schema.org/draft/2020-12/schema"}
        Draft202012Validator(schema).validate(told)
    assert client.ask("whoami")["role"] == "admin", "the daemon's own user"
    assert client.ask("known", delivery="north", path="S/a")["known"]
    assert not client.ask("known", delivery="north", path="S/ä/ñ%2F").get("known")
    assert [line["path"] for line in client.ask("files", limit=1)["files"]] == ["S/b"]


NONSENSE = [
    ("GET", "/api/v1/nothing", b"", 404, "/api/v1/openapi.json"),
    ("GET", "/api/v1/pause", b"", 405, "POST"),
    ("POST", "/api/v1/status", b"", 405, "GET"),
    ("DELETE", "/api/v1/pause", b"", 501, ""),
    ("GET", "/api/v1/files?state=lost", b"", 400, "one of"),
    ("GET", "/api/v1/files?stat=failed", b"", 400, "'stat'"),
    ("GET", "/api/v1/files?limit=9999", b"", 400, "1000"),
    ("GET", "/api/v1/files?limit=1&limit=2", b"", 400, "twice"),
    ("GET", "/api/v1/files?delivery=nroth", b"", 400, "north"),
    ("GET", "/api/v1/sessions/abc", b"", 400, "whole number"),
    ("GET", "/api/v1/sessions/99999", b"", 404, "there is no session 99999"),
    ("GET", "/api/v1/deliveries/north/known?path=%00", b"", 400, "path"),
    ("POST", "/api/v1/pause", b"[]", 400, "JSON object"),
    ("POST", "/api/v1/pause", b"{", 400, "JSON object"),
    ("POST", "/api/v1/pause", b"[" * 100_000, 400, "JSON object"),
    ("POST", "/api/v1/pause", b'{"delivery": 7}', 400, "delivery must be"),
    ("POST", "/api/v1/pause", b'{"delivery": "\\ud800"}', 400, "delivery must be"),
    ("POST", "/api/v1/pause", b'{"for_seconds": true}', 400, "for_seconds"),
    ("POST", "/api/v1/pause", b'{"for_seconds": 1e99}', 400, "for_seconds"),
    ("POST", "/api/v1/pause", b'{"for_seconds": NaN}', 400, "for_seconds"),
    ("POST", "/api/v1/bandwidth", b"{}", 400, "limit is missing"),
    ("POST", "/api/v1/bandwidth", b'{"limit": "fast"}', 400, "fast"),
    ("POST", "/api/v1/retry", b"{}", 400, "what is to be retried"),
]
"""Requests, and what each is answered: method, target, body, status, words."""


def test_what_is_no_sense_is_refused_in_words_and_changes_nothing(hut):
    path, client = hut
    for method, target, body, status, words in NONSENSE:
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        code, told = say(path, head.encode() + body)
        assert code == status, (target, body)
        Draft202012Validator(REFUSAL).validate(told)
        assert words in told["error"]["message"], (target, body)
    assert client.ask("pauses")["paused"] == []


def test_requests_of_any_size_or_shape_are_bounded(hut, capsys):
    path, client = hut
    too_long = handler.LARGEST_BODY + 1
    for raw, words in (
        (f"POST /api/v1/pause HTTP/1.1\r\nContent-Length: {too_long}\r\n\r\n", "bytes"),
        ("POST /api/v1/pause HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "bytes"),
        ("POST /api/v1/pause HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "pieces"),
        (f"POST /api/v1/pause HTTP/1.1\r\nContent-Length: {'9' * 5000}\r\n\r\n", "bytes"),
        ("GET http://[ HTTP/1.1\r\n\r\n", "address"),
        ("nonsense\r\n\r\n", ""),
    ):
        with closing(connect(path, timeout_seconds=WAIT_SECONDS)) as connection:
            connection.sendall(raw.encode())
            answer = connection.makefile("rb").read().decode()
        assert words in answer
        assert "200 OK" not in answer
    assert client.ask("pauses")["paused"] == []
    told = capsys.readouterr()
    assert "bug" not in told.out + told.err, "whoever asks nonsense fills the log"


def test_a_mistake_of_ours_and_a_lost_ledger_are_told_apart_and_end_nothing(tmp_path):
    class Broken:
        def __getattr__(self, name):
            if name == "status":
                raise LedgerUnavailableError("no route to host")
            raise ZeroDivisionError

    path = tmp_path / "control.sock"
    with served(path, operations(Broken())):
        client = wait_for_daemon(path)
        with pytest.raises(RefusedError, match="no route to host") as away:
            client.ask("status")
        assert away.value.reason is Reason.NO_LEDGER
        with pytest.raises(RefusedError, match="log") as bug:
            client.ask("deliveries")
        assert bug.value.reason is Reason.BUG
        assert client.ask("about") == ABOUT


def test_who_says_nothing_is_put_out_and_others_are_answered_meanwhile(hut, monkeypatch):
    path, client = hut
    with ExitStack() as stack:
        silent = [
            stack.enter_context(closing(connect(path, timeout_seconds=WAIT_SECONDS)))
            for _ in range(MOST_OF_A_USER - 4)
        ]
        for each in silent:
            each.sendall(b"GET /api/v1/sta")
        assert client.ask("about") == ABOUT
    monkeypatch.setattr(visits, "ASK_SECONDS", 0.2)
    with closing(connect(path, timeout_seconds=WAIT_SECONDS)) as slow:
        try:
            slow.sendall(b"GET /api/v1/sta")
            heard = slow.recv(1000)
        except ConnectionError:  # put out before it had said even that
            heard = b""
        assert heard == b"", "it was put out"


def test_who_asks_too_much_at_once_is_told_so(hut):
    path, client = hut
    with ExitStack() as stack:
        for _ in range(MOST_OF_A_USER):
            stack.enter_context(closing(connect(path, timeout_seconds=WAIT_SECONDS)))
        give_up = time.monotonic() + WAIT_SECONDS
        busy = False
        while not busy and time.monotonic() < give_up:  # the visits are taken one after the other
            try:
                busy = get(path, "/api/v1/daemon")[0] == 503
            except (OSError, http.client.HTTPException):  # hung up while it was still being told
                busy = True
        assert busy
    assert client.ask("about") == ABOUT, "once they have gone, it is answered"


def test_places_are_kept_for_admins_and_for_root_whoever_else_knocks(ledger, tmp_path, monkeypatch):
    """Two users can't hold all connections, and not even all admins together can."""
    group, me = os.getegid(), Peer(user_id=os.geteuid(), user="me", groups=())
    knocking, looked = [me], threading.Semaphore(0)

    def look(_connection: socket.socket) -> Peer:
        looked.release()
        return knocking[0]

    monkeypatch.setattr(control_server, "nameless_peer_of", look)
    monkeypatch.setattr(control_server, "controlling_group", lambda _name: (group, None))
    for module in (control_server, visits):  # nobody is put out meanwhile
        monkeypatch.setattr(module, "ASK_SECONDS", 600.0)
    path = tmp_path / "control.sock"
    with ExitStack() as stack:
        stack.enter_context(served(path, operations(ledger), close=ledger.close_own))
        client = wait_for_daemon(path)
        while looked.acquire(blocking=False):
            pass

        def knock(user_id: int, *groups: int) -> socket.socket:
            knocking[0] = Peer(user_id=user_id, user="", groups=groups)
            connection = stack.enter_context(closing(connect(path, timeout_seconds=WAIT_SECONDS)))
            assert looked.acquire(timeout=WAIT_SECONDS), "nobody looked who is there"
            return connection

        def is_turned_away(user_id: int, *groups: int) -> bool:
            return b"503" in knock(user_id, *groups).recv(100)

        for _ in range(MOST_OF_A_USER):
            knock(1001)
        assert is_turned_away(1001), "one user has no more than a share"
        room = MOST_CONNECTIONS - KEPT_FOR_CONTROLLERS - KEPT_FOR_TRUSTED
        for number in range(room - MOST_OF_A_USER):
            knock(2000 + number)
        assert is_turned_away(3000), "the rest is kept for those who control"
        for number in range(KEPT_FOR_CONTROLLERS):
            knock(4000 + number, group)
        assert is_turned_away(5000, group), "and the last for root"
        knocking[0] = me
        assert client.ask("about") == ABOUT


@pytest.mark.parametrize("by", ["removed", "replaced by a dead one"])
def test_a_socket_that_somebody_removed_is_made_anew_without_a_restart(
    ledger, tmp_path, monkeypatch, capsys, by
):
    monkeypatch.setattr(control_server, "LOOK_SECONDS", 0.0)
    path = tmp_path / "control.sock"
    with served(path, operations(ledger), close=ledger.close_own):
        client = wait_for_daemon(path)
        if by == "removed":
            path.unlink()
        else:
            # Put in its place in one step: a name that is free is taken at once.
            with closing(socket.socket(socket.AF_UNIX)) as dead:
                dead.bind(str(tmp_path / "dead.sock"))
            (tmp_path / "dead.sock").rename(path)
        assert wait_for_daemon(path).hello() == ABOUT
        assert client.ask("whoami")["role"] == "admin"
        assert path.stat().st_mode & 0o777 == 0o600, "for whom it is has not changed"
    assert "control_socket_gone" in capsys.readouterr().out
    assert not path.exists()


def test_a_socket_that_another_daemon_took_is_left_to_it(ledger, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(control_server, "LOOK_SECONDS", 0.0)
    path = tmp_path / "control.sock"
    with served(path, operations(ledger), close=ledger.close_own):
        wait_for_daemon(path)
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(str(tmp_path / "other.sock"))
            other.listen()
            (tmp_path / "other.sock").rename(path)
            give_up = time.monotonic() + WAIT_SECONDS
            told = ""
            while "control_not_served" not in told:
                assert time.monotonic() < give_up, told
                told += capsys.readouterr().out
                time.sleep(0.02)
            theirs = path.stat().st_ino
    assert path.stat().st_ino == theirs


def test_a_dead_daemons_socket_is_replaced_and_a_living_ones_never(ledger, tmp_path):
    path = tmp_path / "control.sock"
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))  # and never listens: so looks what a kill leaves behind
    with served(path, operations(ledger)):
        client = wait_for_daemon(path)
        mine = path.stat().st_ino
        other = operations(ledger, daemon=lambda: {**ABOUT, "station": "other"})
        with served(path, other):
            time.sleep(0.3)
            assert client.hello()["station"] == "hut"
        assert path.stat().st_ino == mine
        assert client.hello()["station"] == "hut"
    assert not path.exists(), "who ends in order leaves nothing behind"


def test_what_is_no_socket_is_left_alone(ledger, tmp_path):
    path = tmp_path / "control.sock"
    path.write_text("somebody's notes")
    with served(path, operations(ledger)):
        time.sleep(0.3)
    assert path.read_text() == "somebody's notes"


def test_a_path_longer_than_a_sockets_name_may_be_works(ledger, tmp_path):
    folder = tmp_path / ("f" * 120) / ("g" * 120)
    folder.mkdir(parents=True)
    path = folder / "control.sock"
    with served(path, operations(ledger)):
        assert wait_for_daemon(path).hello() == ABOUT
        mode = path.stat().st_mode & 0o777
        assert mode == 0o600, "without a group it is its owner's alone"


@pytest.mark.parametrize("may", [True, False])
def test_a_group_that_it_already_has_takes_no_chown_and_one_it_may_not_give_is_left(
    ledger, tmp_path, monkeypatch, may
):
    """The sandbox under systemd refuses every chown, also one that changes nothing."""

    def refused(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    own = os.getegid()
    monkeypatch.setattr(os, "chown", refused)
    group = own if may else own + 12345
    monkeypatch.setattr(control_server, "controlling_group", lambda _name: (group, None))
    path = tmp_path / "control.sock"
    with served(path, operations(ledger)):
        wait_for_daemon(path)
        assert path.stat().st_mode & 0o777 == (0o660 if may else 0o600)


def test_lists_hold_what_a_client_may_see_and_nothing_else(ledger):
    register(
        ledger,
        binding(name="ours", client="Acme", local_directory="/a", s3_prefix="A"),
        binding(name="theirs", client="Beta", local_directory="/b", s3_prefix="B"),
    )
    everyone = Principal(name="root@hut", role=Role.ADMIN)
    acme = Principal(name="anna@acme", role=Role.ADMIN, clients=["Acme"])
    told = operations(ledger)

    def names(principal: Principal) -> list[list[str]]:
        return [
            [each["name"] for each in told.status(principal)["deliveries"]],
            [each["name"] for each in told.deliveries(principal)["deliveries"]],
            [each["delivery"] for each in told.bandwidth(principal)["limits"] if each["delivery"]],
        ]

    assert names(everyone) == [["ours", "theirs"]] * 3
    assert names(acme) == [["ours"]] * 3
    for operation, given in (("pause", {}), ("retry", {"now": True}), ("rescan", {})):
        with pytest.raises(RefusedError, match="Acme alone: none of them is 'theirs'") as theirs:
            BY_NAME[operation].perform(told, acme, {"delivery": "theirs", **given})
        assert theirs.value.reason is Reason.NOT_PERMITTED
    with pytest.raises(RefusedError, match="whole station") as refused:
        told.pause(acme)
    assert refused.value.reason is Reason.NOT_PERMITTED
    assert told.rescan(acme)["rescan"] == ["ours"]
    told.pause(everyone, delivery="theirs", reason="hush")
    assert told.pauses(acme)["paused"] == []
    assert told.pause_history(acme)["pauses"] == []
    assert len(told.pauses(everyone)["paused"]) == 1
