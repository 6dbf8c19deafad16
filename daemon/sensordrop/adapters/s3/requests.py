"""Counts the requests that are made to stores: by operation and answer, how long, how many bytes.

Operations have the names of Amazon's S3 API. The answer is the HTTP status, or `NO_ANSWER`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from sensordrop.core.tally import REQUEST_BOUNDS_SECONDS, Distribution

NO_ANSWER = "no answer"
"""The code of a request that no whole answer came to: refused, reset, timed out."""

_BEGAN = "sensordrop_began"


class RequestTally:
    """Implements `ports.CountRequest`. Safe from every thread; reading waits for nobody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}
        self._seconds: dict[str, Distribution] = {}
        self._sent_bytes = 0

    def __call__(self, operation: str, status: int, seconds: float, sent_bytes: int) -> None:
        """Count a request that has ended; status 0 means that no whole answer came."""
        key = (operation, str(status) if status else NO_ANSWER)
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1
            taken = self._seconds.get(operation)
            if taken is None:
                taken = self._seconds[operation] = Distribution(REQUEST_BOUNDS_SECONDS)
            taken.add(seconds)
            self._sent_bytes += sent_bytes

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Give how many requests there were, by operation and answer."""
        return dict(self._counts)  # one step of the interpreter: needs no lock

    def seconds(self) -> Mapping[str, Distribution]:
        """Give how long the requests of each operation took."""
        return dict(self._seconds)

    def sent_bytes(self) -> int:
        """Give the bytes of all bodies that were sent and answered."""
        return self._sent_bytes

    def listen_to(self, client: Any) -> None:
        """Count what a boto3 client asks for."""
        client.meta.events.register("before-call.s3", _begin)
        client.meta.events.register("after-call.s3", self._answered)
        client.meta.events.register("after-call-error.s3", self._unanswered)

    def _answered(self, http_response: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        self(str(model.name), int(http_response.status_code), _took(context), 0)

    def _unanswered(self, event_name: str, context: dict[str, Any], **_: Any) -> None:
        self(event_name.rpartition(".")[2], 0, _took(context), 0)


def _begin(context: dict[str, Any], **_: Any) -> None:
    context[_BEGAN] = time.monotonic()


def _took(context: dict[str, Any]) -> float:
    now = time.monotonic()
    return now - float(context.get(_BEGAN, now))
