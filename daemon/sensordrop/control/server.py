"""The control socket: HTTP and JSON over a unix socket, with limits.

A few connections at once, a few of one user, each with one request, a few seconds to ask and a
few to listen. So nobody who is slow or hostile holds anybody up, and uploads are none the wiser.
"""

from __future__ import annotations

import grp
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import structlog

from sensordrop.control.address import (
    NotOursToGiveError,
    controlling_group,
    leave,
    listen,
)
from sensordrop.control.openapi import description
from sensordrop.control.peer import peer_of
from sensordrop.control.refusal import STATUS, Reason, RefusedError
from sensordrop.control.routes import BEHALF, OPENAPI, find_route, methods_of
from sensordrop.control.service import Operations
from sensordrop.core.failure import LedgerRefusedError, LedgerUnavailableError
from sensordrop.core.principal import Principal, principal_of
from sensordrop.core.terminal import printable
from sensordrop.ports.life import StopFlag

MOST_CONNECTIONS = 32
"""Open at once; more are turned away with `busy`, and the client tries again."""
MOST_OF_A_USER = 16
"""Of them of one user, so that none keeps the others out."""
MOST_AT_WORK = 4
"""Operations at work on the ledger at once: each takes one of its connections, as uploads do."""
WORK_WAIT_SECONDS = 20.0
"""How long a request waits for its turn at the ledger."""
ASK_SECONDS = 10.0
"""How long somebody may take to say what they want, and how long to take the answer."""
LARGEST_BODY = 1024 * 1024
"""Bytes of a request: a thousand paths, and nothing that fills a memory."""
LENGTH_DIGITS = 20
"""Of a length that is looked at: Python reads no number of thousands of digits."""
LARGEST_QUERY = 100
"""Values after the ? of an address."""
TURN_SECONDS = 0.25
RETRY_SECONDS = 30.0
"""How often a socket that could not be had is tried again."""
LONGEST_BEHALF = 100
OWNER, OTHERS = 0o700, 0o007

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class SocketSettings:
    """Where the socket is, and whom it is for."""

    path: Path
    mode: int
    group: str | None


class ControlServer:
    """A service: `run` returns when `stop` is set.

    A socket that can't be had is told once and tried again: uploads don't depend on it.
    """

    def __init__(
        self,
        settings: SocketSettings,
        operations: Operations,
        *,
        close_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """`close_thread` is called at the end of each thread that asked the ledger."""
        self._settings = settings
        self._operations = operations
        self._close_thread = close_thread
        self._woken = threading.Event()

    def run(self, stop: StopFlag) -> None:
        """Answer until `stop` is set."""
        told = False
        while not stop.is_set():
            try:
                listening, group = self._listen()
            except OSError as error:
                if not told:
                    told = True
                    _log.warning("control_not_served", socket=str(self._settings.path),
                                 problem=error.strerror or str(error),
                                 hint="uploads go on, and verbs work on the ledger itself; see "
                                 "that the folder is writable for the daemon's user and nobody "
                                 "else listens there, or set control_socket")  # fmt: skip
                self._woken.wait(RETRY_SECONDS)
                self._woken.clear()
                continue
            told = False
            self._serve(listening, group, stop)

    def wake(self) -> None:
        """Make it look at `stop`. Safe from every thread."""
        self._woken.set()

    def _listen(self) -> tuple[socket.socket, int | None]:
        group, problem = controlling_group(self._settings.group)
        try:
            listening = self._take(group)
        except NotOursToGiveError as error:
            problem, group = str(error), None
            listening = self._take(group)
        if problem is not None:
            _log.warning("control_group_missing", problem=problem,
                         hint="until the daemon is started anew only root and its own user may "
                         "control it: make the group, and let it be a group of the daemon's user; "
                         "under systemd it must be the Group= of the service")  # fmt: skip
        _log.info("control_served", socket=str(self._settings.path),
                  group=None if group is None else _group_name(group))  # fmt: skip
        return listening, group

    def _take(self, group: int | None) -> socket.socket:
        mode = self._settings.mode
        if group is None and not mode & OTHERS:
            mode &= OWNER  # whoever is in the daemon's own group by chance has no say
        return listen(self._settings.path, mode=mode, group=group, backlog=MOST_CONNECTIONS)

    def _serve(self, listening: socket.socket, group: int | None, stop: StopFlag) -> None:
        desk = _Desk(self._operations, group, self._close_thread)
        inode = self._settings.path.lstat().st_ino
        listening.settimeout(TURN_SECONDS)
        with closing(listening):
            while not stop.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    pass
                except OSError as error:  # too many open files: whoever knocks waits for a turn
                    _log.warning("control_turned_away", problem=error.strerror or str(error),
                                 hint="raise LimitNOFILE of the service")  # fmt: skip
                    time.sleep(TURN_SECONDS)
                else:
                    desk.take(connection)
                desk.end_the_slow()
            leave(self._settings.path, inode)
        desk.end_all()


class _Visit:
    """One connection, from its first byte to its last."""

    def __init__(self, connection: socket.socket, principal: Principal, user_id: int) -> None:
        self.connection = connection
        self.principal = principal
        self.user_id = user_id
        self.ends_at = time.monotonic() + ASK_SECONDS

    def at_work(self) -> None:
        """Its operation runs: for how long is the ledger's business."""
        self.ends_at = float("inf")

    def answering(self) -> None:
        """It is given its answer."""
        self.ends_at = time.monotonic() + ASK_SECONDS

    def end(self) -> None:
        """Break it off, whatever it does."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it ended by itself just now


class _Desk:
    """Takes connections, each in a thread of its own, and turns away what is too much."""

    def __init__(
        self, operations: Operations, group: int | None, close_thread: Callable[[], None]
    ) -> None:
        self.operations = operations
        self.turns = threading.BoundedSemaphore(MOST_AT_WORK)
        self._group = group
        self._close_thread = close_thread
        self._host = socket.gethostname()
        self._lock = threading.Lock()
        self._visits: set[_Visit] = set()

    def take(self, connection: socket.socket) -> None:
        """Answer a connection in a thread of its own."""
        try:
            connection.settimeout(ASK_SECONDS)
            peer = peer_of(connection)
        except OSError:  # it went away just now
            connection.close()
            return
        visit = _Visit(connection, self.principal(connection), peer.user_id)
        with self._lock:
            users = Counter(each.user_id for each in self._visits)
            full = len(self._visits) >= MOST_CONNECTIONS or users[peer.user_id] >= MOST_OF_A_USER
            if not full:
                self._visits.add(visit)
        if full:
            _turn_away(connection)
            return
        thread = threading.Thread(
            target=self._answer, args=(visit,), name="control-visit", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads for us
            with self._lock:
                self._visits.discard(visit)
            _turn_away(connection)

    def principal(self, connection: socket.socket, behalf: str = "") -> Principal:
        """Say who is at the other end."""
        peer = peer_of(connection, behalf=behalf)
        return principal_of(peer, host=self._host, own_user_id=os.geteuid(), group=self._group)

    def end_the_slow(self) -> None:
        """End visits that take too long to ask, or to listen."""
        now = time.monotonic()
        with self._lock:
            slow = [visit for visit in self._visits if visit.ends_at < now]
        for visit in slow:
            visit.end()

    def end_all(self) -> None:
        """End all visits. What is at work on the ledger ends by itself."""
        with self._lock:
            visits = list(self._visits)
        for visit in visits:
            visit.end()

    def _answer(self, visit: _Visit) -> None:
        try:
            _Handler(visit.connection, visit.principal.name, self, visit)
        except OSError:
            _log.debug("control_broken_off", by=visit.principal.name)
        except Exception:  # noqa: BLE001 — a mistake in one answer must not end the others
            _log.exception("bug", where="control socket")
        finally:
            self._close_thread()
            with self._lock:
                self._visits.discard(visit)
            visit.connection.close()


def _turn_away(connection: socket.socket) -> None:
    """Say that it is too much just now, if that goes without waiting, and hang up."""
    body = json.dumps(_refusal(Reason.BUSY, "too many ask at once: try again in a moment")).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    try:
        connection.setblocking(False)
        connection.send(head.encode() + body)
    except OSError:
        pass  # it is gone, or does not listen
    finally:
        connection.close()


def _refusal(reason: Reason, message: str) -> dict[str, Any]:
    return {"error": {"reason": reason.value, "message": message}}


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request and ends the connection."""

    protocol_version = "HTTP/1.1"
    timeout = ASK_SECONDS
    server_version = "sensordropd"
    sys_version = ""
    server: Any

    def __init__(self, connection: socket.socket, name: str, desk: _Desk, visit: _Visit) -> None:
        self._desk = desk
        self._visit = visit
        self.close_connection = True
        super().__init__(connection, (name, 0), None)  # type: ignore[arg-type]  # no server behind

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
        self._send(code, _refusal(Reason.USAGE, printable(words)))

    def _answer(self) -> None:
        try:
            status, told = self._told()
        except RefusedError as error:
            status, told = STATUS[error.reason], _refusal(error.reason, str(error))
        except LedgerUnavailableError as error:
            status, told = 503, _refusal(Reason.NO_LEDGER, f"the ledger can't be reached: {error}")
        except LedgerRefusedError as error:
            status, told = 503, _refusal(Reason.NO_LEDGER, str(error))
        except (ConnectionError, TimeoutError):
            raise  # whoever asked is gone, or says nothing more
        except Exception:  # noqa: BLE001 — the mistake is ours, and one answer's alone
            _log.exception("bug", where="control socket", path=printable(self.path))
            words = "a mistake in sensordropd: its log says more"
            status, told = 500, _refusal(Reason.BUG, words)
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
                return 405, _refusal(
                    Reason.USAGE, f"{address.path} is asked with {' or '.join(methods)}"
                )
            return 404, _refusal(Reason.UNKNOWN, f"there is no {address.path}: see {OPENAPI}")
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
        if not self._desk.turns.acquire(timeout=WORK_WAIT_SECONDS):
            raise RefusedError(Reason.BUSY, "the ledger has too much to answer: try again")
        try:
            return 200, route.perform(self._desk.operations, principal, values)
        finally:
            self._desk.turns.release()

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
