"""`sensordrop deliveries`: where each delivery takes from and puts to."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import clock, iso
from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.cli.status import as_told as status_told
from sensordrop.core.story import DeliveryPlace
from sensordrop.core.terminal import printable
from sensordrop.ports import DeliveryCounts


@click.command()
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path | None, local: Path | None, database: str | None, as_json: bool) -> None:
    r"""List the deliveries: folder, bucket and prefix, state, and when the folder was last swept.

    \b
    Examples:
      sensordrop deliveries
      sensordrop deliveries --json
    """
    place = find_place(config, local, database)
    with ledger_at(place) as ledger:
        ledger.check()
        places = ledger.delivery_places(place.station)
        stands = {each.delivery_id: each for each in ledger.status(place.station)}
    rows = [_told(each, stands.get(each.delivery_id)) for each in places]
    if as_json:
        click.echo(json.dumps({"deliveries": rows}, ensure_ascii=False))
    else:
        _show(places, rows)


def _told(place: DeliveryPlace, stands: DeliveryCounts | None) -> dict[str, Any]:
    """Give one delivery as `--json` tells it. Every key is always present."""
    status = status_told(stands) if stands is not None else None
    return {
        "name": place.name,
        "station": place.station,
        "client": status and status["client"],
        "project": status and status["project"],
        "cycle": status and status["cycle"],
        "state": status and status["state"],
        "reason": status and status["reason"],
        "local_directory": place.local_directory,
        "endpoint_url": place.endpoint_url or None,
        "bucket_name": place.bucket_name,
        "s3_prefix": place.s3_prefix,
        "session_id": place.session_id,
        "last_sweep_at": iso(place.last_sweep_ended_at),
        "last_complete_sweep_at": iso(place.last_complete_sweep_at),
        "counts": status and status["counts"],
    }


def _show(places: Sequence[DeliveryPlace], rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not places:
        click.echo("no deliveries yet: sensordropd has not run on this ledger")
        return
    zone = local_zone()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("delivery", "state", "folder", "goes to", "last swept"):
        table.add_column(name, overflow="fold")
    for place, told in zip(places, rows, strict=True):
        target = f"{place.bucket_name}/{place.s3_prefix}".rstrip("/")
        at = f" at {place.endpoint_url}" if place.endpoint_url else ""
        table.add_row(
            Text(printable(place.name)),
            Text(told["state"] or "unknown"),
            Text(printable(place.local_directory)),
            Text(printable(target + at)),
            clock(place.last_sweep_ended_at, zone) or "never",
        )
    Console(file=sys.stdout, highlight=False).print(table)
