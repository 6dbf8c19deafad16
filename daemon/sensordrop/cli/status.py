"""`sensordrop status`: how every delivery stands."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import click

from sensordrop.cli.place import find_place, ledger_at, place_options
from sensordrop.core.terminal import printable
from sensordrop.ports import DeliveryCounts
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


@click.command()
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path | None, local: Path | None, database: str | None, as_json: bool) -> None:
    """Show how every delivery stands: its state, and its files by state.

    Example:  sensordrop status --local ~/sensordrop-try
    """
    place = find_place(config, local, database)
    with ledger_at(place) as ledger:
        ledger.check()
        deliveries = ledger.status(place.station)
    if as_json:
        told = {
            "version": VERSION,
            "station": place.station,
            "deliveries": [as_told(d) for d in deliveries],
        }
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        _show(deliveries)


def as_told(delivery: DeliveryCounts) -> dict[str, Any]:
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
    }


def _show(deliveries: Sequence[DeliveryCounts]) -> None:
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
    for delivery in deliveries:
        told = as_told(delivery)
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
