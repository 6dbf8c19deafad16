"""What the verbs that work by hand have in common: their configuration, their display, their end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from sensordrop.cli.controls import whoever_calls
from sensordrop.cli.place import (
    DATABASE_VARIABLE,
    Place,
    daemon_for,
    own_home,
    place_of,
    refuse,
)
from sensordrop.config import (
    ConfigurationError,
    DeliveryConfig,
    default_path,
    load,
    take_credentials,
)
from sensordrop.config.addresses import masked
from sensordrop.config.problem import did_you_mean
from sensordrop.core.batch import Ended, Rounds, RunEnd
from sensordrop.core.failure import LedgerRefusedError, LedgerUnavailableError
from sensordrop.exits import Exit

if TYPE_CHECKING:
    from sensordrop.by_hand import HandOptions, HandPlace, HandResult, Interrupts

Function = TypeVar("Function", bound=Callable[..., Any])

FLAGS = {
    "local_directory": ("FOLDER", "Take the files of this folder."),
    "bucket_name": ("BUCKET", "Put them into this bucket."),
    "s3_prefix": ("PREFIX", "Keys begin with this."),
    "max_workers": ("N", "So many uploads at once."),
    "aws_region": ("REGION", "The bucket's region."),
    "times_to_retry": ("N", "Try a file that fails so many times again."),
    "aws_profile": ("PROFILE", "A profile of ~/.aws."),
    "use_find": ("yes|no", "List the folder with find, or in Python."),
    "client": ("CLIENT", "Who owns the data."),
    "project": ("PROJECT", "Default: the bucket's name."),
    "cycle": ("CYCLE", "Default: the prefix."),
    "endpoint_url": ("URL", "An S3-compatible store's address."),
}
"""Keys of a delivery that are flags too: metavar and help."""

SHORTEST = """\
name the delivery's file (JSON or YAML), or say at least where from and where to:

  sensordrop {verb} --config FILE
  sensordrop {verb} --local-directory FOLDER --bucket-name BUCKET --s3-prefix PREFIX
"""
"""What is said where nothing, or too little, says what is to be uploaded."""


def delivery_flags(function: Function) -> Function:
    """Add a flag for each key of a delivery that may be given on the command line."""
    for key, (metavar, words) in reversed(FLAGS.items()):
        function = click.option("--" + key.replace("_", "-"), key, metavar=metavar, help=words)(
            function
        )
    return function


def display_flags(function: Function) -> Function:
    """Add the flags that say how a run shows itself."""
    for option in (
        click.option("--quiet", is_flag=True, help="Only what went wrong, and the summary's line."),
        click.option("--verbose", is_flag=True, help="A line for each file."),
        click.option("--json", "as_json", is_flag=True, help="One event per line, as JSON."),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which delivery is worked on, and where its books are."""

    place: HandPlace
    config: DeliveryConfig
    named: bool


def choose(
    config: Path | None,
    database: str | None,
    delivery: str | None,
    flags: Mapping[str, object],
) -> Chosen:
    """Read the configuration. Ends the program with exit code 2 and all problems in it."""
    named = config or os.environ.get("SENSORDROP_CONFIG")
    path: Path | None = config or default_path(os.environ)
    if not named and not os.access(str(path), os.R_OK):
        path = None
    own = {"database": database or os.environ.get(DATABASE_VARIABLE)}
    try:
        take_credentials(path, os.environ)
        configuration, notices = load(
            path,
            environ=os.environ,
            flags=own,
            delivery_flags=dict(flags),
            allow_relative=True,
            deliveries_required=True,
        )
    except ConfigurationError as error:
        if path is None:
            _refuse_flags(error)
        refuse(error)
    for notice in notices:
        click.echo(f"notice: {notice}", err=True)
    chosen = _one([each for each in configuration.deliveries if each.enabled], delivery)
    return Chosen(
        place=hand_place(place_of(daemon_for(path, configuration.daemon, own))),
        config=chosen,
        named=path is None or path.is_dir() or "name" in flags,
    )


def _refuse_flags(error: ConfigurationError) -> NoReturn:
    """Say what is missing where no file was named, and what the shortest call is."""
    wrong = [str(problem) for problem in error.problems if problem.key]
    shortest = SHORTEST.format(verb=click.get_current_context().info_name)
    raise click.UsageError("\n".join([*(wrong or ["what is to be uploaded?"]), shortest]))


def same_place(config: Path | None, database: str | None) -> str:
    """Give the flags that lead another verb to the ledger that this one was led to.

    A URL with a password in it is not repeated: screens and logs are read by others.
    """
    words = ["--config", quote(str(config))] if config else []
    if database:
        words += ["--database", quote(database) if masked(database) == database else "URL"]
    return "".join(f" {word}" for word in words)


def hand_place(place: Place) -> HandPlace:
    """Say where the books of a run are."""
    from sensordrop.by_hand import HandPlace

    return HandPlace(
        daemon=place.config, directory=place.directory, station=place.station, home=own_home()
    )


def _one(deliveries: list[DeliveryConfig], wanted: str | None) -> DeliveryConfig:
    names = [each.name for each in deliveries]
    if wanted is not None:
        for each in deliveries:
            if each.name == wanted:
                return each
        meant = did_you_mean(wanted, names)
        raise click.UsageError(
            f"there is no delivery {wanted!r}"
            + (f" — {meant}" if meant else f"; there are: {', '.join(names) or 'none'}")
        )
    if len(deliveries) == 1:
        return deliveries[0]
    raise click.UsageError(
        f"which delivery? name one of {', '.join(names)} with --delivery"
        if names
        else "every delivery of this configuration has enabled: false"
    )


class Working:
    """Runs by hand one after the other, with one display and one way to stop them."""

    def __init__(self, *, quiet: bool, verbose: bool, as_json: bool) -> None:
        if as_json and quiet:
            raise click.UsageError("--json or --quiet, not both")
        from sensordrop.adapters.logs import hand_on
        from sensordrop.by_hand import Interrupts
        from sensordrop.cli.display import display_for

        self.stop: Interrupts = Interrupts()
        self.stop.install()
        self.display = display_for(quiet=quiet, verbose=verbose, as_json=as_json)
        hand_on(self.display.take, "debug" if verbose else "info")

    def run(self, chosen: Chosen, options: HandOptions) -> HandResult:
        """Do one run. Ends the program where there is no ledger."""
        from sensordrop.adapters.processes import (
            EmbeddedServerError,
            EmbeddedServerInterruptedError,
        )
        from sensordrop.by_hand import HandResult, HandRun
        from sensordrop.engine.supervisor import ServiceGaveUpError

        run = HandRun(
            place=chosen.place,
            config=chosen.config,
            named=chosen.named,
            started_by=whoever_calls(),
            options=options,
            stop=self.stop,
        )
        try:
            with self.display:
                return run.go()
        except EmbeddedServerInterruptedError:
            return HandResult(ended=Ended(how=RunEnd.INTERRUPTED))
        except LedgerUnavailableError as error:
            click.echo(f"{error} — check `database`, and that PostgreSQL is running", err=True)
            sys.exit(Exit.NO_LEDGER)
        except (EmbeddedServerError, LedgerRefusedError) as error:
            click.echo(str(error), err=True)
            sys.exit(Exit.NO_LEDGER)
        except ServiceGaveUpError as error:
            click.echo(str(error), err=True)
            sys.exit(Exit.BUG)


def try_again(working: Working, chosen: Chosen, result: HandResult, rounds: Rounds) -> HandResult:
    """Have all that failed tried again, in rounds with growing waits, until nothing fails."""
    from sensordrop.by_hand import HandOptions

    number = 1
    while result.failed and result.ended.how is RunEnd.DONE:
        wait = rounds.wait_before(number)
        if wait is None:
            break
        files = sum(each.files for each in result.failed)
        words = f"Round {number} of {rounds.most}: {files:,} failed, tried again in {wait:,.0f} s"
        working.display.say("retry", words)
        if working.stop.wait(wait):
            return replace(result, ended=Ended(how=RunEnd.INTERRUPTED))
        result = working.run(chosen, HandOptions())
        number += 1
    return result


def round_flags(function: Function) -> Function:
    """Add the flags that say how often what failed is tried again."""
    for option in (
        click.option(
            "--retry-wait", type=click.FloatRange(0, 86_400), default=Rounds().wait_seconds,
            show_default=True, metavar="SECONDS",
            help="Wait before the first round; each later one waits twice as long.",
        ),
        click.option(
            "--rounds", type=click.IntRange(0, 100), default=Rounds().most, show_default=True,
            help="How often what failed is tried again as a whole.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def exit_of(result: HandResult) -> Exit:
    """Say how a program ends after a run."""
    if result.ended.how is RunEnd.INTERRUPTED:
        return Exit.INTERRUPTED
    if result.ended.how is RunEnd.NO_LEDGER:
        return Exit.NO_LEDGER
    return Exit.DONE if result.well else Exit.FAILED
