"""`sensordrop bandwidth`: show the limits of this station's uploads, or set one."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, tzinfo
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
from sensordrop.config.bandwidth import limit_of
from sensordrop.core.controls import ControlKind
from sensordrop.core.terminal import printable
from sensordrop.core.timetable import TEXT_LIMIT, TimetableError, rate_text
from sensordrop.exits import Exit
from sensordrop.ports import SettingInForce


@click.command()
@place_options
@click.argument("limit", required=False)
@click.option("--delivery", metavar="NAME", help="Of this delivery, not of all uploads together.")
@click.option("--for", "duration", metavar="TIME", help="For so long: 90m, 2h, 3d. Then as before.")
@click.option("--reason", default="", help="Why, for those who look later.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    limit: str | None,
    delivery: str | None,
    duration: str | None,
    reason: str,
    as_json: bool,
) -> None:
    r"""Show the bandwidth limits of this station, or set one.

    LIMIT is a rate, a timetable, `off` for no limit, or `config` to go back to what the
    configuration says. A running daemon takes it up within two seconds, and keeps it over
    restarts. Both limits hold, that of all uploads and that of a delivery: the smaller wins.

    \b
    Examples:
      sensordrop bandwidth
      sensordrop bandwidth 10M
      sensordrop bandwidth "20:00-06:00 full, else 10 MiB/s"
      sensordrop bandwidth 500K --delivery highlands-c2 --for 2h
      sensordrop bandwidth config
    """
    place = find_place(config, local, database)
    station = station_of(place)
    zone = local_zone()
    value, seconds = _checked(limit, duration, reason, zone)
    with ledger_at(place) as ledger:
        ledger.check()
        known = [each.delivery for each in ledger.settings_in_force(ControlKind.BANDWIDTH, station)]
        check_place(known, station, delivery)
        if limit is not None:
            ledger.set_control(
                ControlKind.BANDWIDTH,
                value,
                station=station,
                delivery=delivery,
                set_by=whoever_calls(),
                for_seconds=seconds,
                reason=reason,
            )
        found = ledger.settings_in_force(ControlKind.BANDWIDTH, station)
        running = any(each.daemon_alive for each in ledger.status(station))
    try:
        told = [as_told(each, zone) for each in found if delivery in {None, each.delivery}]
    except TimetableError as error:
        click.echo(f"a limit that was set can't be read here: {error}", err=True)
        sys.exit(Exit.FAILED)
    if as_json:
        click.echo(json.dumps({"station": station, "limits": told}, ensure_ascii=False))
    else:
        for line in told:
            click.echo(_line(line, zone))
        if limit is not None and not running:
            click.echo("sensordropd is not running: it holds from its next start")


def as_told(found: SettingInForce, zone: tzinfo) -> dict[str, Any]:
    """Give one limit as `bandwidth --json` tells it. Every key is always present."""
    control = found.control
    setting = control.value if control is not None else found.configured
    now = datetime.now(UTC)
    limit = limit_of(setting, zone)
    change = limit.next_change(now)
    rate = limit.rate(now)
    return {
        "delivery": found.delivery,
        "setting": setting or "off",
        "from": "command" if control is not None else "configuration",
        "configured": found.configured or "off",
        "bytes_per_second": None if rate is None else round(rate),
        "next_change": None if change is None else change[0].isoformat(timespec="seconds"),
        "next_bytes_per_second": None if change is None or change[1] is None else round(change[1]),
        "set_by": control.set_by if control is not None else None,
        "set_at": control.set_at.isoformat(timespec="seconds") if control is not None else None,
        "until": control.until.isoformat(timespec="seconds")
        if control is not None and control.until is not None
        else None,
        "reason": control.reason if control is not None else "",
    }


def _line(told: dict[str, Any], zone: tzinfo) -> str:
    """Write one limit for people."""
    of = "all uploads" if told["delivery"] is None else f"delivery {printable(told['delivery'])}"
    words = f"{of}: {_speed(told['bytes_per_second'])}"
    if told["next_change"]:
        then = _speed(told["next_bytes_per_second"])
        words += f" until {clock_text(told['next_change'], zone)}, then {then}"
    words += f"  ({printable(told['setting'])}"
    if told["from"] == "configuration":
        return words + ", as configured)"
    words += f", set by {printable(told['set_by'])} at {clock_text(told['set_at'], zone)}"
    if told["until"]:
        words += f", until {clock_text(told['until'], zone)}"
    if told["reason"]:
        words += f": {printable(told['reason'])}"
    return words + f"; configured: {printable(told['configured'])})"


def _speed(bytes_per_second: int | None) -> str:
    return "full speed" if bytes_per_second is None else rate_text(bytes_per_second)


def _checked(
    limit: str | None, duration: str | None, reason: str, zone: tzinfo
) -> tuple[str | None, float | None]:
    """Read what is to be set, or end the program with what is wrong with it."""
    if limit is None:
        if duration is not None or reason:
            raise click.UsageError("--for and --reason go with a LIMIT that is to be set")
        return None, None
    if limit.strip().lower() == "config":
        if duration is not None:
            raise click.UsageError("'config' holds until something else is set: leave --for out")
        return None, None
    try:
        limit_of(limit, zone)
    except TimetableError as error:
        raise click.UsageError(f"LIMIT {limit!r} can't be read: {error}") from error
    if len(reason) > TEXT_LIMIT:
        raise click.UsageError(f"--reason has more than {TEXT_LIMIT} characters")
    return limit.strip(), seconds_of(duration)
