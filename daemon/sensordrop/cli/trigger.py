"""`sensordrop trigger`: tell once more that a session has ended."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from sensordrop.cli.desk import Desk, desk_at
from sensordrop.cli.place import Place, find_place, ledger_at, place_options
from sensordrop.cli.session import letter_words
from sensordrop.config import Endpoint
from sensordrop.config.endpoints import PART_KINDS
from sensordrop.config.kinds import NotExpectedError
from sensordrop.core.letters import LetterKind, LetterState, plan_letter
from sensordrop.engine.signal_flag import SignalFlag
from sensordrop.exits import Exit
from sensordrop.ports.life import StopFlag
from sensordrop.ports.records import EndpointBinding
from sensordrop.ports.telling import AskedAgain, LetterLine

if TYPE_CHECKING:
    from sensordrop.adapters.ledger.ledger import PostgresLedger

LOOK_SECONDS = 0.5
WAIT_SECONDS = 120.0
"""How long a daemon's attempt is waited for: it begins within two seconds, and most endpoints
answer in one; afterwards `sensordrop session` tells."""
LEASE_MARGIN_SECONDS = 60.0
LOOKED_AT = 20
"""Sessions of a delivery, the newest, that a pipeline sees to: older ones are named in `sessions`."""


@click.command()
@place_options
@click.option("--session-id", "--session", "session_id", type=int, required=True, metavar="N",
              help="The session that has ended.")  # fmt: skip
@click.option("--url", metavar="URL", help="Tell this address instead of the configured one.")
@click.option(
    "--allow-private-addresses",
    is_flag=True,
    help="With --url: it may lie in your own network, or on this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    session_id: int,
    url: str | None,
    allow_private_addresses: bool,
    as_json: bool,
) -> None:
    """Tell the delivery's endpoint once more that session N has ended.

    It is sent now, under the idempotency key that it has: a receiver that heard it knows it again.
    A running daemon sends it; else, and with --url, this program does, once. Exits with 1 if it
    was not heard.

    \b
    Examples:
      sensordrop trigger --session-id 12
      sensordrop trigger --session-id 12 --url https://registry.example.org/sessions
    """
    if allow_private_addresses and url is None:
        raise click.UsageError("--allow-private-addresses goes with --url")
    place = find_place(config, local, database)
    if url is None:
        letter = _by_whoever_may(place, session_id)
    else:
        with ledger_at(place) as ledger:
            ledger.check()
            endpoint = _elsewhere(place, ledger, session_id, url, private=allow_private_addresses)
            line = tell_session(ledger, session_id, endpoint)
        letter = _told(line)
    if as_json:
        click.echo(json.dumps({"session_id": session_id, "letter": letter}, ensure_ascii=False))
    else:
        click.echo(letter_words(letter))
    if letter["state"] != "told":
        sys.exit(Exit.FAILED)


def tell_session(ledger: PostgresLedger, session_id: int, endpoint: Endpoint) -> LetterLine:
    """Tell an endpoint that a session has ended: now, once, in this thread.

    Gives what became of it; raises Abort where Ctrl-C broke it off. What could not be told waits in
    the outbox for the delivery's daemon, if it is the endpoint that one knows. Blocks for the
    endpoint's time-out. Raises ClickException where the session has not ended.
    """
    from sensordrop.adapters.notifier import HttpNotifier

    kind = LetterKind.REGISTRATION
    binding = EndpointBinding(kind=kind, endpoint=endpoint.shown, digest=endpoint.digest)
    if ledger.ask_letter_again(session_id, binding) is not AskedAgain.ASKED:
        raise click.ClickException(f"session {session_id} has not ended, or there is none")
    delivery_id = ledger.list_sessions([], session_id=session_id, most=1)[0].delivery_id
    letter = ledger.lease_letter(
        None,
        [(delivery_id, kind, endpoint.digest)],
        busy=[],
        lease_seconds=endpoint.timeout_seconds + LEASE_MARGIN_SECONDS,
        session_id=session_id,
    )
    if letter is not None:  # else a daemon is just telling it
        began = time.monotonic()
        with _interrupted() as stop:
            answer = HttpNotifier({(delivery_id, kind): endpoint}).send(letter, stop)
        if answer is None:
            ledger.give_letter_back(letter)
            raise click.Abort
        plan = plan_letter(
            answer,
            attempts=letter.attempts,
            waited_seconds=letter.waited_seconds,
            give_up_seconds=endpoint.give_up_seconds,
            dice=random.random(),  # noqa: S311 — it spreads attempts, and keeps no secret
        )
        ledger.note_answer(letter, answer, plan, took_seconds=time.monotonic() - began)
    return _letter_to(ledger, session_id, endpoint)


def unheard_sessions(ledger: PostgresLedger, delivery_id: int) -> list[int]:
    """Name the delivery's newest ended sessions whose registration nobody heard, oldest first."""
    found = []
    for line in ledger.list_sessions([delivery_id], most=LOOKED_AT):
        letters = ledger.letters_of(line.session_id) if line.state == "ended" else []
        mine = [each for each in letters if each.kind is LetterKind.REGISTRATION]
        if mine and all(each.state is not LetterState.TOLD for each in mine):
            found.append(line.session_id)
    return found[::-1]


def see_told(
    ledger: PostgresLedger, session_id: int, endpoint: Endpoint, stop: StopFlag
) -> LetterLine:
    """Have a session told now, by this program or by the daemon that has the letter; give what came
    of it. Blocks as long as a daemon's attempt may take at most. Raises Abort where it was broken
    off.
    """
    line = tell_session(ledger, session_id, endpoint)
    give_up = time.monotonic() + WAIT_SECONDS
    while line.state is LetterState.WAITING and not line.attempts:
        if stop.is_set():
            raise click.Abort
        if time.monotonic() > give_up:
            break
        time.sleep(LOOK_SECONDS)
        line = _letter_to(ledger, session_id, endpoint)
    return line


def _letter_to(ledger: PostgresLedger, session_id: int, endpoint: Endpoint) -> LetterLine:
    key = LetterKind.REGISTRATION, endpoint.digest
    return next(each for each in ledger.letters_of(session_id) if (each.kind, each.digest) == key)


@contextmanager
def _interrupted() -> Iterator[SignalFlag]:
    """Have Ctrl-C set a flag: an exception would be lost in libcurl's calls back, and the letter
    would be nobody's until its lease ends.
    """
    stop = SignalFlag()
    former = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, former)


def _by_whoever_may(place: Place, session_id: int) -> dict[str, Any]:
    """Have the configured endpoint told: by the daemon, or else by this program."""
    with desk_at(place, changes=True) as desk:
        told = desk.ask("trigger", session_id=session_id)
        asked_at = max(each["asked_at"] for each in told["letters"])
        if told["running"]:
            return _wait(desk, session_id, asked_at)
    configured = [each for each in place.configured() if each.name == told["delivery"]]
    if not configured or configured[0].endpoint is None:
        click.echo("sensordropd is not running: it tells at its next start", err=True)
        return next(each for each in told["letters"] if each["asked_at"] == asked_at)
    with ledger_at(place) as ledger:
        return _told(tell_session(ledger, session_id, configured[0].endpoint))


def _wait(desk: Desk, session_id: int, asked_at: str) -> dict[str, Any]:
    """Wait until the daemon has tried."""
    give_up = time.monotonic() + WAIT_SECONDS
    while True:
        letters = desk.ask("session", session_id=session_id)["letters"]
        letter: dict[str, Any] = next(each for each in letters if each["asked_at"] >= asked_at)
        if letter["state"] != "waiting" or letter["attempts"] or time.monotonic() > give_up:
            return letter
        time.sleep(LOOK_SECONDS)


def _elsewhere(
    place: Place, ledger: PostgresLedger, session_id: int, url: str, *, private: bool
) -> Endpoint:
    """Give the endpoint that --url names, signed like the delivery's own.

    Token and headers were meant for the configured host: another one gets neither.
    """
    try:
        address = str(PART_KINDS["url"].read(url))
    except NotExpectedError as error:
        raise click.UsageError(f"--url: expected {PART_KINDS['url'].expected}; {error}") from error
    lines = ledger.list_sessions([], session_id=session_id, most=1)
    names = [line.delivery for line in lines]
    own = next((d.endpoint for d in place.configured() if d.name in names), None)
    if own is None:
        return Endpoint(url=address, allow_private_addresses=private)
    allowed = private or own.allow_private_addresses
    elsewhere = replace(own, url=address, allow_private_addresses=allowed)
    if urlsplit(address)[:2] != urlsplit(own.url)[:2]:
        elsewhere = replace(elsewhere, token=None, headers={})
    return elsewhere


def _told(line: LetterLine) -> dict[str, Any]:
    from sensordrop.control.told import letter_told

    return letter_told(line)
