"""`sensordrop pause`: stop the uploads of a delivery, or of the whole station."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import clock, iso
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

HISTORY_LINES = 200
"""Pauses that are told: years of them, and never more than a person reads."""


@click.command()
@place_options
@click.argument("delivery", required=False)
@click.option(
    "--for", "duration", metavar="TIME", help="For so long: 90m, 2h, 3d. Then it goes on."
)
@click.option("--reason", default="", help="Why, for those who look later.")
@click.option("--history", is_flag=True, help="Show who paused what before; pause nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    duration: str | None,
    reason: str,
    history: bool,
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
      sensordrop pause --history
    """
    if history:
        if delivery or duration or reason:
            raise click.UsageError("--history shows the pauses of this station; leave the rest out")
        show_history((config, local, database), as_json=as_json)
        return
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


def show_history(at: tuple[Path | None, Path | None, str | None], *, as_json: bool) -> None:
    """Tell who paused what, when, why, and who let it go on."""
    place = find_place(*at)
    station = station_of(place)
    with ledger_at(place) as ledger:
        ledger.check()
        past = ledger.control_history(ControlKind.PAUSE, station, most=HISTORY_LINES)
    if as_json:
        told = [
            {
                "delivery": each.delivery,
                "reason": each.reason,
                "set_by": each.set_by,
                "set_at": iso(each.set_at),
                "until": iso(each.until),
                "ended_by": each.ended_by,
                "ended_at": iso(each.ended_at),
            }
            for each in past
        ]
        click.echo(json.dumps({"station": station, "pauses": told}, ensure_ascii=False))
        return
    zone = local_zone()
    for each in past:
        what = "all" if each.delivery is None else printable(each.delivery)
        ended = "until " + clock(each.until, zone) if each.until else "not ended"
        if each.ended_at is not None:
            ended = f"ended {clock(each.ended_at, zone)} by {printable(each.ended_by or '')}"
        words = f"{clock(each.set_at, zone)}  {what}: by {printable(each.set_by)}, {ended}"
        click.echo(f"{words}: {printable(each.reason)}" if each.reason else words)
    if not past:
        click.echo("nothing was ever paused")


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
