"""Limits and stalls where the bytes go: on sockets, with both engines."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import certifi
import pytest
from s3_servers import BUCKET, FileContent, S3Server, running

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.s3 import S3Destination, S3Settings
from sensordrop.adapters.s3.body import Piece, PieceBody
from sensordrop.adapters.s3.bucket import Bucket
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.s3.options import options_for
from sensordrop.composition.deliveries import ConfiguredThrottle
from sensordrop.config import DaemonConfig, DeliveryConfig
from sensordrop.core.failure import FailureError, FailureScope, InterruptedAttemptError
from sensordrop.core.lifecycle import Stored
from sensordrop.engine.throttle import Throttles
from sensordrop.ports.transfer import HttpAnswer, HttpRequest, Throttle

KIB = 1024
MIB = 1024 * KIB
GO_ON = threading.Event()
"""A stop flag that nobody sets."""
PATIENCE_SECONDS = 60.0


class Sink:
    """A server that takes requests, notes when which bytes came, and answers 200."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self.received: dict[str, int] = {}
        threading.Thread(target=self._accept, daemon=True).start()

    def total(self) -> int:
        with self._lock:
            return sum(self.received.values())

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while request := stream.readline():
                headers = {}
                while (line := stream.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    headers[name.lower()] = value.strip()
                left = int(headers.get(b"content-length", b"0"))
                path = request.split()[1].decode()
                while left:
                    block = stream.read1(min(left, 65536))
                    if not block:
                        return
                    left -= len(block)
                    with self._lock:
                        self.received[path] = self.received.get(path, 0) + len(block)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def lane() -> Iterator[CurlLane]:
    made = CurlLane(LaneSettings(most_connections=32, stall_seconds=2, connect_seconds=5))
    yield made
    made.close()


@pytest.fixture
def throttles() -> Throttles:
    return Throttles(SystemClock())


def put(url: str, size: int, throttle: Throttle | None = None, **more: object) -> HttpRequest:
    return HttpRequest(
        method="PUT",
        url=url,
        headers={},
        ca_file=certifi.where(),
        body=io.BytesIO(bytes(size)),
        size_bytes=size,
        throttle=throttle,
        **more,  # type: ignore[arg-type]
    )


def drive(lane: CurlLane, until: Callable[[], object]) -> list[tuple[int, HttpAnswer]]:
    """Let the lane work until something holds; give the answers that came."""
    answers: list[tuple[int, HttpAnswer]] = []
    end = time.monotonic() + PATIENCE_SECONDS
    while not until():
        assert time.monotonic() < end, "waited in vain"
        answers += lane.step(0.05)
    return answers


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


# --- the lane -----------------------------------------------------------------------------


def test_the_average_over_ten_seconds_is_the_limit(lane, sink, throttles):
    rate = 2 * MIB
    throttles.set_rates(rate, {})
    throttle = throttles.of("north")
    for n in range(8):
        lane.start(n, put(f"{sink.url}/{n}", 40 * MIB, throttle))
    began = time.monotonic()
    drive(lane, after(10.0))
    sent, seconds = sink.total(), time.monotonic() - began
    assert sent / seconds <= rate * 1.05 + MIB / seconds
    assert sent / seconds >= rate * 0.8, "a busy machine may lose some, not much"
    shares = [sink.received.get(f"/{n}", 0) for n in range(8)]
    assert min(shares) >= 0.5 * max(shares), "all get the same"


def test_a_transfer_that_waits_for_its_limit_has_not_stalled(lane, sink, throttles):
    throttles.set_rates(8 * KIB, {})
    throttle = throttles.of("north")
    for n in range(12):  # one KiB for each every 1.5 seconds; the lane's stall is 2
        lane.start(n, put(f"{sink.url}/{n}", 4 * KIB, throttle))
    answers = drive(lane, lambda: not len(lane))
    assert [answer.status for _, answer in answers] == [200] * 12
    began = time.monotonic()
    throttles.set_rates(1 * KIB, {})
    for n in range(2, 6):  # several seconds between two of a transfer's helpings
        lane.start(n, put(f"{sink.url}/slow{n}", 2 * KIB, throttle))
    answers = drive(lane, lambda: not len(lane))
    assert {answer.status for _, answer in answers} == {200}
    assert time.monotonic() - began > 4.0, "it did wait"


def test_a_new_limit_holds_for_running_transfers_within_a_second(lane, sink, throttles):
    throttles.set_rates(MIB, {})
    throttle = throttles.of("north")
    lane.start(0, put(f"{sink.url}/0", 400 * MIB, throttle))
    drive(lane, lambda: sink.total() > 0)
    throttles.set_rates(64 * KIB, {})
    drive(lane, after(1.0))
    before = sink.total()
    drive(lane, after(3.0))
    assert sink.total() - before <= 64 * KIB * 3 * 1.5 + 64 * KIB
    throttles.set_rates(None, {})
    answers = drive(lane, lambda: not len(lane))
    assert [answer.status for _, answer in answers] == [200]


def test_a_limit_reaches_transfers_that_were_begun_without_one(lane, sink, throttles):
    throttle = throttles.of("north")
    lane.start(0, put(f"{sink.url}/0", 1, throttle))
    drive(lane, lambda: not len(lane))
    slow = _Slow(bytes(200 * MIB))
    request = put(f"{sink.url}/1", 200 * MIB, throttle)
    lane.start(1, HttpRequest(**{**_fields(request), "body": slow}))
    drive(lane, lambda: sink.total() > MIB)
    throttles.set_rates(None, {"north": 64 * KIB})
    drive(lane, after(1.0))
    before = sink.total()
    drive(lane, after(3.0))
    assert sink.total() - before <= 64 * KIB * 3 * 1.5 + 64 * KIB
    slow.seconds = 0.0
    throttles.set_rates(None, {})
    answers = drive(lane, lambda: not len(lane))
    assert [answer.status for _, answer in answers] == [200]


class _Slow(io.BytesIO):
    """A body that gives little at a time, as a slow disk would."""

    seconds = 0.02

    def read(self, amount: int | None = -1) -> bytes:
        time.sleep(self.seconds)
        return super().read(amount if self.seconds == 0 else min(amount or 0, 64 * KIB))


def _fields(request: HttpRequest) -> dict[str, object]:
    return {name: getattr(request, name) for name in HttpRequest.__dataclass_fields__}


def test_a_limit_that_is_not_there_puts_nothing_in_the_way(lane, sink):
    asked = []

    class Watched:
        limited = False

        def turn(self):
            asked.append(True)

    for n in range(20):
        lane.start(n, put(f"{sink.url}/{n}", 100 * KIB, Watched()))
    answers = drive(lane, lambda: not len(lane))
    assert [answer.status for _, answer in answers] == [200] * 20
    assert asked == []


def test_abandoned_transfers_give_back_their_place(lane, sink, throttles):
    throttles.set_rates(KIB, {})
    throttle = throttles.of("north")
    for n in range(5):
        lane.start(n, put(f"{sink.url}/{n}", MIB, throttle))
    drive(lane, after(0.5))
    assert sorted(lane.abandon()) == [0, 1, 2, 3, 4]
    lane.start(9, put(f"{sink.url}/9", 100, throttle))
    assert [answer.status for _, answer in drive(lane, lambda: not len(lane))] == [200]


# --- stalls -------------------------------------------------------------------------------


@contextmanager
def silent_server(*, reads: bool, looks: bool = False) -> Iterator[str]:
    """A server that takes connections and never answers; without `reads` it takes no byte.

    With `looks` it does answer HEAD, that there is nothing, before it falls silent.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)  # or it takes 3 MiB unread
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    open_ones: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_ones.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        while looks and connection.recv(4, socket.MSG_PEEK) == b"HEAD":
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        with suppress(OSError):
            while reads and connection.recv(65536):
                pass

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    for connection in open_ones:
        connection.close()


@pytest.mark.parametrize("reads", [True, False], ids=["takes the bytes", "takes none"])
@pytest.mark.parametrize("limited", [True, False], ids=["limited", "full speed"])
def test_a_transfer_on_which_nothing_moves_is_ended(lane, throttles, reads, limited):
    throttles.set_rates(100 * MIB if limited else None, {})
    with silent_server(reads=reads) as url:
        lane.start(7, put(f"{url}/x", 16 * MIB, throttles.of("north"), stall_seconds=1.0))
        answers = drive(lane, lambda: not len(lane))
    ((ticket, answer),) = answers
    assert ticket == 7
    assert answer.trouble is not None
    assert answer.trouble[1] == "stalled: no byte moved for 1 seconds"


def settings_at(url: str, **changes: object) -> S3Settings:
    return S3Settings(
        bucket_name=BUCKET,
        endpoint_url=url,
        access_key_id="LOCALTESTKEY",
        secret_access_key="local-test-secret",
        aws_region="us-east-1",
        connect_timeout_seconds=2.0,
        read_timeout_seconds=1.0,
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("reads", [True, False], ids=["takes the bytes", "takes none"])
@pytest.mark.parametrize("engine", ["curl", "boto3"])
@pytest.mark.parametrize("looks", [True, False], ids=["after a look", "at once"])
def test_a_silent_store_is_a_stall_of_the_destination(lane, tmp_path, engine, reads, looks):
    path = tmp_path / "recording"
    path.write_bytes(os.urandom(4 * MIB))
    content = FileContent(path)

    def store(url: str) -> None:
        destination = S3Destination(settings_at(url, engine=engine))
        if engine == "boto3":
            destination.store(content, "C1/a.wav", GO_ON)
        steps = destination.quick(content, "C1/a.wav")
        assert steps is not None
        request = next(steps)
        while True:
            lane.start(0, request)
            ((_, answer),) = drive(lane, lambda: not len(lane))
            request = steps.send(answer)

    with silent_server(reads=reads, looks=looks) as url, pytest.raises(FailureError) as raised:
        store(url)
    failure = raised.value.failure
    assert (failure.scope, failure.error_class) == (FailureScope.DESTINATION, "timeout")
    assert "the request stalled" in failure.message
    assert "stall_seconds" in failure.hint


# --- boto3 --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running("moto", tmp_path_factory.mktemp("moto")) as started:
        yield started


@pytest.mark.parametrize("size", [512 * KIB, 3 * MIB, 11 * MIB])
def test_boto3_keeps_the_limit_too(server, throttles, tmp_path, size):
    rate = size / 3
    throttles.set_rates(None, {"north": rate})
    changes = {"engine": "boto3", "multipart_threshold_bytes": 10 * MIB}
    destination = S3Destination(
        server.settings(**changes, minimum_part_bytes=5 * MIB), throttle=throttles.of("north")
    )
    path = tmp_path / "recording"
    path.write_bytes(os.urandom(size))
    content = FileContent(path)
    began = time.monotonic()
    stored = destination.store(content, f"C1/{size}.wav", GO_ON)
    assert time.monotonic() - began >= 2.5, "the bytes alone take three seconds"
    assert isinstance(stored, Stored)
    body = server.client().get_object(Bucket=BUCKET, Key=f"C1/{size}.wav")["Body"].read()
    assert hashlib.sha256(body).digest() == content.sha256


def test_boto3_transfers_share_the_limit_and_end_within_a_second_when_told(
    server, throttles, tmp_path
):
    throttles.set_rates(64 * KIB, {})
    path = tmp_path / "recording"
    path.write_bytes(os.urandom(6 * MIB))
    content = FileContent(path)
    stop = threading.Event()
    ended: list[tuple[float, type[BaseException]]] = []

    def store(n: int) -> None:
        settings = server.settings(engine="boto3", read_timeout_seconds=3.0)
        destination = S3Destination(settings, throttle=throttles.of("north"))
        try:
            destination.store(content, f"C1/interrupted{n}.wav", stop)
        except (InterruptedAttemptError, FailureError) as error:
            ended.append((time.monotonic(), type(error)))

    threads = [threading.Thread(target=store, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(6.0)  # twice the stall: whoever waits for its turn has not stalled
    assert ended == []
    stopped = time.monotonic()
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert [kind for _, kind in ended] == [InterruptedAttemptError] * 4
    assert max(at for at, _ in ended) - stopped < 30.0, "at this rate it would take minutes"


@pytest.mark.parametrize(("connect", "stall"), [(60.0, 1.0), (1.0, 4.0)])
def test_boto3_waits_as_long_as_a_stall_may_last_whatever_connecting_may(tmp_path, connect, stall):
    path = tmp_path / "recording"
    path.write_bytes(os.urandom(8 * MIB))
    content = FileContent(path)
    with silent_server(reads=False) as url:
        settings = replace(
            settings_at(url, engine="boto3"),
            connect_timeout_seconds=connect,
            read_timeout_seconds=stall,
        )
        bucket = Bucket(settings)
        piece = Piece(start=0, size_bytes=content.size_bytes, md5=b"", sha256=content.sha256)
        options = options_for(settings, "C1/a.wav", content.sha256)
        began = time.monotonic()
        with content.open() as file:
            body = PieceBody(file, piece, what="it", stop=GO_ON)
            with pytest.raises(FailureError) as raised:
                bucket.put("C1/a.wav", body, piece, options)
        seconds = time.monotonic() - began
    assert raised.value.failure.error_class == "timeout"
    assert stall * 0.75 < seconds < 45.0, "it is the stall's time, and not the connection's"


@pytest.mark.parametrize("engine", ["curl", "boto3"])
def test_what_is_read_back_falls_under_the_limit_too(server, throttles, tmp_path, engine):
    path = tmp_path / "recording"
    path.write_bytes(os.urandom(3 * MIB))
    content = FileContent(path)
    throttle = throttles.of("north")
    destination = S3Destination(server.settings(engine=engine), throttle=throttle)
    key = f"C1/back-{engine}.wav"
    destination.store(content, key, GO_ON)
    throttles.set_rates(None, {"north": MIB})
    began = time.monotonic()
    assert destination.read_back(key, GO_ON) == (content.sha256, 3 * MIB)
    assert time.monotonic() - began >= 2.0, "the bytes alone take three seconds"
    throttles.set_rates(None, {"north": 1})
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(InterruptedAttemptError):
        destination.read_back(key, stop)


class WallClock(SystemClock):
    """The system's clock, but for the time of day."""

    def __init__(self, hour: int) -> None:
        self.hour = hour

    def now(self) -> datetime:
        return datetime(2026, 6, 1, self.hour, tzinfo=UTC)


def test_a_program_of_its_own_keeps_to_the_configured_timetable(tmp_path):
    clock = WallClock(12)
    config = DeliveryConfig.model_validate(
        {"name": "north", "local_directory": str(tmp_path), "bucket_name": "birds", "s3_prefix": "C1",
         "bandwidth": "20:00-06:00 full, else 10 KiB/s UTC"}
    )  # fmt: skip
    throttle = ConfiguredThrottle(config, DaemonConfig(), clock)
    assert throttle.limited
    clock.hour = 22
    assert not throttle.limited
    station = DaemonConfig.model_validate({"bandwidth": "1 MiB/s"})
    assert ConfiguredThrottle(config, station, clock).limited
