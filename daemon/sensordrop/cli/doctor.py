"""`sensordrop doctor`: everything that uploads need, looked at, with what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from sensordrop.cli.place import ledger_options
from sensordrop.core.check import Check, CheckOutcome
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit
from sensordrop.version import VERSION

MARKS = {CheckOutcome.OK: "✓", CheckOutcome.NOTICE: "!", CheckOutcome.FAILED: "✗"}
PLAIN_MARKS = {CheckOutcome.OK: "ok  ", CheckOutcome.NOTICE: "note", CheckOutcome.FAILED: "FAIL"}
"""For terminals and files whose encoding has no such signs."""
COLOURS = {CheckOutcome.OK: "green", CheckOutcome.NOTICE: "yellow", CheckOutcome.FAILED: "red"}


@dataclass(frozen=True, kw_only=True)
class Section:
    """What was looked at for one delivery, or (None) for this machine as a whole."""

    delivery: str | None
    checks: Sequence[Check]


@click.command()
@ledger_options
@click.option("--delivery", metavar="NAME", help="Look at this delivery alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    as_json: bool,
) -> None:
    """Check everything that uploads need, and say what helps.

    Versions, configuration, ledger, disks; and for every delivery its folder and its bucket:
    credentials, rights, clock, what the store does, and uploads that nobody finished. Works
    while sensordropd is down. The store is asked with a few bytes under _sensordrop/probe.
    Called by root on the service's configuration it looks at folders with the rights of the
    service's user; else rights are those of whoever asks.

    Exits with 0 if nothing failed, 1 if something did, 2 for a wrong configuration, 3 without
    a ledger.

    Example:  sensordrop doctor --config /etc/sensordrop --delivery highlands-c2
    """
    if local is not None and (config or database):
        raise click.UsageError("--local says where everything is; leave the others out")
    from sensordrop.adapters.logs import configure
    from sensordrop.cli.doctor_rounds import Rounds

    configure("console", "error")
    with ExitStack() as stack:
        rounds = Rounds(config=config, local=local, database=database, stack=stack)
        sections = rounds.go(delivery)
    if as_json:
        click.echo(json.dumps(_as_told(sections), ensure_ascii=False))
    else:
        _show(sections)
    sys.exit(exit_code(sections))


def exit_code(sections: Sequence[Section]) -> Exit:
    """Say in a number what failed: the configuration before the ledger before all else."""
    names = {
        check.name
        for section in sections
        for check in section.checks
        if check.outcome is CheckOutcome.FAILED
    }
    if "configuration" in names:
        return Exit.USAGE
    if "ledger" in names:
        return Exit.NO_LEDGER
    return Exit.FAILED if names else Exit.DONE


def _as_told(sections: Sequence[Section]) -> dict[str, object]:
    return {
        "version": VERSION,
        "exit_code": int(exit_code(sections)),
        "checks": [
            {
                "delivery": section.delivery,
                "name": check.name,
                "outcome": check.outcome.value,
                "words": check.words,
                "hint": check.hint,
            }
            for section in sections
            for check in section.checks
        ],
    }


def _show(sections: Sequence[Section]) -> None:
    marks = MARKS if _speaks_utf8() else PLAIN_MARKS
    every = [check for section in sections for check in section.checks]
    width = max((len(check.name) for check in every), default=0)
    for section in sections:
        if section.delivery is not None:
            click.echo()
            click.secho(f"delivery {printable(section.delivery)}", bold=True)
        for check in section.checks:
            mark = click.style(marks[check.outcome], fg=COLOURS[check.outcome])
            click.echo(f"{mark} {check.name:<{width}}  {printable(check.words)}")
            if check.hint:
                click.echo(f"{' ' * (len(marks[check.outcome]) + 1)}{'':<{width}}  "
                           f"what to do: {printable(check.hint)}")  # fmt: skip
    bad = sum(check.outcome is CheckOutcome.FAILED for check in every)
    notices = sum(check.outcome is CheckOutcome.NOTICE for check in every)
    told = f"{notices} notice{'s' * (notices != 1)}"
    click.echo()
    click.echo(f"{bad} failed, {told}" if bad else f"nothing failed, {told}")


def _speaks_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
