"""The control socket: HTTP and JSON over a unix socket, with limits.

A few connections at once, a few of one user, each with one request, a few seconds to ask and a
few to listen. So nobody who is slow or hostile holds anybody up, and uploads are none the wiser.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from sensordrop.control.address import (
    FilePlace,
    NotOursToGiveError,
    controlling_group,
    leave,
    listen,
    place_of,
)
from sensordrop.control.handler import Handler, refusal_told
from sensordrop.control.peer import known_grants, nameless_peer_of, peer_of
from sensordrop.control.refusal import Reason, RefusedError
from sensordrop.control.service import Operations
from sensordrop.control.visits import ASK_SECONDS, Visit, Visits
from sensordrop.core.admission import MOST_AT_WORK, MOST_AT_WORK_FOR_ANYBODY, MOST_CONNECTIONS
from sensordrop.core.principal import Grant, KnownGrant, Principal, Rank, principal_of, rank_of
from sensordrop.ports.life import StopFlag

with suppress(ModuleNotFoundError):  # Windows has none, and no daemon of ours
    import grp

WORK_WAIT_SECONDS = 20.0
"""How long a request waits for its turn at the ledger."""
TURN_SECONDS = 0.25
LOOK_SECONDS = 2.0
"""How often it is seen whether the socket's name still leads here: one system call."""
RETRY_SECONDS = 30.0
"""How often a socket that could not be had is tried again."""
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
        grants: Callable[[], Sequence[Grant]] = tuple,
        close_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """`grants` gives what the configuration in force lets users and groups do; `close_thread`
        is called at the end of each thread that asked the ledger.
        """
        self._settings = settings
        self._desk = _Desk(operations, grants, close_thread)
        self._woken = threading.Event()

    def run(self, stop: StopFlag) -> None:
        """Answer until `stop` is set."""
        told = False
        while not stop.is_set():
            try:
                listening, place, group = self._listen()
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
                self._desk.visits.end_the_slow()
                continue
            told = False
            self._desk.group = group
            self._desk.look_up()
            self._serve(listening, place, stop)
        self._desk.visits.end_all()

    def wake(self) -> None:
        """Make it look at `stop`. Safe from every thread."""
        self._woken.set()

    def _listen(self) -> tuple[socket.socket, FilePlace, int | None]:
        group, problem = controlling_group(self._settings.group)
        try:
            listening, place = self._take(group)
        except NotOursToGiveError as error:
            problem, group = str(error), None
            listening, place = self._take(group)
        if problem is not None:
            _log.warning("control_group_missing", problem=problem,
                         hint="until the daemon is started anew only root and its own user may "
                         "control it: make the group, and let it be a group of the daemon's user; "
                         "under systemd it must be the Group= of the service")  # fmt: skip
        _log.info("control_served", socket=str(self._settings.path),
                  group=None if group is None else _group_name(group))  # fmt: skip
        return listening, place, group

    def _take(self, group: int | None) -> tuple[socket.socket, FilePlace]:
        mode = self._settings.mode
        if group is None and not mode & OTHERS:
            mode &= OWNER  # whoever is in the daemon's own group by chance has no say
        return listen(self._settings.path, mode=mode, group=group, backlog=MOST_CONNECTIONS)

    def _serve(self, listening: socket.socket, place: FilePlace, stop: StopFlag) -> None:
        """Take connections until `stop` is set, or the socket's name leads elsewhere."""
        look_at = 0.0
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
                    self._desk.take(connection)
                self._desk.visits.end_the_slow()
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + LOOK_SECONDS
                    if place_of(self._settings.path) != place:
                        _log.warning("control_socket_gone", socket=str(self._settings.path),
                                     hint="somebody removed or replaced it; it is made anew where "
                                     "its name is free")  # fmt: skip
                        return
            leave(self._settings.path, place)


class _Desk:
    """Takes connections, each in a thread of its own, and turns away what is too much."""

    def __init__(
        self,
        operations: Operations,
        grants: Callable[[], Sequence[Grant]],
        close_thread: Callable[[], None],
    ) -> None:
        self.operations = operations
        self.visits = Visits()
        self.group: int | None = None
        """Whose members control; set before the first connection is taken."""
        self._turns = threading.BoundedSemaphore(MOST_AT_WORK)
        self._turns_of_anybody = threading.BoundedSemaphore(MOST_AT_WORK_FOR_ANYBODY)
        self._grants = grants
        self._close_thread = close_thread
        self._host = socket.gethostname()
        self._unknown: list[str] = []

    def take(self, connection: socket.socket) -> None:
        """Answer a connection in a thread of its own."""
        try:
            connection.settimeout(ASK_SECONDS)
            peer = nameless_peer_of(connection)
        except OSError:  # it went away just now
            connection.close()
            return
        rank = rank_of(peer, own_user_id=os.geteuid(), group=self.group)
        visit = Visit(connection, user_id=peer.user_id, rank=rank)
        if not self.visits.admit(visit):
            _turn_away(connection)
            return
        thread = threading.Thread(
            target=self._answer, args=(visit,), name="control-visit", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads for us
            self.visits.leave(visit)
            _turn_away(connection)

    def principal(self, connection: socket.socket, behalf: str) -> Principal:
        """Say who is at the other end. Raises OSError."""
        peer = peer_of(connection, behalf=behalf)
        known, unknown = self.look_up()
        return principal_of(
            peer,
            host=self._host,
            own_user_id=os.geteuid(),
            # A limit that can't be laid on anybody must not leave somebody without one.
            group=None if unknown else self.group,
            grants=known,
            named_only=bool(known or unknown),
        )

    def look_up(self) -> tuple[list[KnownGrant], list[str]]:
        """Look up the users and groups that are named; tell once of those that this machine does
        not know, and give them too.
        """
        known, unknown = known_grants(self._grants())
        news, self._unknown = unknown != self._unknown, unknown
        if unknown and news:
            _log.warning("control_principal_unknown", problem="this machine knows no "
                         + ", no ".join(unknown),
                         hint="until it does only root, the daemon's own user and others who are "
                         "named may do anything: correct control_principals and reload, or make "
                         "the account")  # fmt: skip
        return known, unknown

    @contextmanager
    def turn(self, rank: Rank) -> Iterator[None]:
        """Wait for a turn at the ledger and hold it. Raises RefusedError."""
        give_up = time.monotonic() + WORK_WAIT_SECONDS
        gates = [self._turns]
        if rank is Rank.ANYBODY:
            gates.insert(0, self._turns_of_anybody)
        with ExitStack() as held:
            for gate in gates:
                if not gate.acquire(timeout=max(0.0, give_up - time.monotonic())):
                    raise RefusedError(Reason.BUSY, "the ledger has too much to answer: try again")
                held.callback(gate.release)
            yield

    def _answer(self, visit: Visit) -> None:
        try:
            Handler(visit, self)
        except OSError:
            _log.debug("control_broken_off", user_id=visit.user_id)
        except Exception:  # noqa: BLE001 — a mistake in one answer must not end the others
            _log.exception("bug", where="control socket")
        finally:
            self._close_thread()
            self.visits.leave(visit)
            visit.connection.close()


def _turn_away(connection: socket.socket) -> None:
    """Say that it is too much just now, if that goes without waiting, and hang up."""
    body = json.dumps(
        refusal_told(Reason.BUSY, "too many ask at once: try again in a moment")
    ).encode()
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


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
