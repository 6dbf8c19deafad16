"""`sensordrop retry`: have files tried again that failed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from sensordrop.cli.asking import asked_file, asked_places, ended, not_found
from sensordrop.cli.desk import Desk, LedgerDesk, desk_at
from sensordrop.cli.hand import Working, round_flags, same_place
from sensordrop.cli.place import find_place, place_options
from sensordrop.cli.retry_by_hand import Wanted, Work, do, work_of
from sensordrop.control.routes import MOST_PATHS
from sensordrop.core.batch import Rounds
from sensordrop.core.keys import path_text
from sensordrop.core.terminal import printable
from sensordrop.core.timetable import TEXT_LIMIT
from sensordrop.exits import Exit

SHOWN = 50
"""Paths that are shown to a person one by one; --json gives all."""
MOST_CHARACTERS = 100_000
"""Of all paths of one request: written as JSON, with every character escaped, they still fit."""


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
    help="Before all other files, and without the wait before the next try; also files that "
    "wait for one.",
)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    help="This file; may be given again. Done here and now where no daemon runs.",
)
@click.option(
    "--auto-retry",
    is_flag=True,
    help="Where no daemon runs: go on in rounds until nothing fails.",
)
@round_flags
@click.option("--quiet", is_flag=True, help="Without a daemon: only what went wrong.")
@click.option("--verbose", is_flag=True, help="Without a daemon: a line for each file.")
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
    files: tuple[str, ...],
    auto_retry: bool,
    rounds: int,
    retry_wait: float,
    quiet: bool,
    verbose: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Have files tried again that failed, with all their attempts before them.

    A running sensordropd takes it up within a second or two; one that is down begins when it is started.
    Who asked, when and why is kept, and told by `sensordrop why`. With PATHs, --delivery says
    whose they are. Exits with 1 if a PATH was nothing to be retried.

    Where no daemon runs, this does the work itself, as `sensordrop upload` does it, if it is asked
    for with --session-id, --file or --auto-retry, or if no daemon ever had the delivery. Then it
    also takes what is new in the folder, and exits with 1 if anything is still not stored.

    \b
    Examples:
      sensordrop retry 950349/20250909_092000.WAV
      sensordrop retry --delivery highlands-c2 --reason "the bucket's policy is mended"
      sensordrop retry --all-failed
      sensordrop retry --delivery highlands-c2 --now
      sensordrop retry --session-id 12 --auto-retry
    """
    insists = session_id is not None or bool(files) or auto_retry
    paths += files
    if not (paths or delivery or session_id is not None or all_failed):
        raise click.UsageError(
            "what is to be retried? PATHs, --delivery NAME, --session-id N or --all-failed"
        )
    if paths and all_failed:
        raise click.UsageError("name PATHs, or --all-failed, not both")
    if all_failed and (delivery or session_id is not None):
        raise click.UsageError("--all-failed is all there is; leave --delivery and --session out")
    if len(reason) > TEXT_LIMIT:
        raise click.UsageError(f"--reason has more than {TEXT_LIMIT} characters")
    common = {"now": now, "reason": reason}
    place = find_place(config, local, database)
    wanted = Wanted(delivery=delivery, session_id=session_id, paths=paths, insists=insists)
    works: Sequence[Work] = ()
    with desk_at(place, changes=True) as desk:
        if isinstance(desk, LedgerDesk) and local is None:
            works = work_of(desk.ledger, place, wanted)
        if works:
            told: dict[str, Any] = {}
        elif paths:
            told = _retry_paths(desk, paths, delivery, common)
        else:
            told = desk.ask(
                "retry",
                delivery=delivery,
                session_id=session_id,
                all_failed=True if all_failed else None,
                **common,
            )
    if works:
        again = Rounds(most=rounds, wait_seconds=retry_wait) if auto_retry else None
        working = Working(quiet=quiet, verbose=verbose, as_json=as_json)
        ended(do(works, working, again, same_place(config, database)))
        return
    if as_json:
        shown = {key: told[key] for key in ("retried", "hurried", "paths")}
        click.echo(json.dumps(shown, ensure_ascii=False))
    else:
        _show(told)
    ended(Exit.DONE if all(each["retried"] for each in told["paths"]) else Exit.FAILED)


def _retry_paths(
    desk: Desk, arguments: Sequence[str], delivery: str | None, common: dict[str, Any]
) -> dict[str, Any]:
    """Find out whose the paths are, and have them tried again, delivery by delivery."""
    places = asked_places(desk, delivery)
    told: dict[str, Any] = {"retried": 0, "hurried": 0, "paths": [], "running": True}
    wanted: dict[str, list[str]] = defaultdict(list)

    for argument in arguments:
        file = asked_file(desk, places, argument)
        if file is None:
            not_found(argument, places)
            unknown = {"delivery": None, "state_before": None, "retried": False}
            told["paths"].append({"path": argument, **unknown})
        else:
            wanted[file[0].name].append(path_text(file[1]))
    for name, paths in wanted.items():
        for some in batched(paths):
            answer = desk.ask("retry", delivery=name, paths=some, **common)
            told["retried"] += answer["retried"]
            told["hurried"] += answer["hurried"]
            told["paths"] += answer["paths"]
            told["running"] &= answer["running"]
    return told


def batched(paths: Sequence[str]) -> Iterator[list[str]]:
    """Give paths in pieces that fit into one request each."""
    piece: list[str] = []
    characters = 0
    for path in paths:
        if piece and (len(piece) >= MOST_PATHS or characters + len(path) > MOST_CHARACTERS):
            yield piece
            piece, characters = [], 0
        piece.append(path)
        characters += len(path)
    if piece:
        yield piece


def _show(told: dict[str, Any]) -> None:
    for each in told["paths"][:SHOWN]:
        if each["retried"] or each["delivery"] is None:
            continue
        state = each["state_before"]
        words = f"it is {state}, not failed" if state else "it is not on the books"
        hint = "; --now has it tried without its wait" if state == "pending" else ""
        click.echo(f"{printable(each['path'])}: {words}{hint}", err=True)
    if told["retried"]:
        click.echo(f"{_files(told['retried'])} tried again, with all attempts")
    if told["hurried"]:
        click.echo(f"{_files(told['hurried'])} tried without the wait that was due")
    if not told["retried"] and not told["hurried"]:
        click.echo("nothing to retry")
    elif not told["running"]:
        click.echo("sensordropd is not running: it begins with its next start")


def _files(number: int) -> str:
    return "1 file is" if number == 1 else f"{number:,} files are"
