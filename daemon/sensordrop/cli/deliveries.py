"""`sensordrop deliveries`: where each delivery takes from and puts to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import clock
from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.cli.tables import show_table
from sensordrop.core.terminal import printable


@click.command()
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path | None, local: Path | None, database: str | None, as_json: bool) -> None:
    """List the deliveries: folder, bucket and prefix, state, and when the folder was last swept.

    \b
    Examples:
      sensordrop deliveries
      sensordrop deliveries --json
    """
    with desk_at(find_place(config, local, database)) as desk:
        told = desk.ask("deliveries")
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        _show(told["deliveries"])


def _show(rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo("no deliveries yet: sensordropd has not run on this ledger")
        return
    zone = local_zone()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("delivery", "state", "folder", "goes to", "last swept"):
        table.add_column(name, overflow="fold")
    for each in rows:
        target = f"{each['bucket_name']}/{each['s3_prefix']}".rstrip("/")
        at = f" at {each['endpoint_url']}" if each["endpoint_url"] else ""
        table.add_row(
            Text(printable(each["name"])),
            Text(each["state"] or "unknown"),
            Text(printable(each["local_directory"])),
            Text(printable(target + at)),
            clock(each["last_sweep_at"], zone) or "never",
        )
    show_table(table)
