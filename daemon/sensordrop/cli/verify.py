"""`sensordrop verify`: is everything that was stored still there, and as it was?"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sensordrop.cli.asking import counted
from sensordrop.cli.place import ledger_options
from sensordrop.core.terminal import printable
from sensordrop.core.verification import DeliveryReport, Verdict, verdict
from sensordrop.exits import Exit

if TYPE_CHECKING:
    from sensordrop.engine.verifier import VerifyOptions

SHOWN = 50
"""Problems that are shown to a person; --json gives more."""

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")


def _share(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = _SHARE.fullmatch(value.strip())
    share = float(found.group(1)) / 100 if found else 0.0
    if not 0.0 < share <= 1.0:
        raise click.BadParameter(f"{value!r} is not a share such as 5%, above 0% and up to 100%")
    return share


@click.command()
@ledger_options
@click.option("--delivery", metavar="NAME", help="Verify this delivery alone.")
@click.option(
    "--session-id", "--session", "session_id", type=int, metavar="N",
    help="Verify what was stored in this session.",
)  # fmt: skip
@click.option("--sensor", metavar="SERIAL", help="Verify the files of this sensor.")
@click.option("--source", is_flag=True, help="Hash the files that are still on the disk, too.")
@click.option("--download", is_flag=True, help="Read the objects back and hash their bytes.")
@click.option(
    "--sample", metavar="SHARE", callback=_share,
    help="Look closer at so many only, chosen by chance: 5%.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    session_id: int | None,
    sensor: str | None,
    source: bool,
    download: bool,
    sample: float | None,
    as_json: bool,
) -> None:
    """Compare what the ledger says is stored with what the store has.

    Every stored object is compared by size and by the ETag that the store gave when it was
    stored; --download reads the bytes back, --source hashes the files on disk. The folder is
    compared with the ledger too. SAFE means: every file that is there is stored, and every
    object is as it was. Works whether sensordropd runs or not, and changes no object.

    Exits with 0 if SAFE, 1 if NOT SAFE, 2 for wrong use or configuration, 3 without a ledger.

    Example:  sensordrop verify --delivery highlands-c2 --download --sample 5%
    """
    if local is not None and (config or database):
        raise click.UsageError("--local says where everything is; leave the others out")
    from sensordrop.cli.verify_run import VerifyRun
    from sensordrop.engine.verifier import VerifyOptions

    options = VerifyOptions(
        session_id=session_id, sensor=sensor, source=source, download=download, sample=sample
    )
    run = VerifyRun(config=config, local=local, database=database, progress=_tell)
    reports = run.go(options, only=delivery)
    if as_json:
        click.echo(json.dumps(as_told(reports, options), ensure_ascii=False))
    else:
        _show(reports, options)
    sys.exit(Exit.DONE if verdict(reports) is Verdict.SAFE else Exit.FAILED)


def as_told(reports: Sequence[DeliveryReport], options: VerifyOptions) -> dict[str, Any]:
    """Give the reports as `--json` tells them. Every key is always present."""
    problems = [
        {"delivery": report.delivery, "path": problem.path, "reason": problem.reason}
        for report in reports
        for problem in report.problems
    ]
    return {
        "verdict": verdict(reports).value,
        "problems": problems,
        "problems_left_out": sum(report.problem_count for report in reports) - len(problems),
        "scope": {
            "session_id": options.session_id,
            "sensor": options.sensor,
            "source": options.source,
            "download": options.download,
            "sample": options.sample,
        },
        "deliveries": [_delivery(report) for report in reports],
    }


def _delivery(report: DeliveryReport) -> dict[str, Any]:
    return {
        "name": report.delivery,
        "files": report.files,
        "bytes": report.size_bytes,
        "checked": dict(report.checked),
        "missing": report.missing,
        "different": report.different,
        "unchecked": report.unchecked,
        "source": {"same": report.source_same, "gone": report.source_gone},
        "extra": report.extra,
        "extra_objects": [
            {"key": each.key, "bytes": each.size_bytes} for each in report.extras
        ],
    }  # fmt: skip


def _tell(words: str) -> None:
    click.echo(words, err=True)


def _show(reports: Sequence[DeliveryReport], options: VerifyOptions) -> None:
    for report in reports:
        click.secho(printable(report.delivery), bold=True)
        checked = ", ".join(f"{n:,} by {how}" for how, n in report.checked.items() if n)
        objects = counted(report.files, "object")
        click.echo(f"  stored      {objects}, {report.size_bytes:,} bytes")
        click.echo(f"  verified    {checked or 'none'}")
        for name in ("missing", "different", "unchecked"):
            number = getattr(report, name)
            if number:
                click.echo(click.style(f"  {name:<11} {number:,}", fg="red"))
        if options.source:
            click.echo(f"  on disk     {report.source_same:,} the same, "
                       f"{report.source_gone:,} no longer there")  # fmt: skip
        if report.extra:
            click.echo(f"  extra       {report.extra:,} objects that the ledger doesn't know, such "
                       f"as {printable(report.extras[0].key)}")  # fmt: skip
        for problem in report.problems[:SHOWN]:
            about = f"{printable(problem.path)}: " if problem.path else ""
            click.echo(f"  ✗ {about}{printable(problem.reason)}")
        if report.problem_count > SHOWN:
            click.echo(f"  … and {report.problem_count - SHOWN:,} more (--json lists them)")
    found = verdict(reports)
    colour = "green" if found is Verdict.SAFE else "red"
    about = _about(options)
    click.echo(click.style(found.value, fg=colour, bold=True) + (f" ({about})" if about else ""))


def _about(options: VerifyOptions) -> str:
    """Say what a verdict is about, where that is less than all."""
    parts = []
    if options.session_id is not None:
        parts.append(f"session {options.session_id} alone")
    if options.sensor is not None:
        parts.append(f"sensor {printable(options.sensor)} alone")
    return ", ".join(parts)
