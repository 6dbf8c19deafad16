"""`sensordrop upload`: one run by hand, without the daemon."""

from __future__ import annotations

from pathlib import Path

import click

from sensordrop.cli.asking import ended
from sensordrop.cli.hand import (
    Working,
    choose,
    delivery_flags,
    display_flags,
    exit_of,
    same_place,
)


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The delivery's file (JSON or YAML), or a configuration folder. "
    "Default: $SENSORDROP_CONFIG, then /etc/sensordrop.",
)
@click.option("--database", metavar="URL", help="The ledger: a postgresql:// URL.")
@click.option("--delivery", metavar="NAME", help="Which delivery of a configuration folder.")
@delivery_flags
@click.option(
    "--auto-retry/--no-auto-retry",
    default=True,
    show_default=True,
    help="Try files that fail again, and those that had failed before.",
)
@click.option(
    "--confirm-vanished",
    is_flag=True,
    help="Files that wait and are missing were removed on purpose: don't wait for them.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@display_flags
def command(
    config: Path | None,
    database: str | None,
    delivery: str | None,
    auto_retry: bool,
    confirm_vanished: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **flags: str | None,
) -> None:
    """Upload a folder now: sweep it, skip what is stored, send the rest, and end.

    It needs no daemon and no configuration folder: a file with the eight older keys is enough, or
    flags alone. Where no ledger is configured it keeps one in the user's data folder
    ($XDG_DATA_HOME/sensordrop). A running sensordropd that looks after the folder is asked to do it,
    and followed. Ctrl-C stops in order; the same command goes on where it stopped.

    Exits with 0 if everything that was found is stored, 1 if not, 2 for wrong use or configuration,
    3 without a ledger, 130 if it was interrupted.

    \b
    Examples:
      sensordrop upload --config highlands.json
      sensordrop upload --config highlands.json --dry-run
      sensordrop upload --local-directory /media/card --bucket-name highlands --s3-prefix C2
    """
    given = {key: value for key, value in flags.items() if value is not None}
    chosen = choose(config, database, delivery, given)
    working = Working(quiet=quiet, verbose=verbose, as_json=as_json)
    from sensordrop.by_hand import HandOptions

    options = HandOptions(dry_run=dry_run, auto_retry=auto_retry, confirm_vanished=confirm_vanished)
    result = working.run(chosen, options)
    working.display.sum_up(result, about=same_place(config, database), dry_run=dry_run)
    ended(exit_of(result))
