"""`sensordrop session`: one burst of work, and what went wrong in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import counted
from sensordrop.cli.controls import clock_text
from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.cli.sessions import show
from sensordrop.core.terminal import printable


def letter_words(letter: dict[str, Any]) -> str:
    """Tell for people what became of a letter."""
    zone = local_zone()
    line = f"{letter['kind']} to {printable(letter['endpoint'])}: {letter['state']}"
    if letter["state"] == "told":
        return f"{line} at {clock_text(letter['told_at'], zone)} (answer {letter['status']})"
    if letter["problem"]:
        line += f" after {counted(letter['attempts'], 'attempt')}: {printable(letter['problem'])}"
    if letter["next_attempt_at"] and letter["attempts"]:
        line += f"; tried again at {clock_text(letter['next_attempt_at'], zone)}"
    return line


@click.command()
@place_options
@click.argument("session_id", type=int, metavar="N")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None, local: Path | None, database: str | None, session_id: int, as_json: bool
) -> None:
    """Show session N: its files by state, its bytes, and what failed in it, by kind of error.

    A running session shows what it has so far. Exits with 1 if there is no such session.

    \b
    Examples:
      sensordrop session 12
      sensordrop retry --session-id 12
    """
    with desk_at(find_place(config, local, database)) as desk:
        told = desk.ask("session", session_id=session_id)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    show([told])
    for each in told["failures"]:
        click.echo(
            f"{each['error_class']}: {each['files']:,} failed, such as {printable(each['example'])}"
        )
    for each in told["letters"]:
        click.echo(letter_words(each))
    if told["counts"]["failed"]:
        click.echo(f"once it is mended: sensordrop retry --session-id {session_id}")
