"""`sensordrop status`: how every delivery stands."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from shlex import quote
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.controls import clock_text
from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.config.bandwidth import limit_of
from sensordrop.core.bandwidth import Limit
from sensordrop.core.controls import ControlKind
from sensordrop.core.progress import SessionProgress, seconds_left
from sensordrop.core.terminal import printable
from sensordrop.core.timetable import TimetableError, rate_text
from sensordrop.ports import DeliveryCounts, OpenBreaker, SettingInForce
from sensordrop.version import VERSION

COUNTED = (
    "settling",
    "pending",
    "uploading",
    "uploaded",
    "skipped",
    "failed",
    "superseded",
    "vanished",
    "ignored",
)


Limits = Mapping[str | None, Limit]
"""The bandwidth limits that hold: the station's (None) and those of deliveries by name."""
NO_LIMITS: Limits = {}


@click.command()
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path | None, local: Path | None, database: str | None, as_json: bool) -> None:
    """Show how every delivery stands: its state, and its files by state.

    Example:  sensordrop status --local ~/sensordrop-try
    """
    place = find_place(config, local, database)
    limits = NO_LIMITS
    with ledger_at(place) as ledger:
        ledger.check()
        deliveries = ledger.status(place.station)
        breakers = ledger.open_breakers(place.station)
        if place.station is not None and any(d.progress is not None for d in deliveries):
            settings = ledger.settings_in_force(ControlKind.BANDWIDTH, place.station)
            limits = limits_of(settings, local_zone())
    told = [as_told(delivery, limits) for delivery in deliveries]
    if as_json:
        whole = {
            "version": VERSION,
            "station": place.station,
            "deliveries": told,
            "breakers": [_breaker(each) for each in breakers],
        }
        click.echo(json.dumps(whole, ensure_ascii=False))
    else:
        _show(deliveries, told)
        for each in breakers:
            click.echo(_breaker_words(each))


def limits_of(settings: Sequence[SettingInForce], local: tzinfo) -> Limits:
    """Read the limits in force. One that can't be read here is left out: an estimate does without."""
    found = {}
    for setting in settings:
        text = setting.configured if setting.control is None else setting.control.value
        with suppress(TimetableError):
            found[setting.delivery] = limit_of(text, local)
    return found


def as_told(delivery: DeliveryCounts, limits: Limits = NO_LIMITS) -> dict[str, Any]:
    """Give one delivery as `status --json` tells it. Every key is always present."""
    files = {state: counts[0] for state, counts in delivery.counts.items()}
    sizes = {state: counts[1] for state, counts in delivery.counts.items()}
    waiting = files.get("pending", 0)
    uploading = min(delivery.uploading, waiting)
    counts = dict.fromkeys(COUNTED, 0) | files
    counts |= {
        "settling": delivery.settling,
        "pending": waiting - uploading,
        "uploading": uploading,
    }
    state, reason = delivery.state or "offline", delivery.reason
    if not delivery.enabled:
        state, reason = "disabled", "not in the configuration, or enabled is false there"
    elif not delivery.daemon_alive:
        reason = "sensordropd is not running" + (f" ({reason})" if reason else "")
    return {
        "name": delivery.name,
        "client": delivery.client,
        "project": delivery.project,
        "cycle": delivery.cycle,
        "state": state,
        "reason": reason,
        "counts": {name: counts[name] for name in COUNTED},
        "bytes": {"pending": sizes.get("pending", 0), "uploaded": sizes.get("uploaded", 0)},
        "mismatches": delivery.mismatches,
        "session": None
        if delivery.session_id is None or delivery.session_started_at is None
        else {
            "id": delivery.session_id,
            "started_at": delivery.session_started_at.isoformat(timespec="seconds"),
        },
        "progress": None
        if delivery.progress is None
        else _progress(
            delivery.progress, [limits[of] for of in (None, delivery.name) if of in limits]
        ),
    }


def _progress(progress: SessionProgress, limits: Sequence[Limit]) -> dict[str, Any]:
    now = datetime.now(UTC)
    seconds = seconds_left(progress, at=now, limits=limits)
    eta = None if seconds is None else now + timedelta(seconds=seconds)
    return {
        "files": progress.total,
        "finished": progress.total - progress.files_left,
        "bytes": progress.bytes,
        "bytes_left": progress.bytes_left,
        "share": round(progress.share, 6),
        "files_per_second": round(progress.files_per_second, 3),
        "bytes_per_second": round(progress.bytes_per_second),
        "seconds_left": None if seconds is None else round(seconds),
        "eta": None if eta is None else eta.isoformat(timespec="seconds"),
    }


def _progress_line(told: dict[str, Any], zone: tzinfo) -> str:
    """Tell for people how far a session is: numbers, speed, and when it ends."""
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


def _breaker(breaker: OpenBreaker) -> dict[str, Any]:
    """Give what stops all uploads of a scope as `status --json` tells it."""
    return {
        "station": breaker.station,
        "scope": breaker.scope,
        "target": breaker.target,
        "error_class": breaker.error_class,
        "reason": breaker.problem,
        "hint": breaker.hint,
        "failures": breaker.failures,
        "opened_at": breaker.opened_at.isoformat(timespec="seconds"),
        "next_probe_at": breaker.probe_at.isoformat(timespec="seconds"),
    }


def _breaker_words(breaker: OpenBreaker) -> str:
    zone = local_zone()
    return (
        f"stopped: {breaker.scope} {printable(breaker.target)}: {breaker.error_class} since "
        f"{breaker.opened_at.astimezone(zone):%H:%M:%S}, "
        f"tried again at {breaker.probe_at.astimezone(zone):%H:%M:%S}"
    )


def _show(deliveries: Sequence[DeliveryCounts], all_told: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not deliveries:
        click.echo("no deliveries yet: sensordropd has not run on this ledger")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("delivery")
    table.add_column("state")
    for name in ("waiting", "uploading", "stored", "skipped", "failed", "ignored"):
        table.add_column(name, justify="right")
    reasons = []
    zone = local_zone()
    for delivery, told in zip(deliveries, all_told, strict=True):
        counts = told["counts"]
        waiting = counts["settling"] + counts["pending"]
        numbers = (
            waiting,
            counts["uploading"],
            counts["uploaded"],
            counts["skipped"],
            counts["failed"],
            counts["ignored"],
        )
        cells = [Text(f"{number:,}", style="red" if at == 4 and number else "")
                 for at, number in enumerate(numbers)]  # fmt: skip
        state = told["state"] if delivery.daemon_alive or not delivery.enabled else "not running"
        table.add_row(Text(printable(told["name"])), state, *cells)
        if told["progress"]:
            line = _progress_line(told["progress"], zone)
            reasons.append(f"{printable(told['name'])}: session {told['session']['id']}: {line}")
        if delivery.mismatches:
            reasons.append(
                f"{printable(told['name'])}: {delivery.mismatches:,} stored objects are missing or "
                f"different in the bucket: sensordrop verify --delivery {quote(told['name'])}"
            )
        if told["reason"]:
            reasons.append(f"{printable(told['name'])}: {printable(told['reason'])}")
    Console(file=sys.stdout, highlight=False).print(table)
    for line in reasons:
        click.echo(line)
