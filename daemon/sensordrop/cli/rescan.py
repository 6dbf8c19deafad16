"""`sensordrop rescan`: have a delivery's folder swept now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from sensordrop.cli.controls import check_place, station_of, whoever_calls
from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.core.controls import ControlKind, Rescan
from sensordrop.core.terminal import printable
from sensordrop.ports import DeliveryCounts


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
    r"""Have the folder of a DELIVERY swept now, or those of all of this station.

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
    place = find_place(config, local, database)
    station = station_of(place)
    value = Rescan.CONFIRM_VANISHED if confirm_vanished else Rescan.SWEEP
    with ledger_at(place) as ledger:
        ledger.check()
        known = [each.delivery for each in ledger.settings_in_force(ControlKind.RESCAN, station)]
        check_place(known, station, delivery)
        names = [delivery] if delivery else [name for name in known if name is not None]
        for name in names:
            ledger.set_control(
                ControlKind.RESCAN,
                value.value,
                station=station,
                delivery=name,
                set_by=whoever_calls(),
            )
        found = [each for each in ledger.status(station) if each.name in names]
    _tell(found, station, as_json=as_json)


def _tell(found: Sequence[DeliveryCounts], station: str, *, as_json: bool) -> None:
    running = any(each.daemon_alive for each in found)
    if as_json:
        told = {"station": station, "rescan": [d.name for d in found], "running": running}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for each in found:
        line = f"delivery {printable(each.name)}: a sweep is asked for"
        if each.daemon_alive and each.state == "offline":
            line += f"; it is offline now: {printable(each.reason or '')}"
        click.echo(line)
    if not running:
        click.echo("sensordropd is not running: it sweeps at its next start")
