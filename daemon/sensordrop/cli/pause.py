"""`sensordrop pause`: stop the uploads of a delivery, or of the whole station."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.controls import (
    check_place,
    clock_text,
    seconds_of,
    station_of,
    whoever_calls,
)
from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.core.controls import PAUSED, ControlKind
from sensordrop.core.terminal import printable
from sensordrop.core.timetable import TEXT_LIMIT
from sensordrop.ports import SettingInForce


@click.command()
@place_options
@click.argument("delivery", required=False)
@click.option(
    "--for", "duration", metavar="TIME", help="For so long: 90m, 2h, 3d. Then it goes on."
)
@click.option("--reason", default="", help="Why, for those who look later.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    duration: str | None,
    reason: str,
    as_json: bool,
) -> None:
    r"""Stop the uploads of a DELIVERY, or of all of this station.

    Running transfers are broken off within two seconds; large files go on later with the parts
    that are missing, and no attempt is used up. New files still come on the books. A pause
    survives restarts; it can be set while the daemon is down.

    \b
    Examples:
      sensordrop pause
      sensordrop pause highlands-c2 --for 2h --reason "the link is needed for a call"
    """
    if len(reason) > TEXT_LIMIT:
        raise click.UsageError(f"--reason has more than {TEXT_LIMIT} characters")
    set_pause(
        (config, local, database), delivery, PAUSED, seconds_of(duration), reason, as_json=as_json
    )


def set_pause(
    at: tuple[Path | None, Path | None, str | None],
    delivery: str | None,
    value: str | None,
    seconds: float | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """Set a pause (or end it: `value` None), and tell what is paused then."""
    place = find_place(*at)
    station = station_of(place)
    with ledger_at(place) as ledger:
        ledger.check()
        known = [each.delivery for each in ledger.settings_in_force(ControlKind.PAUSE, station)]
        check_place(known, station, delivery)
        ledger.set_control(
            ControlKind.PAUSE,
            value,
            station=station,
            delivery=delivery,
            set_by=whoever_calls(),
            for_seconds=seconds,
            reason=reason,
        )
        found = ledger.settings_in_force(ControlKind.PAUSE, station)
        running = any(each.daemon_alive for each in ledger.status(station))
    _tell(found, station, local_zone(), running=running, as_json=as_json)


def _tell(
    found: Sequence[SettingInForce], station: str, zone: tzinfo, *, running: bool, as_json: bool
) -> None:
    paused = [as_told(each) for each in found if each.control is not None]
    if as_json:
        click.echo(json.dumps({"station": station, "paused": paused}, ensure_ascii=False))
        return
    for told in paused:
        click.echo(_line(told, zone))
    if not paused:
        click.echo("nothing is paused")
    if not running:
        click.echo("sensordropd is not running: it holds from its next start")


def as_told(found: SettingInForce) -> dict[str, Any]:
    """Give one pause as `pause --json` tells it. Every key is always present."""
    control = found.control
    assert control is not None
    return {
        "delivery": found.delivery,
        "set_by": control.set_by,
        "set_at": control.set_at.isoformat(timespec="seconds"),
        "until": control.until.isoformat(timespec="seconds") if control.until else None,
        "reason": control.reason,
    }


def _line(told: dict[str, Any], zone: tzinfo) -> str:
    """Write one pause for people."""
    what = (
        "all uploads of this station"
        if told["delivery"] is None
        else f"delivery {printable(told['delivery'])}"
    )
    words = f"{what}: paused by {printable(told['set_by'])} at {clock_text(told['set_at'], zone)}"
    if told["until"]:
        words += f", until {clock_text(told['until'], zone)}"
    return f"{words}: {printable(told['reason'])}" if told["reason"] else words
