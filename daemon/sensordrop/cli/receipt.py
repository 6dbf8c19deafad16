"""`sensordrop receipt`: can I wipe this card now? With a signed list of what is stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sensordrop.cli.asking import counted
from sensordrop.cli.place import find_place, ledger_options, receipt_directory
from sensordrop.core.receipt import FileClass
from sensordrop.core.terminal import printable
from sensordrop.core.verification import Verdict
from sensordrop.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sensordrop.engine.receipts import MadeReceipt

SHOWN = 50
"""Problems that are shown to a person; --json and the receipt's files give more."""


@click.group(invoke_without_command=True)
@ledger_options
@click.option("--delivery", metavar="NAME", help="The receipt of this delivery alone.")
@click.option("--sensor", metavar="SERIAL", help="The receipt of this sensor's files.")
@click.option("--each-sensor", is_flag=True, help="A receipt of each sensor's folder.")
@click.option(
    "--card", type=click.Path(path_type=Path), metavar="PATH",
    help="Compare this card, or any folder, with what is stored, by content.",
)  # fmt: skip
@click.option("--reread", is_flag=True, help="Hash the files in the folder again.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the receipt's page there, too.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    config: Path | None,
    local: Path | None,
    database: str | None,
    delivery: str | None,
    sensor: str | None,
    each_sensor: bool,
    card: Path | None,
    reread: bool,
    page: Path | None,
    as_json: bool,
) -> None:
    """Say whether a card or folder can be wiped now: SAFE, or NOT SAFE and why.

    The store is asked for every file at this moment, the folder is listed and compared. SAFE means
    that every file in it is stored; only junk and what `exclude` names may be absent. The receipt
    (manifest, list of all files, page, signature) is kept in the state directory, in the bucket
    below _sensordrop/receipts/, and in the ledger. Nothing in the folder is changed.

    Each sensor's folder has a verdict of its own in it; --each-sensor makes a receipt of each.
    --card hashes every file below PATH, whatever the folder is called.

    Exits with 0 if SAFE, 1 if NOT SAFE or there can be no receipt, 2 for wrong use or
    configuration, 3 without a ledger, 4 where the key may not be read.

    Example:  sensordrop receipt --card /media/card
    """
    ctx.obj = {"config": config, "local": local, "database": database}
    if ctx.invoked_subcommand is not None:
        return
    if local is not None and (config or database):
        raise click.UsageError("--local says where everything is; leave the others out")
    if card is not None and (sensor is not None or each_sensor or reread):
        raise click.UsageError(
            "--card reads every file of the card: leave --sensor, --each-sensor, --reread out"
        )
    if sensor is not None and each_sensor:
        raise click.UsageError("--sensor or --each-sensor, not both")
    from sensordrop.cli.receipt_run import ReceiptRun

    run = ReceiptRun(config=config, local=local, database=database, progress=_tell)
    with _told_troubles():
        if card is not None:
            made = [run.card(card, only=delivery)]
        else:
            made = run.deliveries(
                only=delivery, sensor=sensor, reread=reread, each_sensor=each_sensor
            )
    if page is not None:
        _copy_page(made, page)
    found = _verdict(made)
    if as_json:
        click.echo(json.dumps(as_told(made), ensure_ascii=False))
    else:
        for receipt in made:
            _show(receipt)
        colour = "green" if found is Verdict.SAFE else "red"
        click.secho(found.value, fg=colour, bold=True)
    sys.exit(Exit.DONE if found is Verdict.SAFE else Exit.FAILED)


@command.command("verify")
@ledger_options
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--public-key", metavar="KEY",
    help="Who must have signed it: ed25519:…, as `sensordrop receipt key` prints it. "
    "Default: this station's key.",
)  # fmt: skip
@click.option("--store", is_flag=True, help="Ask the store for every object of its manifest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify_command(
    place: dict[str, Any],
    /,
    file: Path,
    public_key: str | None,
    store: bool,
    as_json: bool,
    **own: Any,
) -> None:
    """See whether a receipt is as it was signed, and with --store, whether its objects are there.

    FILE is a receipt.json, or the folder that it is in. The files beside it are compared with what
    it says of them. With --store each object is looked at, and read back where its checksum does
    not prove its bytes.

    Exits with 0 if all is as it was and it says SAFE; 1 if anything is not, or it says NOT SAFE;
    2 for wrong use or configuration.
    """
    from sensordrop.cli.receipt_check import ReceiptCheck

    with _told_troubles():
        check = ReceiptCheck(**_nearer(place, own), progress=_tell)
        found = check.go(file, public_key=public_key, store=store)
    good = not found.problems
    verdict = found.verdict if good else Verdict.NOT_SAFE.value
    if as_json:
        told = {
            "verdict": verdict,
            "genuine": found.genuine,
            "problems": [{"path": p.path, "reason": p.reason} for p in found.problems],
            "digest": found.digest,
            "objects": found.objects,
        }
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        click.echo(f"receipt     {found.digest}")
        click.echo(f"signature   {'good' if found.genuine else 'NOT GOOD'}")
        if store:
            click.echo(f"objects     {found.objects:,} as they were stored")
        _show_problems([(p.path, p.reason) for p in found.problems], len(found.problems))
        if good:
            click.echo(f"It is as it was signed on {found.made_at}; then it said {found.verdict}.")
        else:
            click.secho("It does not hold.", fg="red", bold=True)
    sys.exit(Exit.DONE if verdict == Verdict.SAFE.value else Exit.FAILED)


@command.command("key")
@ledger_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def key_command(place: dict[str, Any], /, *, as_json: bool, **own: Any) -> None:
    """Print this station's public key, for those who verify its receipts elsewhere."""
    from sensordrop.adapters.receipt_key import receipt_key

    state = receipt_directory(find_place(**_nearer(place, own), whole=True))
    with _told_troubles():
        public = receipt_key(state).public
    click.echo(json.dumps({"public_key": public}) if as_json else public)


def _nearer(place: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Give the options that say which ledger is meant, wherever on the line they stood."""
    return {key: own[key] or place[key] for key in place}


def as_told(made: Sequence[MadeReceipt]) -> dict[str, Any]:
    """Give the receipts as `--json` tells them. Every key is always present."""
    problems = [
        {"delivery": each.document["scope"]["delivery"], **problem}
        for each in made
        for problem in each.document["problems"]
    ]
    return {
        "verdict": _verdict(made).value,
        "problems": problems,
        "problems_left_out": sum(each.document["problems_left_out"] for each in made),
        "receipts": [_receipt(each) for each in made],
    }


def _receipt(made: MadeReceipt) -> dict[str, Any]:
    document = made.document
    keys = (
        "verdict", "scope", "folder", "counts", "sensors", "compared", "gone", "conflicts",
        "ignored", "payload_oxum", "made_at", "reread",
    )  # fmt: skip
    return {
        "number": made.number,
        "digest": made.finished.digest,
        "kept_in": made.finished.folder,
        "object_key": made.object_key,
        "bucket_problem": made.bucket_problem,
        **{key: document[key] for key in keys},
    }


def _verdict(made: Sequence[MadeReceipt]) -> Verdict:
    safe = bool(made) and all(each.document["verdict"] == Verdict.SAFE for each in made)
    return Verdict.SAFE if safe else Verdict.NOT_SAFE


def _tell(words: str) -> None:
    click.echo(words, err=True)


@contextmanager
def _told_troubles() -> Iterator[None]:
    """End the program in words where there can be no receipt."""
    from sensordrop.adapters.receipt_key import KeyProblemError
    from sensordrop.engine.receipts import NoReceiptError

    try:
        yield
    except NoReceiptError as error:
        click.echo(printable(str(error)), err=True)
        sys.exit(Exit.FAILED)
    except KeyProblemError as error:
        click.echo(str(error), err=True)
        denied = isinstance(error.__cause__, PermissionError)
        sys.exit(Exit.NOT_PERMITTED if denied else Exit.FAILED)
    except PermissionError as error:
        click.echo(f"{error}: run this as the user of sensordropd, or as root", err=True)
        sys.exit(Exit.NOT_PERMITTED)
    except OSError as error:
        click.echo(f"the receipt could not be kept: {error}", err=True)
        sys.exit(Exit.FAILED)


def _copy_page(made: Sequence[MadeReceipt], page: Path) -> None:
    if len(made) != 1:
        raise click.UsageError("--html shows one receipt: say which with --delivery or --sensor")
    from sensordrop.core.receipt_form import PAGE

    try:
        page.write_bytes((Path(made[0].finished.folder) / PAGE).read_bytes())
    except OSError as error:
        click.echo(f"{page} could not be written: {error.strerror}", err=True)
        sys.exit(Exit.FAILED)


def _show(made: MadeReceipt) -> None:
    document = made.document
    scope = document["scope"]
    title = f"card {scope['card']}" if scope["card"] is not None else scope["delivery"]
    if scope["sensor"] is not None:
        title += f", sensor {scope['sensor'] or '(none)'}"
    click.secho(printable(title), bold=True)
    for each in FileClass:
        count = document["counts"][each.value]
        if count["files"] or each is FileClass.STORED:
            files = counted(count["files"], "file")
            click.echo(f"  {each.value:<12}{files}, {count['bytes']:,} bytes")
    for reason, number in document["ignored"].items():
        click.echo(f"              {number:,} {reason}")
    if document["gone"]:
        click.echo(f"  gone        {document['gone']:,} stored files are no longer in the folder")
    if document["conflicts"]:
        click.echo(f"  conflicts   {document['conflicts']:,} stored beside other content")
    count = len(document["problems"]) + document["problems_left_out"]
    _show_problems([(p["path"], p["reason"]) for p in document["problems"]], count)
    click.echo(f"  receipt     {made.finished.digest}")
    click.echo(f"  kept in     {printable(made.finished.folder)}")
    if made.object_key is not None:
        click.echo(f"  in bucket   {printable(made.object_key)}")
    if made.bucket_problem is not None:
        click.echo(f"  ! {printable(made.bucket_problem)}", err=True)


def _show_problems(problems: Sequence[tuple[str, str]], count: int) -> None:
    for path, reason in problems[:SHOWN]:
        about = f"{printable(path)}: " if path else ""
        click.echo(f"  ✗ {about}{printable(reason)}")
    if count > SHOWN:
        click.echo(f"  … and {count - SHOWN:,} more (--json lists them)")
