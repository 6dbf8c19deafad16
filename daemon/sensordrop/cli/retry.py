"""`sensordrop retry`: have files tried again that failed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sensordrop.cli.asking import chosen_places, ended, find_file, not_found
from sensordrop.cli.controls import whoever_calls
from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.core.keys import path_text
from sensordrop.core.story import DeliveryPlace
from sensordrop.core.terminal import printable
from sensordrop.core.timetable import TEXT_LIMIT
from sensordrop.exits import Exit
from sensordrop.ports import RetryOrder

if TYPE_CHECKING:
    from sensordrop.adapters.ledger.ledger import PostgresLedger

SHOWN = 50
"""Paths that are shown to a person one by one; --json gives all."""


@dataclass(kw_only=True)
class _Retried:
    """What came of it all."""

    retried: int = 0
    hurried: int = 0
    paths: list[dict[str, Any]] = field(default_factory=list)
    deliveries: list[str] = field(default_factory=list)
    unknown: bool = False


@click.command()
@place_options
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--delivery", metavar="NAME", help="All failed files of this delivery.")
@click.option(
    "--session-id", "--session", "session_id", type=int, metavar="N",
    help="All failed files of this session.",
)  # fmt: skip
@click.option("--all-failed", is_flag=True, help="All failed files of all deliveries.")
@click.option(
    "--now",
    is_flag=True,
    help="Without the wait before the next try; also files that wait for one.",
)
@click.option("--reason", default="", help="Why, for those who look later.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    paths: tuple[str, ...],
    delivery: str | None,
    session_id: int | None,
    all_failed: bool,
    now: bool,
    reason: str,
    as_json: bool,
) -> None:
    r"""Have files tried again that failed, with all their attempts before them.

    A running sensordropd takes it up within a second or two; one that is down begins when it is started.
    Who asked, when and why is kept, and told by `sensordrop why`. With PATHs, --delivery says
    whose they are. Exits with 1 if a PATH was nothing to be retried.

    \b
    Examples:
      sensordrop retry 950349/20250909_092000.WAV
      sensordrop retry --delivery highlands-c2 --reason "the bucket's policy is mended"
      sensordrop retry --all-failed
      sensordrop retry --delivery highlands-c2 --now
    """
    if not (paths or delivery or session_id is not None or all_failed):
        raise click.UsageError(
            "what is to be retried? PATHs, --delivery NAME, --session-id N or --all-failed"
        )
    if paths and (session_id is not None or all_failed):
        raise click.UsageError("name PATHs, or --session-id or --all-failed, not both")
    if all_failed and (delivery or session_id is not None):
        raise click.UsageError("--all-failed is all there is; leave --delivery and --session out")
    if len(reason) > TEXT_LIMIT:
        raise click.UsageError(f"--reason has more than {TEXT_LIMIT} characters")
    place = find_place(config, local, database)
    found = _Retried()
    with ledger_at(place) as ledger:
        ledger.check()
        places = chosen_places(ledger, place.station, delivery)
        common = {"asked_by": whoever_calls(), "at_once": now, "reason": reason}
        if paths:
            _retry_paths(ledger, places, paths, common, found)
        else:
            _retry_all(ledger, places, session_id, common, found)
    running = all(each.daemon_alive for each in places if each.name in found.deliveries)
    if as_json:
        told = {"retried": found.retried, "hurried": found.hurried, "paths": found.paths}
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        _show(found, running=running)
    ended(Exit.FAILED if found.unknown else Exit.DONE)


def _retry_paths(
    ledger: PostgresLedger,
    places: Sequence[DeliveryPlace],
    arguments: Sequence[str],
    common: dict[str, Any],
    found: _Retried,
) -> None:
    wanted: dict[int, list[bytes]] = defaultdict(list)
    names = {place.delivery_id: place.name for place in places}
    for argument in arguments:
        file = find_file(ledger, places, argument)
        if file is None:
            not_found(argument, places)
            found.unknown = True
            found.paths.append(_path(argument, None, None, retried=False))
        else:
            wanted[file[0].delivery_id].append(file[1])
    for delivery_id, paths in wanted.items():
        what = path_text(paths[0]) if len(paths) == 1 else f"{len(paths)} files by name"
        order = RetryOrder(delivery_id=delivery_id, what=what, paths=paths, **common)
        result = ledger.retry(order)
        found.retried += result.retried
        found.hurried += result.hurried
        found.deliveries.append(names[delivery_id])
        for path in paths:
            state = result.states.get(path)
            retried = state == "failed" or (state == "pending" and order.at_once)
            found.unknown |= not retried
            found.paths.append(_path(path_text(path), names[delivery_id], state, retried=retried))


def _retry_all(
    ledger: PostgresLedger,
    places: Sequence[DeliveryPlace],
    session_id: int | None,
    common: dict[str, Any],
    found: _Retried,
) -> None:
    what = "all that failed"
    if session_id is not None:
        what = f"all that failed in session {session_id}"
        ids = [each.delivery_id for each in places]
        sessions = ledger.list_sessions(ids, session_id=session_id, most=1)
        places = [p for p in places if sessions and p.delivery_id == sessions[0].delivery_id]
        if not places:
            raise click.UsageError(f"there is no session {session_id} in these deliveries")
    for place in places:
        result = ledger.retry(
            RetryOrder(delivery_id=place.delivery_id, session_id=session_id, what=what, **common)
        )
        found.retried += result.retried
        found.hurried += result.hurried
        if result.retried or result.hurried:
            found.deliveries.append(place.name)


def _path(path: str, delivery: str | None, state: str | None, *, retried: bool) -> dict[str, Any]:
    return {"path": path, "delivery": delivery, "state_before": state, "retried": retried}


def _show(found: _Retried, *, running: bool) -> None:
    for each in found.paths[:SHOWN]:
        if each["retried"] or each["delivery"] is None:
            continue
        state = each["state_before"]
        words = f"it is {state}, not failed" if state else "it is not on the books"
        hint = "; --now has it tried without its wait" if state == "pending" else ""
        click.echo(f"{printable(each['path'])}: {words}{hint}", err=True)
    if found.retried:
        click.echo(f"{_files(found.retried)} tried again, with all attempts")
    if found.hurried:
        click.echo(f"{_files(found.hurried)} tried without the wait that was due")
    if not found.retried and not found.hurried:
        click.echo("nothing to retry")
    elif not running:
        click.echo("sensordropd is not running: it begins with its next start")


def _files(number: int) -> str:
    return "1 file is" if number == 1 else f"{number:,} files are"
