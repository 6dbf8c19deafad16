"""`sensordrop logs`: what the daemon wrote into systemd's journal, with the right filter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence

import click

from sensordrop.core.terminal import printable
from sensordrop.exits import Exit

UNIT = "sensordropd"
PRIORITIES = ("debug", "info", "warning", "error")
LINES = 200
"""Lines that are shown where nothing says since when."""
NO_FILES = "No journal files were"
"""How journalctl begins to say that there is no journal, or none for this user."""


@click.command()
@click.option("--delivery", metavar="NAME", help="What was logged of this delivery.")
@click.option(
    "--session-id", "--session", "session_id", type=click.IntRange(min=1), metavar="N",
    help="What was logged of this session.",
)  # fmt: skip
@click.option(
    "--priority", "-p", type=click.Choice(PRIORITIES), help="This and what is more urgent."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is logged from now on.")
@click.option(
    "--since", metavar="TIME", help="From then on: today, '2 hours ago', '2026-11-21 08:00'."
)
@click.option(
    "--lines", "-n", type=click.IntRange(1, 1_000_000), metavar="N",
    help=f"The last so many. Default: {LINES}, or all with --since.",
)  # fmt: skip
@click.option("--unit", default=UNIT, show_default=True, metavar="NAME", help="The service's name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every field, by line.")
def command(
    delivery: str | None,
    session_id: int | None,
    priority: str | None,
    follow: bool,
    since: str | None,
    lines: int | None,
    unit: str,
    as_json: bool,
) -> None:
    """Show what the daemon logged, from systemd's journal.

    It calls journalctl, whose words these are. Exits with 1 where there is no journal, and with 4
    where it is not for this user (the groups adm and systemd-journal may read it).

    \b
    Examples:
      sensordrop logs --follow
      sensordrop logs --delivery highlands-c2 --priority warning --since today
      sensordrop logs --session-id 12 --json
    """
    program = shutil.which("journalctl")
    if program is None:
        click.echo(
            "there is no journal here: journalctl is not installed. Look where sensordropd's "
            "output goes (`docker logs`, a file), which log_format shapes",
            err=True,
        )
        sys.exit(Exit.FAILED)
    arguments = journal_arguments(
        unit=unit,
        delivery=delivery,
        session_id=session_id,
        priority=priority,
        follow=follow,
        since=since,
        lines=lines,
        as_json=as_json,
    )
    sys.stdout.flush()
    sys.exit(_run([program, *arguments]))


def journal_arguments(
    *,
    unit: str = UNIT,
    delivery: str | None = None,
    session_id: int | None = None,
    priority: str | None = None,
    follow: bool = False,
    since: str | None = None,
    lines: int | None = None,
    as_json: bool = False,
) -> list[str]:
    """Say what journalctl is to be asked. Pure."""
    asked = [f"--unit={unit}"]
    if priority is not None:
        asked.append(f"--priority={'err' if priority == 'error' else priority}")
    if since is not None:
        asked.append(f"--since={since}")
    if lines is None and since is None:
        lines = LINES
    if lines is not None:
        asked.append(f"--lines={lines}")
    if follow:
        asked.append("--follow")
    if as_json:
        asked.append("--output=json")
    if delivery is not None:
        asked.append(f"DELIVERY={delivery}")
    if session_id is not None:
        asked.append(f"SESSION={session_id}")
    return asked


def _run(arguments: Sequence[str]) -> int:
    """Have journalctl write to where we do, and say how it ended."""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            told = process.stderr.read().decode("utf-8", "replace").strip()
            code = process.wait()
        except KeyboardInterrupt:  # it got the same Ctrl-C: that is how one ends --follow
            process.wait()
            return Exit.DONE
    if told:
        click.echo("\n".join(printable(line) for line in told.splitlines()), err=True)
    if NO_FILES in told:
        if "permission" in told:
            return Exit.NOT_PERMITTED
        click.echo(
            "there is no journal on this machine: look where sensordropd's output goes, which "
            "log_format shapes",
            err=True,
        )
        return Exit.FAILED
    return Exit.DONE if code == 0 else Exit.FAILED
