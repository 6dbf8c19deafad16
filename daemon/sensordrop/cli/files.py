"""`sensordrop files`: list files by state, a page at a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import chosen_places, clock, iso, page_options, size_words
from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.core.model import UploadState
from sensordrop.core.terminal import printable
from sensordrop.ports import FileFilter, FileLine


@click.command()
@place_options
@click.option("--delivery", metavar="NAME", help="Of this delivery alone.")
@click.option("--sensor", metavar="SERIAL", help="Of this sensor alone.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in UploadState]),
    help="In this state alone.",
)
@page_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    sensor: str | None,
    state: str | None,
    limit: int,
    after: int | None,
    as_json: bool,
) -> None:
    r"""List files, the newest first (failed ones: the last to fail first), with what is wrong.

    Every version of a file has a line. A page ends with how to get the next one.

    \b
    Examples:
      sensordrop files --state failed
      sensordrop files --delivery highlands-c2 --sensor 950349 --limit 1000 --json
    """
    place = find_place(config, local, database)
    with ledger_at(place) as ledger:
        ledger.check()
        places = chosen_places(ledger, place.station, delivery)
        wanted = FileFilter(
            delivery_ids=[each.delivery_id for each in places], state=state, sensor=sensor
        )
        lines = ledger.list_files(wanted, before=after, most=limit)
    following = lines[-1].place if len(lines) == limit else None
    if as_json:
        told = {"files": [_told(line) for line in lines], "next": following}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    _show(lines)
    if following is not None:
        named = [
            f"--{name} {quote(value)}"
            for name, value in (("state", state), ("delivery", delivery), ("sensor", sensor))
            if value is not None
        ]
        click.echo(" ".join(["more: sensordrop files", *named, f"--after {following}"]))


def _told(line: FileLine) -> dict[str, Any]:
    """Give one file as `--json` tells it. Every key is always present."""
    return {
        "delivery": line.delivery,
        "sensor": line.sensor,
        "path": line.path,
        "state": line.state,
        "size_bytes": line.size_bytes,
        "session_id": line.session_id,
        "attempts": line.attempts,
        "enrolled_at": iso(line.enrolled_at),
        "finished_at": iso(line.finished_at),
        "next_attempt_at": iso(line.next_at),
        "error_class": line.error_class,
        "reason": line.reason,
    }


def _show(lines: Sequence[FileLine]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not lines:
        click.echo("no such files")
        return
    zone = local_zone()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("delivery", "state", "when", "size"):
        table.add_column(name, no_wrap=True, justify="right" if name == "size" else "left")
    table.add_column("path", overflow="fold")
    table.add_column("why", overflow="fold")
    for line in lines:
        table.add_row(
            Text(printable(line.delivery)),
            Text(line.state, style="red" if line.state == "failed" else ""),
            clock(line.finished_at or line.enrolled_at, zone),
            size_words(line.size_bytes),
            Text(printable(line.path)),
            Text(_why(line)),
        )
    Console(file=sys.stdout, highlight=False).print(table)


def _why(line: FileLine) -> str:
    words = printable(line.reason or "")
    if line.error_class is not None:
        words = f"{line.error_class}: {words}"
    if line.next_at is not None:
        words += f" (next attempt {clock(line.next_at, local_zone())})"
    return words
