"""Who carries a verb's question: the daemon over its socket, or the ledger itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, Protocol

import click

from sensordrop.cli.place import Place, ledger_at
from sensordrop.control.address import ledger_name
from sensordrop.control.client import ControlClient, NoDaemonError, SocketRefusedError
from sensordrop.control.refusal import Reason, RefusedError
from sensordrop.control.routes import BY_NAME
from sensordrop.control.told import Told
from sensordrop.core.principal import Principal, Role
from sensordrop.exits import Exit

if TYPE_CHECKING:
    from sensordrop.adapters.ledger.ledger import PostgresLedger
    from sensordrop.control.service import Operations

EXITS = {
    Reason.NOT_PERMITTED: Exit.NOT_PERMITTED,
    Reason.UNKNOWN: Exit.FAILED,
    Reason.NO_LEDGER: Exit.NO_LEDGER,
    Reason.BUSY: Exit.FAILED,
    Reason.BUG: Exit.BUG,
}


class Desk(Protocol):
    """Has operations of `control/routes.py` done, by their names."""

    def ask(self, operation: str, **given: object) -> Told:
        """Have one done; what is None is not given. Raises RefusedError."""
        ...


class LedgerDesk:
    """Does operations on the ledger itself, as somebody who may: the database let them in."""

    def __init__(self, operations: Operations, ledger: PostgresLedger) -> None:
        from sensordrop.cli.controls import whoever_calls

        self.ledger = ledger
        self._operations = operations
        self._principal = Principal(name=whoever_calls(), role=Role.ADMIN)

    def ask(self, operation: str, **given: object) -> Told:
        """See `Desk.ask`."""
        values = {name: value for name, value in given.items() if value is not None}
        return BY_NAME[operation].perform(self._operations, self._principal, values)


@contextmanager
def desk_at(place: Place, *, changes: bool = False) -> Iterator[Desk]:
    """Give who carries the questions of a verb; its refusals end the program.

    A living daemon on that ledger is asked; else it is the ledger. Whom the daemon does not let in
    may still look at the ledger, if that lets them, and is told so; `changes`: not even that, for
    who may not control the daemon must not do so behind its back.
    """
    turned_away = False
    try:
        try:
            client = _living_daemon(place)
        except (SocketRefusedError, RefusedError) as error:
            if changes or place.socket_named:
                raise
            click.echo(f"{error} — asking the ledger itself", err=True)
            client = None
            turned_away = (
                isinstance(error, SocketRefusedError) or error.reason is Reason.NOT_PERMITTED
            )
        if client is not None:
            yield client
            return
        with ledger_at(place) as ledger:
            from sensordrop.adapters.clock import local_zone
            from sensordrop.control.service import Operations

            ledger.check()
            operations = Operations(ledger=ledger, station=place.station, zone=local_zone())
            yield LedgerDesk(operations, ledger)
    except SystemExit as end:  # no ledger either: the socket's refusal is what is to be mended
        sys.exit(Exit.NOT_PERMITTED if turned_away and end.code == Exit.NO_LEDGER else end.code)
    except RefusedError as error:
        if error.reason is Reason.USAGE:
            raise click.UsageError(str(error)) from error
        _end(str(error), EXITS[error.reason])
    except NoDaemonError as error:
        _end(str(error), Exit.NO_LEDGER)
    except SocketRefusedError as error:
        _end(str(error), Exit.NOT_PERMITTED)


def _living_daemon(place: Place) -> ControlClient | None:
    """Find the daemon that is to be asked; None: the ledger itself. Raises what `hello` raises,
    but where there is none, only if one is meant.
    """
    client = ControlClient(place.socket, behalf=_behalf())
    try:
        told = client.hello()
    except NoDaemonError:
        if place.socket_named:
            raise
        return None
    if place.socket_named:
        return client
    if place.ledger_named and told.get("ledger") != ledger_name(place.config):
        return None
    if place.station is not None and told.get("station") != place.station:
        return None
    return client


def is_answered(place: Place) -> bool:
    """Tell whether there is a daemon to be asked by now."""
    try:
        return _living_daemon(place) is not None
    except (SocketRefusedError, RefusedError, NoDaemonError):
        return False


def _behalf() -> str:
    """Say for whom root asks, behind sudo."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return os.environ.get("SUDO_USER", "") if is_root else ""


def _end(words: str, code: Exit) -> NoReturn:
    click.echo(words, err=True)
    sys.exit(code)
