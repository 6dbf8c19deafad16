"""People who may see some clients alone: what the control socket shows them, and lets them do."""

from __future__ import annotations

import http.client
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_control_socket import WAIT_SECONDS, operations, served, wait_for_daemon
from test_ledger import NOW, ask, binding, receipt, register, row, sweep

from sensordrop.control import server as control_server
from sensordrop.control.address import connect, listen
from sensordrop.core.controls import ControlKind
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.core.letters import LetterKind
from sensordrop.core.lifecycle import Quarantine, RecordUploaded
from sensordrop.core.principal import Grant, Peer, Role
from sensordrop.ports.records import BreakerState, Commit, EndpointBinding

ANNA, BERT, ZOE, STAFF = 41_001, 41_002, 41_003, 41_100
"""Users and a group that no machine has."""
GRANTS = (
    Grant(user=str(ANNA), role=Role.ADMIN, clients=("Acme",)),
    Grant(group=str(STAFF), role=Role.VIEWER, clients=("Acme",)),
)
PAUSED = "paused"


def told_of(failure_of: str, scope: FailureScope) -> Failure:
    return Failure(
        scope=scope, error_class="denied", message=f"putting {failure_of}: denied", hint="ask"
    )


def work(ledger, place, delivery_id: int, name: str) -> int:
    """Have a file stored and one fail in a session that ends; give its number."""
    sweep(ledger, delivery_id, row(f"{name}-sensor/{name}-a.wav".encode()),
          row(f"{name}-sensor/{name}-b.wav".encode()))  # fmt: skip
    stored, failed = ledger.claim(place.daemon_id, delivery_id, 2)
    actions = [
        Commit(claim=stored, action=RecordUploaded(receipt=receipt(f"{name}/{name}-a.wav"))),
        Commit(
            claim=failed, action=Quarantine(failure=told_of(f"{name}-b.wav", FailureScope.FILE))
        ),
    ]
    ledger.commit(place.daemon_id, actions, NOW)
    session_id: int = ledger.finish_session(delivery_id).session_id
    return session_id


class Hut:
    """A station with a delivery of Acme and one of Beta, both with a story, and its socket."""

    def __init__(self, ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.asking = Peer(user_id=os.geteuid(), user="root", groups=())
        monkeypatch.setattr(control_server, "peer_of", lambda _connection, **_: self.asking)
        bindings = [
            binding(
                name=f"{name}-drop", client=client, project=f"{name}-birds",
                local_directory=f"/srv/{name}", bucket_name=f"{name}-bucket", s3_prefix=name,
                cycle=f"{name}-cycle", endpoint_url=f"https://{name}.example.org",
                configuration={"bandwidth": f"{rate} MiB/s", "quiet_seconds": 1},
                endpoints=[EndpointBinding(kind=LetterKind.REGISTRATION,
                                           endpoint=f"https://{name}-told.example.org/",
                                           digest=name)],
            )
            for client, name, rate in (("Acme", "acme", 4), ("Beta", "beta", 7))
        ]  # fmt: skip
        place = register(ledger, *bindings)
        self.sessions = {}
        for name in ("acme", "beta"):
            self.sessions[name] = work(ledger, place, place.delivery_ids[f"{name}-drop"], name)
            sweep(ledger, place.delivery_ids[f"{name}-drop"], row(f"S/{name}-late.wav".encode()))
            for kind, value in ((ControlKind.PAUSE, PAUSED), (ControlKind.BANDWIDTH, "3 MiB/s")):
                ledger.set_control(
                    kind, value, station="hut", delivery=f"{name}-drop",
                    set_by=f"{name}-boss@hut", reason=f"{name} is counting",
                )  # fmt: skip
        stopped = [
            (FailureScope.PROJECT, "Beta/beta-birds/beta-bucket"),
            (FailureScope.DESTINATION, "https://beta.example.org"),
            (FailureScope.DESTINATION, "https://acme.example.org"),
            (FailureScope.STATION, "this station"),
        ]
        ledger.publish_breakers(
            place.daemon_id,
            [
                BreakerState(
                    scope=scope, target=target, failures=1, probe_in_seconds=60.0,
                    failure=told_of("beta-bucket/beta/b.wav", scope),
                )
                for scope, target in stopped
            ],
        )  # fmt: skip
        ledger.refuse_configuration(place.daemon_id, "conf.d/beta-drop.yaml: nonsense")

    def ask_as(
        self, user_id: int, method: str, target: str, body: object = None, *, groups=()
    ) -> tuple[int, str]:
        """Give status and text of the answer that a user gets."""
        self.asking = Peer(user_id=user_id, user=f"u{user_id}", groups=groups)
        raw = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n"
        with closing(connect(self.path, timeout_seconds=WAIT_SECONDS)) as connection:
            connection.sendall(head.encode() + raw)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.read().decode()


@pytest.fixture
def hut(ledger, tmp_path, monkeypatch) -> Iterator[Hut]:
    path = tmp_path / "control.sock"
    made = Hut(ledger, path, monkeypatch)
    with served(path, operations(ledger), close=ledger.close_own, grants=lambda: GRANTS):
        wait_for_daemon(path)
        yield made


def requests_of(hut: Hut, name: str) -> Iterator[tuple[str, str, dict | None]]:
    """Give every operation of the description, about the delivery and the session of a client.

    One that this does not know how to ask for is a mistake here, not one that is left out.
    """
    session, delivery = hut.sessions[name], f"{name}-drop"
    values = {
        "about": {}, "deliveries": {}, "pauses": {}, "pause_history": {}, "whoami": {},
        "status": {}, "bandwidth": {}, "openapi": {},
        "known": {"delivery": delivery, "path": f"{name}-sensor/{name}-a.wav"},
        "why": {"delivery": delivery, "path": f"{name}-sensor/{name}-b.wav"},
        "files": {"delivery": delivery}, "sessions": {"delivery": delivery},
        "session": {"session_id": session}, "trigger": {"session_id": session},
        "pause": {"delivery": delivery}, "resume": {"delivery": delivery},
        "rescan": {"delivery": delivery}, "retry": {"delivery": delivery},
        "set_bandwidth": {"limit": "1 MiB/s", "delivery": delivery},
    }  # fmt: skip
    status, text = hut.ask_as(os.geteuid(), "GET", "/api/v1/openapi.json")
    assert status == 200
    for path, methods in json.loads(text)["paths"].items():
        for method, operation in methods.items():
            given = dict(values[operation["operationId"]])
            target = path
            for key in [key for key in given if f"{{{key}}}" in path]:
                target = target.replace(f"{{{key}}}", str(given.pop(key)))
            if method == "get" and given:
                target += "?" + "&".join(f"{key}={value}" for key, value in given.items())
            yield method.upper(), target, given if method == "post" else None


def test_no_byte_of_another_client_is_told_on_any_route(hut):
    everyone = json.loads(hut.ask_as(os.geteuid(), "GET", "/api/v1/status")[1])
    hers = json.loads(hut.ask_as(ANNA, "GET", "/api/v1/status")[1])
    assert (len(everyone["breakers"]), len(hers["breakers"])) == (4, 2)
    assert [each["name"] for each in hers["deliveries"]] == ["acme-drop"]
    assert hers["deliveries"][0]["counts"]["failed"] == 1
    everything = ""
    for method, target, body in requests_of(hut, "acme"):
        status, text = hut.ask_as(ANNA, method, target, body)
        assert status == 200, (target, text)
        assert "beta" not in text.lower(), target
    for method, target, _ in requests_of(hut, "beta"):
        bare = target.partition("?")[0]
        if method == "GET" and "beta" not in bare and not bare[-1].isdigit():
            status, text = hut.ask_as(ANNA, method, bare)  # all there is, as far as she may see
            assert status == 200, (bare, text)
            assert "beta" not in text.lower(), bare
            everything += hut.ask_as(os.geteuid(), method, bare)[1]
    for word in ("beta-drop", "beta-sensor/beta-b.wav", "beta is counting", "beta-bucket",
                 "https://beta.example.org", "conf.d/beta-drop.yaml", "7 MiB/s"):  # fmt: skip
        assert word in everything, f"root was not told of {word}: nothing is shown by its absence"


def test_what_is_another_clients_is_refused_as_what_is_not_there_and_nothing_is_done(hut, database):
    def set_for_beta() -> list[tuple]:
        return ask(database, "SELECT count(*), count(ended_at) FROM controls JOIN deliveries d ON "
                   "d.id = delivery_id WHERE d.name = 'beta-drop'")  # fmt: skip

    before = set_for_beta()
    never = max(hut.sessions.values()) + 1000
    refused = 0
    for method, target, body in requests_of(hut, "beta"):
        about = json.dumps([target, body])
        if "beta" not in about and str(hut.sessions["beta"]) not in about.replace("v1", ""):
            continue
        status, text = hut.ask_as(ANNA, method, target, body)
        assert (status, json.loads(text)["error"]["reason"]) == (403, "not-permitted"), text
        assert "Acme alone" in text
        refused += 1
        # What nobody has is refused in the same words: not even that there is one is told.
        session = hut.sessions["beta"]
        nobody = json.loads(about.replace("beta", "nope"))
        nobody[0] = nobody[0].replace(f"/sessions/{session}", f"/sessions/{never}")
        if nobody[1] and "session_id" in nobody[1]:
            nobody[1]["session_id"] = never
        again, words = hut.ask_as(ANNA, method, nobody[0], nobody[1])
        assert (again, words) == (
            403, text.replace("beta", "nope").replace(f"session {session}", f"session {never}")
        )  # fmt: skip
    assert refused == 11
    assert set_for_beta() == before
    assert ask(database, "SELECT count(*) FROM retries") == [(0,)]


def test_what_is_asked_of_all_is_done_to_the_own_alone(hut, database):
    for target, body, status in (
        ("/api/v1/pause", {}, 403), ("/api/v1/resume", {}, 403),
        ("/api/v1/bandwidth", {"limit": "off"}, 403), ("/api/v1/rescan", {}, 200),
        ("/api/v1/retry", {"all_failed": True}, 200),
    ):  # fmt: skip
        code, text = hut.ask_as(ANNA, "POST", target, body)
        assert code == status, (target, text)
    swept = ask(database, "SELECT d.name FROM controls JOIN deliveries d ON d.id = delivery_id "
                "WHERE controls.kind = 'rescan'")  # fmt: skip
    assert swept == [("acme-drop",)]
    retried = ask(database, "SELECT d.name, files FROM retries JOIN deliveries d "
                  "ON d.id = delivery_id")  # fmt: skip
    assert retried == [("acme-drop", 1)]


def test_a_shared_delivery_of_the_same_name_is_not_mistaken_for_the_own(ledger):
    """Another station may share a delivery under a name that is taken here."""
    mine = register(ledger, binding(name="twin", client="Acme", local_directory="/a"))
    other = register(
        ledger, binding(name="twin", client="Beta", shared=True, local_directory="/b"),
        station="other", instance=uuid.uuid4(),
    )  # fmt: skip
    assert ledger.set_control(ControlKind.PAUSE, PAUSED, station="hut", delivery="twin",
                              set_by="anna", clients=["Acme"])  # fmt: skip
    (control,) = ledger.controls(mine.daemon_id, list(mine.delivery_ids.values()))
    assert control.delivery_id == mine.delivery_ids["twin"] != other.delivery_ids["twin"]
    assert not ledger.set_control(ControlKind.PAUSE, PAUSED, station="hut", delivery="twin",
                                  set_by="anna", clients=["Gamma"])  # fmt: skip


def test_viewers_are_limited_too_and_whoever_is_not_named_is_told_nothing(hut):
    status, text = hut.ask_as(BERT, "GET", "/api/v1/whoami", groups=[STAFF])
    assert json.loads(text) == {"name": text.split('"')[3], "role": "viewer", "clients": ["Acme"]}
    assert hut.ask_as(BERT, "POST", "/api/v1/retry", {"delivery": "acme-drop"}, groups=[STAFF])[
        0
    ] == 403  # fmt: skip
    for method, target, body in requests_of(hut, "acme"):
        if not target.endswith("openapi.json"):
            status, text = hut.ask_as(ZOE, method, target, body)
            assert (status, "control_principals" in text) == (403, True), target
            assert "acme" not in text.lower()
    assert hut.ask_as(os.geteuid(), "GET", "/api/v1/whoami")[0] == 200


def test_a_limit_on_somebody_unknown_lets_nobody_in_by_the_group(
    ledger, tmp_path, monkeypatch, capsys
):
    """A name that is misspelt, or that the directory does not tell today, must not free anybody."""
    monkeypatch.setattr(control_server, "controlling_group", lambda _name: (STAFF, None))
    monkeypatch.setattr(control_server, "listen", _listen_without_group)
    path, grants = tmp_path / "control.sock", [Grant(user="no-such-user", role=Role.VIEWER,
                                                     clients=("Acme",))]  # fmt: skip
    hut = Hut(ledger, path, monkeypatch)
    with served(path, operations(ledger), close=ledger.close_own, grants=lambda: grants):
        wait_for_daemon(path)
        hut.asking = Peer(user_id=ZOE, user="zoe", groups=[STAFF])
        assert hut.ask_as(ZOE, "GET", "/api/v1/status", groups=[STAFF])[0] == 403
        assert capsys.readouterr().out.count("control_principal_unknown") == 1
        grants.clear()
        assert hut.ask_as(ZOE, "GET", "/api/v1/status", groups=[STAFF])[0] == 200, "as always"


def _listen_without_group(path, **settings):
    """Listen as the daemon does where its socket can't be handed to anybody."""
    return listen(path, **{**settings, "group": None})
