"""`sensordrop session`: one burst of work, and what went wrong in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sensordrop.cli.asking import chosen_places
from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.cli.sessions import as_told, show
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit


@click.command()
@place_options
@click.argument("session_id", type=int, metavar="N")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None, local: Path | None, database: str | None, session_id: int, as_json: bool
) -> None:
    r"""Show session N: its files by state, its bytes, and what failed in it, by kind of error.

    A running session shows what it has so far. Exits with 1 if there is no such session.

    \b
    Examples:
      sensordrop session 12
      sensordrop retry --session-id 12
    """
    place = find_place(config, local, database)
    with ledger_at(place) as ledger:
        ledger.check()
        ours = {each.delivery_id for each in chosen_places(ledger, place.station, None)}
        lines = ledger.list_sessions([], session_id=session_id, most=1)
        lines = [line for line in lines if line.delivery_id in ours]
        troubles = ledger.session_troubles(session_id) if lines else []
    if not lines:
        click.echo(f"there is no session {session_id}: sensordrop sessions lists them", err=True)
        sys.exit(Exit.FAILED)
    failures = [
        {"error_class": each.error_class, "files": each.files, "example": each.path}
        for each in troubles
    ]
    if as_json:
        click.echo(json.dumps(as_told(lines[0]) | {"failures": failures}, ensure_ascii=False))
        return
    show(lines)
    for each in troubles:
        click.echo(f"{each.error_class}: {each.files:,} failed, such as {printable(each.path)}")
    if lines[0].counts.get("failed"):
        click.echo(f"once it is mended: sensordrop retry --session-id {session_id}")
