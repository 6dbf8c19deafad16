"""The small HTTP server of the metrics: only GET, and nobody can hold it up."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_servers import free_address

from sensordrop.adapters import status_pages
from sensordrop.adapters.status_pages import MOST_CONNECTIONS, PLAIN, StatusPages

WAIT_SECONDS = 60.0


class Served:
    """The pages of a test, and how to ask for them."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))

    def ask(self, path: str = "/hello", method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=WAIT_SECONDS)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def open(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=WAIT_SECONDS)

    def wait(self) -> None:
        give_up = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < give_up:
            try:
                if self.ask()[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        raise AssertionError("no answer")


def broken() -> tuple[int, str, bytes]:
    raise ZeroDivisionError


@pytest.fixture
def served(monkeypatch) -> Iterator[Served]:
    monkeypatch.setattr(status_pages, "RETRY_SECONDS", 0.1)
    address = free_address()
    pages = {"/hello": lambda: (200, PLAIN, b"hello\n"), "/broken": broken}
    service = StatusPages(address, pages)
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    try:
        made = Served(address)
        made.wait()
        yield made
    finally:
        stop.set()
        service.wake()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


def test_a_page_is_given_and_an_unknown_one_names_those_that_are_there(served):
    assert served.ask() == (200, b"hello\n")
    assert served.ask("/hello?x=1") == (200, b"hello\n")
    assert served.ask("/secret") == (404, b"there is:\n/broken\n/hello\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_nothing_but_get_is_answered(served, method):
    assert served.ask(method=method)[0] == 501


def test_a_mistake_in_a_page_ends_that_answer_alone(served):
    with pytest.raises((http.client.HTTPException, OSError)):
        served.ask("/broken")
    assert served.ask() == (200, b"hello\n")


def put_out(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True  # before what was said was even read


def test_who_says_nothing_is_put_out_and_others_are_turned_away_meanwhile(served, monkeypatch):
    with ExitStack() as stack:
        silent = [stack.enter_context(served.open()) for _ in range(MOST_CONNECTIONS)]
        for each in silent:
            each.sendall(b"GET /hel")
        with pytest.raises((http.client.HTTPException, OSError)):
            served.ask()
        monkeypatch.setattr(status_pages, "CONNECTION_SECONDS", 0.2)
        for each in silent:
            assert put_out(each)
        served.wait()


def drip(connection: socket.socket) -> None:
    """Send a request that has no end, slowly."""
    give_up = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < give_up:
        connection.sendall(b"X")
        time.sleep(0.05)


def test_an_endless_request_is_put_out_too(served, monkeypatch):
    monkeypatch.setattr(status_pages, "CONNECTION_SECONDS", 0.5)
    with served.open() as connection, pytest.raises(OSError, match=r"(?i)pipe|reset"):
        drip(connection)
