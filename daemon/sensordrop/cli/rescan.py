"""`sensordrop rescan`: have a delivery's folder swept now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.core.terminal import printable


@click.command()
@place_options
@click.argument("delivery", required=False)
@click.option(
    "--confirm-vanished",
    is_flag=True,
    help="Files that wait and are missing were removed on purpose: don't wait for them any longer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    confirm_vanished: bool,
    as_json: bool,
) -> None:
    """Have the folder of a DELIVERY swept now, or those of all of this station.

    A running daemon begins within two seconds; one that is not running does it at its next start.

    When many of the files that wait to be stored are missing from a folder, they are not taken for
    gone: it may be the wrong card, or the disk is not there. `sensordrop status` says so, and
    --confirm-vanished, for one delivery, ends the waiting. What is stored stays stored.

    \b
    Examples:
      sensordrop rescan
      sensordrop rescan highlands-c2
      sensordrop rescan highlands-c2 --confirm-vanished
    """
    if confirm_vanished and delivery is None:
        raise click.UsageError("--confirm-vanished needs the DELIVERY whose files are gone")
    with desk_at(find_place(config, local, database), changes=True) as desk:
        told = desk.ask("rescan", delivery=delivery, confirm_vanished=confirm_vanished)
    if as_json:
        shown = {key: told[key] for key in ("station", "rescan", "running")}
        click.echo(json.dumps(shown, ensure_ascii=False))
    else:
        _show(told)


def _show(told: dict[str, Any]) -> None:
    for each in told["deliveries"]:
        line = f"delivery {printable(each['name'])}: a sweep is asked for"
        if each["daemon_alive"] and each["state"] == "offline":
            line += f"; it is offline now: {printable(each['reason'] or '')}"
        click.echo(line)
    if not told["running"]:
        click.echo("sensordropd is not running: it sweeps at its next start")
