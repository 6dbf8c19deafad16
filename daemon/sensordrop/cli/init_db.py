"""`sensordrop init-db`: make or upgrade the ledger's tables."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sensordrop.cli.place import find_place, ledger_at, ledger_options


@click.command()
@ledger_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path | None, local: Path | None, database: str | None, as_json: bool) -> None:
    """Make the ledger's tables, or bring them up to this version.

    The daemon does the same when it starts; this is for those who want to see it done first.
    Safe to repeat: what is there already stays as it is.

    Example:  sensordrop init-db --database postgresql://sensordrop@db.example.org/sensordrop
    """
    with ledger_at(find_place(config, local, database, whole=True), make=True) as ledger:
        applied = ledger.migrate()
        advice = ledger.reader_advice()
    if as_json:
        click.echo(json.dumps({"applied": applied, "advice": advice}))
        return
    if applied:
        click.echo("the ledger is ready; applied: " + ", ".join(applied))
    else:
        click.echo("the ledger is ready; nothing was missing")
    if advice:
        click.echo(advice)
