"""`sensordrop bandwidth`: show the limits of this station's uploads, or set one."""

from __future__ import annotations

import json
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import no_delivery
from sensordrop.cli.controls import clock_text, seconds_of
from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.config.bandwidth import limit_of
from sensordrop.control.service import CONFIGURED
from sensordrop.core.terminal import printable
from sensordrop.core.timetable import TEXT_LIMIT, TimetableError, rate_text


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
    """Show the bandwidth limits of this station, or set one.

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
    value, seconds = _checked(limit, duration, reason)
    with desk_at(find_place(config, local, database), changes=limit is not None) as desk:
        if value is None:
            told = desk.ask("bandwidth")
        else:
            told = desk.ask(
                "set_bandwidth", limit=value, delivery=delivery, for_seconds=seconds, reason=reason
            )
    limits = [each for each in told["limits"] if delivery in {None, each["delivery"]}]
    if not limits:
        names = [each["delivery"] for each in told["limits"] if each["delivery"] is not None]
        raise no_delivery(delivery or "", names, f" on station {told['station']!r}")
    if as_json:
        whole = {"station": told["station"], "limits": limits}
        click.echo(json.dumps(whole, ensure_ascii=False))
        return
    zone = local_zone()
    for each in limits:
        click.echo(_line(each, zone))
    if limit is not None and not told["running"]:
        click.echo("sensordropd is not running: it holds from its next start")


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
    limit: str | None, duration: str | None, reason: str
) -> tuple[str | None, float | None]:
    """Read what is to be set, or end the program with what is wrong with it."""
    if limit is None:
        if duration is not None or reason:
            raise click.UsageError("--for and --reason go with a LIMIT that is to be set")
        return None, None
    value = limit.strip()
    if value.lower() == CONFIGURED:
        if duration is not None:
            raise click.UsageError("'config' holds until something else is set: leave --for out")
        return value, None
    try:
        limit_of(value, local_zone())
    except TimetableError as error:
        raise click.UsageError(f"LIMIT {limit!r} can't be read: {error}") from error
    if len(reason) > TEXT_LIMIT:
        raise click.UsageError(f"--reason has more than {TEXT_LIMIT} characters")
    return value, seconds_of(duration)
