"""`sensordrop resume`: let uploads go on that were paused by hand."""

from __future__ import annotations

from pathlib import Path

import click

from sensordrop.cli.desk import desk_at
from sensordrop.cli.pause import tell_pauses
from sensordrop.cli.place import find_place, place_options


@click.command()
@place_options
@click.argument("delivery", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    as_json: bool,
) -> None:
    """End the pause of a DELIVERY, or that of this station.

    A delivery goes on only when neither it nor its station is paused: what still holds is shown.
    """
    with desk_at(find_place(config, local, database), changes=True) as desk:
        told = desk.ask("resume", delivery=delivery)
    tell_pauses(told, as_json=as_json)
