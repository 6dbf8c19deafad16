"""`sensordrop report`: the field season at a glance, as text, JSON, or a page of HTML."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from sensordrop.cli.place import Place, find_place, ledger_at, ledger_options
from sensordrop.core.season import (
    CycleSensors,
    Season,
    SeasonFailure,
    SeasonScope,
    Standing,
    coverage,
    open_things,
)
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit
from sensordrop.version import VERSION

MOST_FAILURES = 500
"""Quarantined files that an overview lists; how many there are in all, it says."""
PAGE_MODE = 0o666
"""What a new page may be read by, less what the umask takes away; an old one's rights stay."""


@click.command()
@ledger_options
@click.option("--client", "clients", multiple=True, metavar="NAME", help="This client alone.")
@click.option("--project", "projects", multiple=True, metavar="NAME", help="This project alone.")
@click.option("--cycle", "cycles", multiple=True, metavar="NAME", help="This cycle alone.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE", help="Write the overview as one page of HTML; - is standard output.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    clients: tuple[str, ...],
    projects: tuple[str, ...],
    cycles: tuple[str, ...],
    page: Path | None,
    as_json: bool,
) -> None:
    """Show how the field season stands: what is stored, what is not safe yet, which sensor has
    which days.

    It is about all stations that write into the ledger. The page of --html is one file without
    any script, to be mailed, printed, or put on a web server. --client, --project and --cycle
    may be given several times. None of this is a verdict on a card: `sensordrop receipt` gives it.

    Exits with 0 if the overview was made, whatever it says, 1 if it could not be written, 2 for
    wrong use or configuration, 3 without a ledger.

    Example:  sensordrop report --project highlands --html season.html
    """
    to_stdout = page is not None and str(page) == "-"
    if to_stdout and as_json:
        raise click.UsageError("--html - and --json both print: give --html a file")
    scope = SeasonScope(clients=clients, projects=projects, cycles=cycles)
    place = find_place(config, local, database)
    with ledger_at(place) as ledger:
        ledger.check()
        season = ledger.season(scope, most_failures=MOST_FAILURES)
        if not season.standings:
            _see_names(scope, ledger.season_names())
    if page is not None:
        html = _page(season, place, scope)
        if to_stdout:
            click.echo(html, nl=False)
            return
        _write(page, html)
    if as_json:
        click.echo(json.dumps(as_told(season, place), ensure_ascii=False))
    elif page is None:
        _show(season)
    else:
        click.echo(f"wrote {printable(str(page))}: {_summary(season)}")


def _see_names(scope: SeasonScope, known: Sequence[tuple[str, str, str]]) -> None:
    """See whether what was asked for is there at all. Raises UsageError where it is not."""
    from sensordrop.config.problem import did_you_mean

    for at, (what, asked) in enumerate(
        (("client", scope.clients), ("project", scope.projects), ("cycle", scope.cycles))
    ):
        names = sorted({each[at] for each in known})
        for name in asked:
            if name not in names:
                meant = did_you_mean(name, names)
                raise click.UsageError(
                    f"no delivery has the {what} {name!r}"
                    + (f" — {meant}" if meant else f"; there are: {', '.join(names) or 'none'}")
                )
    if known:
        raise click.UsageError("no delivery has all of what was asked for together")


def ledger_words(place: Place) -> str:
    """Say which ledger it is, without its password."""
    from sensordrop.config.addresses import masked

    address = place.config.database
    return f"embedded in {place.directory}" if address == "embedded" else masked(address)


def _page(season: Season, place: Place, scope: SeasonScope) -> str:
    from sensordrop.cli.report_page import PageFacts, page

    asked = {"client": scope.clients, "project": scope.projects, "cycle": scope.cycles}
    about = " · ".join(f"{what} {', '.join(names)}" for what, names in asked.items() if names)
    return page(season, PageFacts(ledger=ledger_words(place), version=VERSION, about=about))


def _write(path: Path, text: str) -> None:
    """Write a page so that whoever opens it meanwhile sees the old one or the new one, whole."""
    unfinished = None
    try:
        folder = path.resolve().parent
        descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name[:60]}.", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(unfinished, _rights(path))  # noqa: PTH101 — a name, as mkstemp gives it
        Path(unfinished).replace(path.resolve())
    except OSError as error:
        if unfinished is not None:
            Path(unfinished).unlink(missing_ok=True)
        click.echo(
            f"the page can't be written to {printable(str(path))}: {error.strerror} — name a file "
            "in a folder that you may write to",
            err=True,
        )
        sys.exit(Exit.FAILED)


def _rights(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return PAGE_MODE & ~mask


# --- JSON ---------------------------------------------------------------------------------


def as_told(season: Season, place: Place) -> dict[str, Any]:
    """Give the overview as `--json` tells it. Every key is always present."""
    return {
        "version": VERSION,
        "ledger": ledger_words(place),
        "generated_at": _moment(season.at),
        "not_safe_yet": sum(bool(open_things(each)) for each in season.standings),
        "deliveries": [_standing(each) for each in season.standings],
        "cycles": [
            {
                "client": store.client,
                "project": store.project,
                "cycle": store.cycle,
                "types": {
                    kind: {"files": amount.files, "bytes": amount.bytes}
                    for kind, amount in store.by_type.items()
                },
            }
            for store in season.stores
        ],
        "coverage": [_coverage(each) for each in season.cycles],
        "failures": [_failure(each) for each in season.failures],
    }


def _standing(each: Standing) -> dict[str, Any]:
    return {
        "name": each.delivery,
        "client": each.client,
        "project": each.project,
        "cycle": each.cycle,
        "station": each.station,
        "bucket": each.bucket,
        "state": each.state,
        "reason": each.reason,
        "daemon_alive": each.daemon_alive,
        "stored": {"files": each.stored_files, "bytes": each.stored_bytes},
        "waiting": {"files": each.waiting_files, "bytes": each.waiting_bytes},
        "settling": each.settling_files,
        "failed": {"files": each.failed_files, "bytes": each.failed_bytes},
        "mismatched": each.mismatched_objects,
        "last_success_at": _moment(each.last_success_at),
        "last_complete_sweep_at": _moment(each.last_complete_sweep_at),
        "last_sweep_problem": each.last_sweep_problem,
        "files_per_second": each.files_per_second,
        "eta": _moment(each.eta),
        "open": [{"kind": thing.kind.value, "words": thing.words} for thing in open_things(each)],
    }


def _coverage(each: CycleSensors) -> dict[str, Any]:
    laid = coverage(each.sensors)
    usual = None if laid is None else laid.usual_files
    return {
        "client": each.client,
        "project": each.project,
        "cycle": each.cycle,
        "left_out": each.left_out,
        "usual_files": usual,
        "sensors": [
            {
                "sensor": row.sensor,
                "gap_days": row.gap_days,
                "days": {
                    day.isoformat(): {
                        "files": amount.files, "bytes": amount.bytes, "failed": amount.failed,
                    }
                    for day, amount in sorted(each.sensors[row.sensor].items())
                },
            }
            for row in (laid.rows if laid is not None else ())
        ],
    }  # fmt: skip


def _failure(each: SeasonFailure) -> dict[str, Any]:
    return {
        "client": each.client,
        "project": each.project,
        "delivery": each.delivery,
        "sensor": each.sensor,
        "path": each.path,
        "class": each.error_class,
        "error": each.error,
        "attempts": each.attempts,
        "failed_at": _moment(each.failed_at),
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")


# --- text ---------------------------------------------------------------------------------


def _summary(season: Season) -> str:
    number = sum(bool(open_things(each)) for each in season.standings)
    if not season.standings:
        return "no deliveries yet"
    if not number:
        return "nothing is known to be open"
    return f"{number:,} of {len(season.standings):,} deliveries not safe yet"


def _show(season: Season) -> None:
    from sensordrop.cli.demo_progress import size_text

    stored: Mapping[str, int] = {
        "files": sum(each.stored_files for each in season.standings),
        "bytes": sum(each.stored_bytes for each in season.standings),
    }
    for each in season.standings:
        things = open_things(each)
        mark = click.style("✗", fg="red") if things else click.style("·", dim=True)
        where = f"{each.client} / {each.project} / {each.cycle} / {each.delivery}"
        click.echo(
            f"{mark} {printable(where)}: {each.stored_files:,} of {each.known_files:,} files stored"
        )
        for thing in things:
            click.echo(f"    {printable(thing.words)}")
    click.echo(f"{stored['files']:,} files stored, {size_text(stored['bytes'])}")
    click.secho(_summary(season), bold=True)
