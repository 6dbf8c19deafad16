"""`sensordrop pause`: stop the uploads of a delivery, or of the whole station."""

from __future__ import annotations

import json
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import clock
from sensordrop.cli.controls import clock_text, seconds_of
from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.core.terminal import printable
from sensordrop.core.timetable import TEXT_LIMIT


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
    """Stop the uploads of a DELIVERY, or of all of this station.

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
    seconds = seconds_of(duration)
    with desk_at(find_place(config, local, database), changes=True) as desk:
        told = desk.ask("pause", delivery=delivery, for_seconds=seconds, reason=reason)
    tell_pauses(told, as_json=as_json)


def show_history(at: tuple[Path | None, Path | None, str | None], *, as_json: bool) -> None:
    """Tell who paused what, when, why, and who let it go on."""
    with desk_at(find_place(*at)) as desk:
        told = desk.ask("pause_history")
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    zone = local_zone()
    for each in told["pauses"]:
        what = "all" if each["delivery"] is None else printable(each["delivery"])
        ended = "until " + clock(each["until"], zone) if each["until"] else "not ended"
        if each["ended_at"] is not None:
            at_last = clock(each["ended_at"], zone)
            ended = f"ended {at_last} by {printable(each['ended_by'] or '')}"
        began = clock(each["set_at"], zone)
        words = f"{began}  {what}: by {printable(each['set_by'])}, {ended}"
        click.echo(f"{words}: {printable(each['reason'])}" if each["reason"] else words)
    if not told["pauses"]:
        click.echo("nothing was ever paused")


def tell_pauses(told: dict[str, Any], *, as_json: bool) -> None:
    """Tell what is paused now."""
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    zone = local_zone()
    for each in told["paused"]:
        click.echo(_line(each, zone))
    if not told["paused"]:
        click.echo("nothing is paused")
    if not told["running"]:
        click.echo("sensordropd is not running: it holds from its next start")


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
