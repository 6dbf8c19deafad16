"""Telling an endpoint, whatever it does: `ports.Notifier` over real connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from receivers import (
    Receiver,
    answer,
    cut_before_answering,
    cut_in_the_answer,
    hang,
    never_end,
    receiving,
)
from s3_servers import closed_port

from sensordrop.adapters.notifier import KEPT_CHARACTERS, MOST_REDIRECTS, HttpNotifier
from sensordrop.config.endpoints import EndpointKind
from sensordrop.core.letters import LetterKind, signature
from sensordrop.ports.letters import Letter

LETTER = Letter(
    letter_id=1,
    delivery_id=7,
    session_id=3,
    kind=LetterKind.REGISTRATION,
    endpoint="",
    endpoint_digest="",
    idempotency_key="0d9c1f6e-2f0b-4a38-8a0b-0d7f3a5f9a41",
    body='{"bucket_name": "grüße"}',
    lease_number=1,
    attempts=0,
    waited_seconds=0.0,
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def send(url: str, *, now=time.time, stop=None, private: bool = True, **parts: object):
    endpoint = EndpointKind().read({"url": url, "allow_private_addresses": private, **parts})
    notifier = HttpNotifier({(7, LetterKind.REGISTRATION): endpoint}, now=now)
    return notifier.send(LETTER, stop or threading.Event())


def test_a_letter_arrives_as_it_is_signed_and_with_its_key(receiver):
    receiver.script = [answer(201, "grüße zurück")]
    got = send(
        receiver.url, secret="hush", token="t", headers={"X-A": "b"}, now=lambda: 1757408400.7
    )
    assert (got.status, got.text, got.problem) == (201, "grüße zurück", None)
    (heard,) = receiver.heard
    body = LETTER.body.encode()
    assert heard.body == body
    assert {
        name: heard.headers.get(name)
        for name in (
            "idempotency-key", "content-type", "sensordrop-event", "sensordrop-timestamp",
            "sensordrop-signature", "authorization", "x-a",
        )
    } == {
        "idempotency-key": LETTER.idempotency_key,
        "content-type": "application/json",
        "sensordrop-event": "registration",
        "sensordrop-timestamp": "1757408400",
        "sensordrop-signature": "v1=" + signature("hush", 1757408400, body),
        "authorization": "Bearer t",
        "x-a": "b",
    }  # fmt: skip


def test_without_a_secret_nothing_is_signed_and_nothing_made_up(receiver):
    send(receiver.url)
    (heard,) = receiver.heard
    assert "sensordrop-signature" not in heard.headers
    assert "authorization" not in heard.headers


@pytest.mark.parametrize(
    ("behaviour", "status", "problem"),
    [
        (answer(500, "sorry"), 500, None),
        (answer(404), 404, None),
        (answer(302, Location="/elsewhere"), 302, None),
        (never_end, 200, None),
        (cut_before_answering, None, "could not be told"),
        (cut_in_the_answer, None, "could not be told"),
        (hang, None, "could not be told"),
    ],
    ids=["500", "404", "302", "never ends", "cut", "cut in the answer", "hangs"],
)
def test_whatever_it_does_there_is_an_answer(receiver, behaviour, status, problem):
    receiver.always = behaviour
    got = send(receiver.url, timeout_seconds=2 if behaviour is hang else 30)
    assert got.status == status
    assert (got.problem is None) == (problem is None)
    assert problem is None or problem in got.problem
    assert len(got.text) <= KEPT_CHARACTERS
    assert len(receiver.heard) == 1, "it is the outbox that tries again"


def test_an_endpoint_says_when_it_wants_to_be_asked_again(receiver):
    receiver.script = [
        answer(429, Retry_After="120"),
        answer(503, Retry_After=formatdate(1757408460, usegmt=True)),
        answer(503, Retry_After="soon"),
    ]
    got = [send(receiver.url, now=lambda: 1757408400.0).retry_after_seconds for _ in range(3)]
    assert got == [120.0, 60.0, None]


def test_an_answer_that_repeats_secrets_is_kept_without_them(receiver):
    receiver.always = answer(400, "your token t0ken, your key k3y, your secret s3cret")
    got = send(receiver.url, token="t0ken", secret="s3cret", headers={"X-Key": "k3y"})
    assert got.text == "your token ***, your key ***, your secret ***"


def test_nothing_of_a_secret_is_kept_where_an_answer_was_cut_or_repeats_the_address(receiver):
    token = "0123456789" * 9
    receiver.always = answer(500, f"{token} " * 200)
    assert set(send(receiver.url, token=token).text) <= set("* ")
    receiver.always = answer(500, "no such key: k3y%20a, k3y a")
    kept = send(f"{receiver.url}?key=k3y%20a&other").text
    assert "k3y" not in kept


def test_nobody_there_is_told_with_what_helps():
    got = send(f"http://127.0.0.1:{closed_port()}/sessions")
    assert got.status is None
    assert "could not be told" in got.problem
    assert "url" in got.hint


def test_this_machine_and_private_networks_are_asked_only_if_allowed(receiver):
    for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost")):
        got = send(url, private=False)
        assert "private or this machine's own" in got.problem
        assert "allow_private_addresses" in got.hint
    assert receiver.heard == []
    assert "nobody's endpoint" in send("http://169.254.169.254/latest/meta-data").problem


def test_redirects_are_followed_only_if_they_may_be_and_keep_the_post(receiver, other):
    receiver.script = [answer(307, Location=other.url)]
    assert send(receiver.url).status == 307
    assert other.heard == []
    receiver.script = [answer(307, Location=other.url)]
    got = send(receiver.url, follow_redirects=True, token="t", secret="hush", headers={"X-A": "b"})
    assert got.status == 200
    (heard,) = other.heard
    assert heard.body == LETTER.body.encode()
    assert heard.key == LETTER.idempotency_key
    assert "sensordrop-signature" in heard.headers
    assert not {"authorization", "x-a"} & set(heard.headers), "meant for the first host alone"
    receiver.script = [answer(308, Location="/moved?to=here")]
    assert send(receiver.url, follow_redirects=True, token="t").status == 200
    assert receiver.heard[-1].path == "/moved?to=here"
    assert receiver.heard[-1].headers["authorization"] == "Bearer t"


def test_redirects_that_change_the_request_or_never_end_or_lead_astray_are_not_followed(receiver):
    receiver.script = [answer(303, Location="/elsewhere")]
    assert send(receiver.url, follow_redirects=True).status == 303
    receiver.script = [answer(307, Location="file:///etc/passwd")]
    assert "no address" in send(receiver.url, follow_redirects=True).problem
    before = len(receiver.heard)
    receiver.always = answer(307, Location="/again")
    assert "more than" in send(receiver.url, follow_redirects=True).problem
    assert len(receiver.heard) - before == MOST_REDIRECTS + 1


def test_a_redirect_to_a_forbidden_address_is_refused_too(receiver):
    receiver.script = [answer(307, Location="http://169.254.169.254/latest")]
    assert "nobody's endpoint" in send(receiver.url, follow_redirects=True).problem


def test_whoever_stops_does_not_wait_for_an_endpoint_that_hangs(receiver):
    receiver.always = hang
    stop = threading.Event()
    got: list[object] = []
    thread = threading.Thread(
        target=lambda: got.append(send(receiver.url, stop=stop, timeout_seconds=300))
    )
    thread.start()
    while not receiver.heard:
        time.sleep(0.01)
    stop.set()
    thread.join(60)
    assert got == [None]
