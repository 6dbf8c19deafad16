"""`sensordrop status`: how every delivery stands."""

from __future__ import annotations

import json
from datetime import datetime, tzinfo
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import counted
from sensordrop.cli.controls import clock_text
from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.cli.tables import show_table
from sensordrop.core.terminal import printable
from sensordrop.core.timetable import rate_text

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@place_options
@click.option("--watch", is_flag=True, help="Go on, once a second, until q or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one line each.")
def command(
    config: Path | None, local: Path | None, database: str | None, watch: bool, as_json: bool
) -> None:
    """Show how every delivery stands: its state, and its files by state.

    Example:  sensordrop status --local ~/sensordrop-try --watch
    """
    place = find_place(config, local, database)
    if watch:
        from sensordrop.cli.watching import keep_watching

        keep_watching(place, as_json=as_json)
        return
    with desk_at(place) as desk:
        told = desk.ask("status")
    show(told, as_json=as_json)


def show(told: dict[str, Any], *, as_json: bool) -> None:
    """Print how all stands."""
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    if told["deliveries"]:
        show_table(table_of(told))
    for line in remarks(told):
        click.echo(line)


def _progress_line(told: dict[str, Any], zone: tzinfo) -> str:
    """Tell for people how far a session is: numbers, speed, and when it ends."""
    if told["finished"] >= told["files"]:
        return f"all {told['files']:,} files are finished; it ends when no more come"
    line = f"{told['share']:.1%}, {told['finished']:,} of {told['files']:,} files"
    if not told["files_per_second"]:
        return line + "; nothing was finished in the last minutes"
    line += f", {told['files_per_second']:,.3g} files/s"
    if told["bytes_per_second"]:
        line += f", {rate_text(told['bytes_per_second'])}"
    if told["eta"] is None:
        return line
    return f"{line}; {_span(told['seconds_left'])} left, until {clock_text(told['eta'], zone)}"


def _span(seconds: int) -> str:
    """Write a time as its two largest units."""
    minutes = -(-seconds // 60)
    if seconds < 120:
        return f"{seconds} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"


def _breaker_words(breaker: dict[str, Any]) -> str:
    zone = local_zone()
    opened, probe = (
        datetime.fromisoformat(breaker[key]).astimezone(zone)
        for key in ("opened_at", "next_probe_at")
    )
    return (
        f"stopped: {breaker['scope']} {printable(breaker['target'])}: {breaker['error_class']} since "
        f"{opened:%H:%M:%S}, tried again at {probe:%H:%M:%S}"
    )


def table_of(told: dict[str, Any]) -> Table:
    """Give the deliveries and their numbers as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("delivery")
    table.add_column("state")
    for name in ("waiting", "uploading", "stored", "skipped", "failed", "ignored"):
        table.add_column(name, justify="right")
    for each in told["deliveries"]:
        counts = each["counts"]
        numbers = (
            counts["settling"] + counts["pending"],
            counts["uploading"],
            counts["uploaded"],
            counts["skipped"],
            counts["failed"],
            counts["ignored"],
        )
        cells = [Text(f"{number:,}", style="red" if at == 4 and number else "")
                 for at, number in enumerate(numbers)]  # fmt: skip
        known = each["daemon_alive"] or each["state"] == "disabled"
        table.add_row(
            Text(printable(each["name"])), each["state"] if known else "not running", *cells
        )
    return table


def remarks(told: dict[str, Any]) -> list[str]:
    """Give what there is to say beside the numbers."""
    if not told["deliveries"]:
        return ["no deliveries yet: sensordropd has not run on this ledger"]
    lines = []
    zone = local_zone()
    for each in told["deliveries"]:
        name = printable(each["name"])
        if each["progress"]:
            line = _progress_line(each["progress"], zone)
            lines.append(f"{name}: session {each['session']['id']}: {line}")
        if each["mismatches"]:
            lines.append(
                f"{name}: {counted(each['mismatches'], 'stored object')} missing or different in "
                f"the bucket: sensordrop verify --delivery {quote(each['name'])}"
            )
        for state, advice in (
            ("delayed", "tried again by itself"),
            ("failed", "not tried again"),
        ):
            if each["letters"][state]:
                lines.append(
                    f"{name}: {_letters(each['letters'][state])} not heard by the endpoint, "
                    f"{advice}: sensordrop sessions --delivery {quote(each['name'])}"
                )
        if each["reason"]:
            lines.append(f"{name}: {printable(each['reason'])}")
    lines += [_breaker_words(each) for each in told["breakers"]]
    return lines + [_refusal(each, zone) for each in told["configuration"] if each["problem"]]


def _letters(number: int) -> str:
    if number == 1:
        return "1 registration or notification"
    return f"{number:,} registrations or notifications"


def _refusal(configuration: dict[str, Any], zone: tzinfo) -> str:
    at = datetime.fromisoformat(configuration["refused_at"]).astimezone(zone)
    return (
        f"the configuration was refused at {at:%H:%M}, the one before is in force: "
        f"{printable(configuration['problem'])}"
    )
