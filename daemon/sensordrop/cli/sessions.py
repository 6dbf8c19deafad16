"""`sensordrop sessions`: list the bursts of work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import clock, page_options, size_words
from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.cli.tables import next_page, show_table
from sensordrop.core.terminal import printable


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
    """List sessions, the newest first: when each began and ended, and what came of its files.

    \b
    Examples:
      sensordrop sessions
      sensordrop sessions --delivery highlands-c2 --limit 5
    """
    with desk_at(find_place(config, local, database)) as desk:
        told = desk.ask("sessions", delivery=delivery, limit=limit, after=after)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    show(told["sessions"])
    if told["next"] is not None:
        click.echo(f"more: {next_page(told['next'])}")


def show(sessions: Sequence[dict[str, Any]]) -> None:
    """Show sessions as a table."""
    from rich.table import Table
    from rich.text import Text

    if not sessions:
        click.echo("no sessions")
        return
    zone = local_zone()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("session", "delivery", "state", "started", "ended"):
        table.add_column(name, no_wrap=True)
    for name in ("files", "waiting", "stored", "skipped", "failed", "sent"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in sessions:
        counts = each["counts"]
        failed = counts["failed"]
        table.add_row(
            str(each["id"]),
            Text(printable(each["delivery"])),
            each["state"],
            clock(each["started_at"], zone),
            clock(each["ended_at"], zone),
            f"{each['files']:,}",
            f"{counts['pending']:,}",
            f"{counts['uploaded']:,}",
            f"{counts['skipped']:,}",
            Text(f"{failed:,}", style="red" if failed else ""),
            size_words(each["bytes"]["uploaded"]),
        )
    show_table(table)
