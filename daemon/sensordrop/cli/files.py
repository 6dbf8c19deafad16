"""`sensordrop files`: list files by state, a page at a time."""

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
from sensordrop.core.model import UploadState
from sensordrop.core.terminal import printable


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
    """List files, the newest first (failed ones: the last to fail first), with what is wrong.

    Every version of a file has a line. A page ends with how to get the next one.

    \b
    Examples:
      sensordrop files --state failed
      sensordrop files --delivery highlands-c2 --sensor 950349 --limit 1000 --json
    """
    with desk_at(find_place(config, local, database)) as desk:
        told = desk.ask(
            "files", delivery=delivery, sensor=sensor, state=state, limit=limit, after=after
        )
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    _show(told["files"])
    if told["next"] is not None:
        click.echo(f"more: {next_page(told['next'])}")


def _show(files: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not files:
        click.echo("no such files")
        return
    zone = local_zone()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("delivery", "state", "when", "size"):
        table.add_column(name, no_wrap=True, justify="right" if name == "size" else "left")
    table.add_column("path", overflow="fold")
    table.add_column("why", overflow="fold")
    for each in files:
        table.add_row(
            Text(printable(each["delivery"])),
            Text(each["state"], style="red" if each["state"] == "failed" else ""),
            clock(each["finished_at"] or each["enrolled_at"], zone),
            size_words(each["size_bytes"]),
            Text(printable(each["path"])),
            Text(_why(each)),
        )
    show_table(table)


def _why(told: dict[str, Any]) -> str:
    words = printable(told["reason"] or "")
    if told["error_class"] is not None:
        words = f"{told['error_class']}: {words}"
    if told["next_attempt_at"] is not None:
        words += f" (next attempt {clock(told['next_attempt_at'], local_zone())})"
    return words
