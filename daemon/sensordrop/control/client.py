"""Asks the daemon over its control socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from sensordrop.control.address import connect
from sensordrop.control.refusal import Reason, RefusedError
from sensordrop.control.routes import BEHALF, BY_NAME, Place
from sensordrop.control.told import Told

ANSWER_SECONDS = 120.0
"""How long an operation may take, its turn at the ledger included."""
HELLO_SECONDS = 5.0
"""How long a living daemon may take to say who it is; that takes no ledger."""
BUSY_TRIES = 5
BUSY_SECONDS = 0.5
"""How often and after what wait it is tried again where the daemon has too much to do."""


class NoDaemonError(Exception):
    """Nobody answers at the socket."""


class SocketRefusedError(Exception):
    """This user may not connect to the socket."""


class ControlClient:
    """Asks one daemon; each question is a connection of its own. Blocks. One thread at a time."""

    def __init__(self, path: Path, *, behalf: str = "") -> None:
        """`behalf`: for whom root asks, as sudo knows it."""
        self._path = path
        self._behalf = behalf

    def hello(self) -> Told:
        """See that a daemon is alive, and hear which. Raises like `ask`."""
        return self._patiently("about", {}, HELLO_SECONDS)

    def ask(self, operation: str, **given: object) -> Told:
        """Have an operation done, by its name; what is None is not given.

        Raises RefusedError, NoDaemonError and SocketRefusedError.
        """
        return self._patiently(operation, given, ANSWER_SECONDS)

    def _patiently(self, operation: str, given: Mapping[str, object], seconds: float) -> Told:
        wait = BUSY_SECONDS
        for left in range(BUSY_TRIES - 1, -1, -1):
            try:
                return self._ask(operation, given, seconds)
            except RefusedError as error:
                if error.reason is not Reason.BUSY or not left:
                    raise
            time.sleep(wait)
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def _ask(self, operation: str, given: Mapping[str, object], seconds: float) -> Told:
        method, target, body = request_of(operation, given)
        connection = _Connection(self._path, seconds)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._behalf:
            headers[BEHALF] = self._behalf.encode("ascii", "backslashreplace").decode()
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            return _told(answer.status, answer.read())
        except PermissionError as error:
            raise SocketRefusedError(
                f"the control socket {self._path} is not for this user: that takes root, the "
                "daemon's own user, or a member of its control_group (usermod -aG, then log in "
                "anew)"
            ) from error
        except TimeoutError as error:
            raise NoDaemonError(
                f"sensordropd did not answer at {self._path} within {seconds:.0f} seconds: see "
                "its log, or restart it"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise NoDaemonError(f"no sensordropd answers at {self._path}: {why}") from error
        finally:
            connection.close()


def request_of(operation: str, given: Mapping[str, object]) -> tuple[str, str, bytes | None]:
    """Write the request of an operation: method, target, body. Pure."""
    route = BY_NAME[operation]
    values = {name: value for name, value in given.items() if value is not None}
    target, query = route.path, {}
    for parameter in route.parameters:
        if parameter.name not in values:
            continue
        place = route.place_of(parameter)
        if place is Place.PATH:
            text = quote(str(values.pop(parameter.name)), safe="")
            target = target.replace(f"{{{parameter.name}}}", text)
        elif place is Place.QUERY:
            query[parameter.name] = str(values.pop(parameter.name))
    if query:
        target += "?" + urlencode(query)
    if route.method == "GET":
        return route.method, target, None
    return route.method, target, json.dumps(values).encode()


def _told(status: int, raw: bytes) -> Told:
    try:
        told = json.loads(raw)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise http.client.HTTPException("what answers there is not sensordropd")
    if status == 200:
        return told
    refused: Any = told.get("error")
    try:
        reason, message = Reason(refused["reason"]), str(refused["message"])
    except (TypeError, KeyError, ValueError):
        raise http.client.HTTPException("what answers there is not sensordropd") from None
    raise RefusedError(reason, message)


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        assert isinstance(self.timeout, float)
        self.sock: socket.socket = connect(self._path, timeout_seconds=self.timeout)
