"""What the tests of the S3 destination share: both engines, their settings, what they store."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from s3_servers import (
    SECRET_KEY,
    FileContent,
)

from sensordrop.adapters.s3 import S3Destination
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.core.check import first_failure
from sensordrop.core.failure import (
    Failure,
    FailureError,
    InterruptedAttemptError,
)
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.engine.lane_thread import LaneThread
from sensordrop.ports.transfer import HttpAnswer, QuickSteps

MIB = 1024 * 1024
GO_ON = threading.Event()
"""A stop flag that nobody sets."""
KEY = "C1/950349/20250909_092000.WAV"


class QuickFirst(S3Destination):
    """The quick way, and the slow one through a lane for what it leaves: as the engine does it."""

    def store(
        self, content: Any, object_key: str, stop: Any, **means: Any
    ) -> Stored | AlreadyStored:
        if stop.is_set():
            raise InterruptedAttemptError
        stored = self._drive(self.quick(content, object_key))
        if stored is not None:
            return stored
        with sender() as through:
            return super().store(content, object_key, stop, sender=through, **means)

    def _drive(self, steps: QuickSteps | None) -> Stored | None:
        if steps is None:
            return None
        lane = CurlLane(LaneSettings(most_connections=1, stall_seconds=2, connect_seconds=2))
        try:
            request = next(steps)
            while True:
                lane.start(0, request)
                request = steps.send(answer_of(lane))
        except StopIteration as end:
            return end.value
        finally:
            lane.close()


def answer_of(lane: CurlLane) -> HttpAnswer:
    while not (answers := lane.step(1)):
        pass
    return answers[0][1]


@contextmanager
def sender() -> Iterator[LaneThread]:
    lane = CurlLane(LaneSettings(most_connections=4, stall_seconds=2, connect_seconds=2))
    thread = LaneThread(lane, name="parts", most=4, abandon=threading.Event())
    thread.begin()
    try:
        yield thread
    finally:
        thread.close()


@pytest.fixture(autouse=True)
def nothing_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def content(tmp_path: Path, data: bytes, name: str = "recording") -> FileContent:
    path = tmp_path / name
    path.write_bytes(data)
    return FileContent(path)


def failure_of(destination: S3Destination, what: Any, key: str = KEY) -> Failure:
    with pytest.raises(FailureError) as raised:
        destination.store(what, key, GO_ON)
    failure = raised.value.failure
    assert failure.hint, "an operator is always told what to do"
    assert SECRET_KEY not in "".join(traceback.format_exception(raised.value))
    return failure


def trouble_found(destination: S3Destination) -> Failure:
    """Give what a preflight found wrong."""
    failure = first_failure(destination.preflight("C1"))
    assert failure is not None
    return failure
