"""`sensordrop sessions`: list the bursts of work."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import chosen_places, clock, iso, page_options, size_words
from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.core.model import UploadState
from sensordrop.core.terminal import printable
from sensordrop.ports import SessionLine

COUNTED = tuple(state.value for state in UploadState if state is not UploadState.UPLOADING)


@click.command()
@place_options
@click.option("--delivery", metavar="NAME", help="Of this delivery alone.")
@page_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    limit: int,
    after: int | None,
    as_json: bool,
) -> None:
    r"""List sessions, the newest first: when each began and ended, and what came of its files.

    \b
    Examples:
      sensordrop sessions
      sensordrop sessions --delivery highlands-c2 --limit 5
    """
    place = find_place(config, local, database)
    with ledger_at(place) as ledger:
        ledger.check()
        places = chosen_places(ledger, place.station, delivery)
        ids = [each.delivery_id for each in places]
        lines = ledger.list_sessions(ids, before=after, most=limit)
    following = lines[-1].session_id if len(lines) == limit else None
    if as_json:
        told = {"sessions": [as_told(line) for line in lines], "next": following}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    show(lines)
    if following is not None:
        click.echo(f"more: sensordrop sessions --after {following}")


def as_told(line: SessionLine) -> dict[str, Any]:
    """Give one session as `--json` tells it. Every key is always present."""
    counts = {state: line.counts.get(state, 0) for state in COUNTED}
    return {
        "id": line.session_id,
        "delivery": line.delivery,
        "state": line.state,
        "origin": line.origin,
        "started_by": line.started_by,
        "started_at": iso(line.started_at),
        "ended_at": iso(line.ended_at),
        "files": sum(counts.values()),
        "counts": counts,
        "bytes": {"total": line.bytes_total, "uploaded": line.bytes_uploaded},
    }


def show(lines: Sequence[SessionLine]) -> None:
    """Show sessions as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not lines:
        click.echo("no sessions")
        return
    zone = local_zone()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("session", "delivery", "state", "started", "ended"):
        table.add_column(name, no_wrap=True)
    for name in ("files", "waiting", "stored", "skipped", "failed", "sent"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        told = as_told(line)
        counts = told["counts"]
        failed = counts["failed"]
        table.add_row(
            str(line.session_id),
            Text(printable(line.delivery)),
            line.state,
            clock(line.started_at, zone),
            clock(line.ended_at, zone),
            f"{told['files']:,}",
            f"{counts['pending']:,}",
            f"{counts['uploaded']:,}",
            f"{counts['skipped']:,}",
            Text(f"{failed:,}", style="red" if failed else ""),
            size_words(line.bytes_uploaded),
        )
    Console(file=sys.stdout, highlight=False).print(table)
