"""A store, or whatever answers in its place, that talks nonsense, never ends or means harm.

Every request of every operation is answered so once, all others by a real server: what comes of
it is a classified failure or the truth, never a traceback, never a false "stored".
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from s3_destinations import nothing_of_the_users
from s3_servers import BUCKET, Asked, FileContent, MotoServer, Reply, ScriptedServer, running

from sensordrop.adapters.s3 import CapabilityBook, S3Destination, S3Settings
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.s3.wire import Wire
from sensordrop.core.failure import FailureError, FailureScope
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.engine.lane_thread import LaneThread

__all__ = ["nothing_of_the_users"]  # a fixture

MIB = 1024 * 1024
GO_ON = threading.Event()
MOST_REQUESTS = 60
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(12))
    + b"]><ListBucketResult><Name>&m;</Name></ListBucketResult>"
)
"""Ten to the power of twelve times forty bytes, if somebody opened it."""
FOREIGN = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    b"<Error><Code>&f;</Code><Message>&f;</Message></Error>"
)
WRONG_KINDS = (
    b"<ListBucketResult><Name>field-data</Name><IsTruncated>perhaps</IsTruncated>"
    b"<KeyCount>many</KeyCount><Contents><Key>C1/x</Key><Size>lots</Size>"
    b"<LastModified>yesterday</LastModified></Contents></ListBucketResult>"
)
ODD_HEADERS = {
    "ETag": '""',
    "Last-Modified": "yesterday",
    "x-amz-missing-meta": "many",
    "x-amz-meta-sensordrop-sha256": "zz",
    "x-amz-mp-parts-count": "several",
    "Retry-After": "tomorrow, perhaps",
    "Date": "never",
}
NONSENSE = {
    "a page": Reply(body=b"<html><body>Please sign in</body></html>"),
    "nothing": Reply(),
    "half an XML": Reply(body=b'<?xml version="1.0"?><ListBucketResult><Na'),
    "another XML": Reply(body=b"<Weather><Rain/></Weather>"),
    "values of wrong kinds": Reply(body=WRONG_KINDS),
    "bytes": Reply(body=bytes(range(256)) * 4),
    "a bomb": Reply(body=BOMB),
    "a bomb as error": Reply(status=400, body=BOMB),
    "a foreign entity": Reply(status=403, body=FOREIGN),
    "odd headers": Reply(headers=ODD_HEADERS),
    "an unknown status": Reply(status=799, body=b"?"),
    "a redirect to nowhere": Reply(status=307, headers={"Location": "gopher://[::"}),
    "a hundred headers": Reply(headers={f"x-{n}": "y" for n in range(150)}),
    "a long header": Reply(headers={"x-long": "y" * 200_000}),
}


class Tricked:
    """Passes requests on to a real server, and answers one of them with nonsense."""

    def __init__(self, server: MotoServer) -> None:
        self._target = urlsplit(server.endpoint_url).netloc
        self._lock = threading.Lock()
        self.trick: Reply | None = None
        self.at = 0
        self.count = 0

    def set(self, at: int, trick: Reply) -> None:
        self.trick, self.at, self.count = trick, at, 0

    def __call__(self, asked: Asked) -> Reply:
        with self._lock:
            self.count += 1
            if self.trick is not None and self.count == self.at:
                return self.trick
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            connection.request(asked.method, asked.path, asked.body or None, asked.headers)
            answer = connection.getresponse()
            told = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("transfer-encoding", "connection")
            }
            return Reply(status=answer.status, headers=told, body=answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def moto(tmp_path_factory) -> Iterator[MotoServer]:
    with running("moto", tmp_path_factory.mktemp("moto")) as started:
        yield started


@pytest.fixture(scope="module")
def tricked(moto) -> Iterator[tuple[Tricked, ScriptedServer]]:
    trick = Tricked(moto)
    with ScriptedServer(trick) as server:
        yield trick, server


def always(name: str) -> Callable[[int], Reply]:
    return lambda _: NONSENSE[name]


def in_turn(start: int) -> Callable[[int], Reply]:
    """Pick another nonsense for each request: what costs much is not tried with all of them."""
    every = list(NONSENSE.values())
    return lambda at: every[(5 * at + start) % len(every)]


def each_request_once(
    trick: Tricked, pick: Callable[[int], Reply], operation: Callable[[int], Any]
) -> Iterator[tuple[int, Any]]:
    """Do an operation again and again, with its first, its second, … request answered so."""
    for at in range(1, MOST_REQUESTS):
        trick.set(at, pick(at))
        try:
            outcome = operation(at)
        except FailureError as error:
            outcome = error.failure
        yield at, outcome
        if trick.count < at:
            return
    raise AssertionError("an operation makes requests without end")


@pytest.mark.parametrize("start", [0, 1])
def test_a_preflight_survives_nonsense(tricked, start):
    trick, server = tricked
    settings = server.settings(read_timeout_seconds=20)
    seen = list(
        each_request_once(
            trick,
            in_turn(start),
            lambda _: S3Destination(settings, CapabilityBook()).preflight("C1"),
        )
    )
    assert len(seen) > 5
    for _, checks in seen:
        assert all(check.words.isprintable() for check in checks)


@pytest.mark.parametrize("name", NONSENSE)
def test_looking_and_listing_survive_nonsense(tricked, moto, name):
    trick, server = tricked
    moto.client().put_object(Bucket=BUCKET, Key="C1/there.wav", Body=b"there")
    destination = S3Destination(server.settings(read_timeout_seconds=20))
    for _, page in each_request_once(
        trick, always(name), lambda _: destination.list_page("C1", None)
    ):
        told = getattr(page, "objects", None)
        assert told is None or "C1/there.wav" in {each.key for each in told}
    assert told is not None, "the last try meets no nonsense any more"
    # What the bytes are compared with is the engine's business; nothing here may break.
    *_, (_, read) = each_request_once(
        trick, always(name), lambda _: destination.read_back("C1/there.wav", GO_ON)
    )
    assert read == (hashlib.sha256(b"there").digest(), len(b"there"))
    *_, (_, looked) = each_request_once(
        trick, always(name), lambda _: destination.look("C1/there.wav")
    )
    assert looked.size_bytes == len(b"there")


def test_looking_for_leftovers_survives_nonsense(tricked):
    trick, server = tricked
    destination = S3Destination(server.settings(read_timeout_seconds=20))
    for start in range(3):
        for _, check in each_request_once(
            trick, in_turn(start), lambda _: destination.leftovers("C1")
        ):
            assert check.words.isprintable()


@pytest.mark.parametrize("name", NONSENSE)
def test_storing_survives_nonsense_and_never_lies(tricked, moto, tmp_path, name):
    assert_never_a_lie(tricked, moto, tmp_path, always(name), 1000)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_storing_in_parts_survives_nonsense_and_never_lies(tricked, moto, tmp_path, start):
    assert_never_a_lie(tricked, moto, tmp_path, in_turn(start), 11 * MIB)


def assert_never_a_lie(tricked, moto, tmp_path, pick, size):
    trick, server = tricked
    file = tmp_path / "1.wav"
    file.write_bytes(tmp_path.name.encode() + b"x" * size)
    destination = S3Destination(
        server.settings(read_timeout_seconds=20, multipart_threshold_bytes=10 * MIB)
    )

    def store(at: int) -> Any:
        lane = CurlLane(LaneSettings(most_connections=4, stall_seconds=5, connect_seconds=5))
        sender = LaneThread(lane, name="parts", most=4, abandon=threading.Event())
        sender.begin()
        try:
            key = f"C1/{tmp_path.name}/{at}.wav"
            return destination.store(FileContent(file), key, GO_ON, sender=sender)
        finally:
            sender.close()

    whole = hashlib.sha256(file.read_bytes()).digest()
    outcomes = list(each_request_once(trick, pick, store))
    for at, outcome in outcomes:
        if isinstance(outcome, Stored | AlreadyStored):
            held = moto.read(outcome.receipt.object_key)
            assert hashlib.sha256(held).digest() == whole, at
    assert isinstance(outcomes[-1][1], Stored | AlreadyStored), "without nonsense it is stored"


# --- answers without end ------------------------------------------------------------------


class Endless:
    """A server whose answers begin well and never end; it says how much it could send."""

    def __init__(self, head: bytes, more: bytes) -> None:
        self._head, self._more = head, more
        self.sent_bytes = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the end of the test
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # broken off: what is hoped for
            connection.recv(1 << 20)
            connection.sendall(self._head)
            while True:
                connection.sendall(self._more)
                self.sent_bytes += len(self._more)

    def settings(self) -> S3Settings:
        return S3Settings(
            bucket_name=BUCKET,
            endpoint_url=self.endpoint_url,
            access_key_id="LOCALTESTKEY",
            secret_access_key="nothing",
            aws_region="us-east-1",
            read_timeout_seconds=20,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


BODY = b'HTTP/1.1 200 OK\r\nETag: "x"\r\n\r\n'
HEADERS = b"HTTP/1.1 200 OK\r\n"
MOST_SENT_BYTES = 200 * MIB
"""What may be on its way, in buffers and all, when a flood is broken off. It would be more each
second."""


@pytest.mark.parametrize(
    ("head", "more"),
    [
        (BODY, b"<a>" * 100_000),
        (HEADERS, b"x-more: " + b"y" * 1000 + b"\r\n"),
        (HEADERS + b"x-long: ", b"y" * 65536),
        (HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"z" * 65536 + b"\r\n"),
    ],
    ids=["body", "headers", "one-header", "chunks"],
)
def test_an_answer_that_never_ends_is_broken_off(head, more):
    with Endless(head, more) as server:
        destination = S3Destination(server.settings())
        with pytest.raises(FailureError) as listed:
            destination.list_page("C1", None)
        with pytest.raises(FailureError) as put:
            put_through_a_lane(server.settings())
        assert server.sent_bytes < MOST_SENT_BYTES
    assert {listed.value.failure.scope, put.value.failure.scope} == {FailureScope.DESTINATION}


def put_through_a_lane(settings):
    """Put some bytes as the engine's lanes do, and raise what became of it."""
    wire = Wire(settings)
    lane = CurlLane(LaneSettings(most_connections=1))
    try:
        lane.start(0, wire.request("PUT", "C1/1.wav", {}, body=io.BytesIO(b"sound"), size_bytes=5))
        while not (answers := lane.step(1.0)):
            pass
        wire.raise_trouble(answers[0][1], "storing C1/1.wav")
    finally:
        lane.close()
