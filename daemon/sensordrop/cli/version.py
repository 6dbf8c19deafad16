"""`sensordrop version`."""

from __future__ import annotations

import json

import click

from sensordrop.version import VERSION


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say which version this is."""
    click.echo(json.dumps({"version": VERSION}) if as_json else f"sensordrop {VERSION}")
