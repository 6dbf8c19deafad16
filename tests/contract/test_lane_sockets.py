"""The lane's connections: kept between requests, noticed when they end, and never in the way."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Iterator

import certifi
import pytest

from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.s3.sockets import PortableSockets
from sensordrop.ports.transfer import HttpAnswer, HttpRequest

PATIENCE_SECONDS = 60.0
PLAIN = b"HTTP/1.1 200 OK\r\nETag: one\r\nContent-Length: 0\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nETag: early\r\nLink: </style>\r\n\r\n"


class Server:
    """Takes one connection after the other; `ends` says whether it hangs up after its answer."""

    def __init__(self, answer: bytes, *, ends: bool) -> None:
        self._answer, self._ends = answer, ends
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/key"
        self.connections = 0
        self.hung_up = threading.Event()
        self.head: list[str] = []
        self.body = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while first := stream.readline():
                self.head = [first.decode("latin-1")]
                size = 0
                while line := stream.readline().strip():
                    self.head.append(line.decode("latin-1"))
                    name, _, value = line.partition(b":")
                    size = int(value) if name.lower() == b"content-length" else size
                self.body = stream.read(size)
                connection.sendall(self._answer)
                if self._ends:
                    break
        self.hung_up.set()


@pytest.fixture(params=["epoll", "what other systems have"])
def lane(request, monkeypatch) -> Iterator[CurlLane]:
    if request.param != "epoll":
        monkeypatch.setattr("sensordrop.adapters.s3.curl.make_sockets", PortableSockets)
    made = CurlLane(LaneSettings(most_connections=4))
    yield made
    made.close()


def put(lane: CurlLane, server: Server, body: bytes = b"sound") -> HttpAnswer:
    request = HttpRequest(
        method="PUT",
        url=server.url,
        headers={},
        ca_file=certifi.where(),
        body=io.BytesIO(body),
        size_bytes=len(body),
    )
    lane.start(7, request)
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        for ticket, answer in lane.step(1.0):
            assert ticket == 7
            return answer
    raise AssertionError("no answer came")


def test_requests_in_a_row_go_over_one_connection(lane):
    server = Server(PLAIN, ends=False)
    try:
        for _ in range(5):
            assert put(lane, server).status == 200
        assert server.connections == 1
    finally:
        server.close()


def test_a_connection_that_ended_while_it_lay_idle_is_replaced_and_keeps_nobody_busy(lane):
    server = Server(PLAIN, ends=True)
    try:
        for round_ in range(1, 4):
            server.hung_up.clear()
            assert put(lane, server).trouble is None
            assert server.connections == round_
            assert server.hung_up.wait(PATIENCE_SECONDS)
            steps, end = 0, time.monotonic() + 0.3
            while time.monotonic() < end:
                assert lane.step(0.1) == []
                steps += 1
            assert steps < 20, "an ended connection woke the lane again and again"
    finally:
        server.close()


@pytest.mark.parametrize("size", [0, 5, 1024 * 1024, 3 * 1024 * 1024])
def test_a_body_arrives_as_it_is_and_with_no_header_that_is_not_ours(lane, size):
    server = Server(PLAIN, ends=False)
    body = os.urandom(size)
    try:
        for _ in range(2):
            assert put(lane, server, body).status == 200
            assert server.body == body
            assert server.head[0].startswith("PUT /key HTTP/1.1")
            names = {line.partition(":")[0].lower() for line in server.head[1:]}
            assert names == {"host", "user-agent", "content-length"}
    finally:
        server.close()


def test_headers_are_those_of_the_last_answer(lane):
    server = Server(INTERIM + PLAIN, ends=False)
    try:
        answer = put(lane, server)
        assert answer.status == 200
        assert answer.headers == {"etag": "one", "content-length": "0"}
    finally:
        server.close()


def test_a_lane_that_waits_is_woken_each_time(lane):
    for _ in range(3):
        wakers = [threading.Thread(target=lane.wake) for _ in range(4)]
        for waker in wakers:
            waker.start()
        for waker in wakers:
            waker.join()
        began = time.monotonic()
        lane.step(PATIENCE_SECONDS)
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
