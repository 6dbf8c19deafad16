"""`sensordrop session`: one burst of work, and what went wrong in it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.cli.sessions import show
from sensordrop.core.terminal import printable


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
    if told["counts"]["failed"]:
        click.echo(f"once it is mended: sensordrop retry --session-id {session_id}")
