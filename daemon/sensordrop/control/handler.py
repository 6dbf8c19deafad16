"""Reads one request at the control socket, has it done, and writes the answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import structlog

from sensordrop.control.openapi import description
from sensordrop.control.refusal import STATUS, Reason, RefusedError
from sensordrop.control.routes import BEHALF, OPENAPI, find_route, methods_of
from sensordrop.control.service import Operations
from sensordrop.control.visits import ASK_SECONDS, Visit
from sensordrop.core.failure import LedgerRefusedError, LedgerUnavailableError
from sensordrop.core.principal import Principal, Rank
from sensordrop.core.terminal import printable

LARGEST_BODY = 1024 * 1024
"""Bytes of a request: a thousand paths, and nothing that fills a memory."""
LENGTH_DIGITS = 20
"""Of a length that is looked at: Python reads no number of thousands of digits."""
LARGEST_QUERY = 100
"""Values after the ? of an address."""
LONGEST_BEHALF = 100
"""Characters of a name that root says it asks for."""

_log = structlog.get_logger()


class Desk(Protocol):
    """What a request needs of the server."""

    operations: Operations

    def principal(self, connection: socket.socket, behalf: str) -> Principal:
        """Say who is at the other end. Raises OSError."""
        ...

    def turn(self, rank: Rank) -> AbstractContextManager[None]:
        """Wait for a turn at the ledger and hold it. Raises RefusedError."""
        ...


def refusal_told(reason: Reason, message: str) -> dict[str, Any]:
    """Tell why something was not done, in the form of all refusals."""
    return {"error": {"reason": reason.value, "message": message}}


class Handler(BaseHTTPRequestHandler):
    """Answers one request and ends the connection."""

    protocol_version = "HTTP/1.1"
    timeout = ASK_SECONDS
    server_version = "sensordropd"
    sys_version = ""
    server: Any

    def __init__(self, visit: Visit, desk: Desk) -> None:
        self._desk = desk
        self._visit = visit
        self.close_connection = True
        who = (str(visit.user_id), 0)
        super().__init__(visit.connection, who, None)  # type: ignore[arg-type]  # no server behind

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer()

    def do_POST(self) -> None:
        """Do something."""
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — it is named so
        """Say nothing of requests: what they change is told by whoever takes it up."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what http.server itself can't read, in the form of all other refusals."""
        del explain
        words = message or HTTPStatus(code).phrase
        self._send(code, refusal_told(Reason.USAGE, printable(words)))

    def _answer(self) -> None:
        try:
            status, told = self._told()
        except RefusedError as error:
            status, told = STATUS[error.reason], refusal_told(error.reason, str(error))
        except LedgerUnavailableError as error:
            status, told = (
                503,
                refusal_told(Reason.NO_LEDGER, f"the ledger can't be reached: {error}"),
            )
        except LedgerRefusedError as error:
            status, told = 503, refusal_told(Reason.NO_LEDGER, str(error))
        except (ConnectionError, TimeoutError):
            raise  # whoever asked is gone, or says nothing more
        except Exception:  # noqa: BLE001 — the mistake is ours, and one answer's alone
            _log.exception("bug", where="control socket", path=printable(self.path))
            words = "a mistake in sensordropd: its log says more"
            status, told = 500, refusal_told(Reason.BUG, words)
        self._send(status, told)

    def _told(self) -> tuple[int, Mapping[str, Any]]:
        try:
            address = urlsplit(self.path)
        except ValueError as error:
            raise RefusedError(Reason.USAGE, "the address can't be read") from error
        if self.command == "GET" and address.path == OPENAPI:
            return 200, description()
        found = find_route(self.command, address.path)
        if found is None:
            if methods := methods_of(address.path):
                return 405, refusal_told(
                    Reason.USAGE, f"{address.path} is asked with {' or '.join(methods)}"
                )
            return 404, refusal_told(Reason.UNKNOWN, f"there is no {address.path}: see {OPENAPI}")
        route, given = found
        values: dict[str, object] = dict(given)
        known = {each.name: each for each in route.parameters}
        if self.command == "GET":
            values |= _query(address.query)
            values = {
                name: known[name].from_text(str(text)) if name in known else text
                for name, text in values.items()
            }
        else:
            values |= self._body()
        principal = self._desk.principal(self.connection, self._behalf())
        self._visit.at_work()
        with self._desk.turn(self._visit.rank):
            return 200, route.perform(self._desk.operations, principal, values)

    def _behalf(self) -> str:
        named = self.headers.get(BEHALF, "")
        return printable(named)[:LONGEST_BEHALF]

    def _body(self) -> dict[str, object]:
        """Read the JSON object that came with a request. Raises RefusedError."""
        if self.headers.get("Transfer-Encoding") is not None:
            raise RefusedError(Reason.USAGE, "say the Content-Length: pieces are not taken")
        length = self.headers.get("Content-Length", "0")
        readable = length.isascii() and length.isdigit() and len(length) <= LENGTH_DIGITS
        if not readable or int(length) > LARGEST_BODY:
            raise RefusedError(Reason.USAGE, f"a request has at most {LARGEST_BODY} bytes")
        raw = self.rfile.read(int(length))
        if not raw:
            return {}
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise RefusedError(Reason.USAGE, "the body is not a JSON object")
        return body

    def _send(self, status: int, told: Mapping[str, Any]) -> None:
        body = json.dumps(told, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        self._visit.answering()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _query(text: str) -> dict[str, object]:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict",
            max_num_fields=LARGEST_QUERY,
        )  # fmt: skip
    except ValueError as error:
        raise RefusedError(Reason.USAGE, "the part after the ? can't be read") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        raise RefusedError(Reason.USAGE, "a value stands twice after the ?")
    return dict(values)
