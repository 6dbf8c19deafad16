"""`sensordrop demo`: made-up SD cards, or a folder of your own, all the way into a bucket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from sensordrop.cli.demo_oracle import text_of
from sensordrop.cli.demo_progress import size_text
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit

if TYPE_CHECKING:
    from sensordrop.cli.demo_daemon import DaemonProcess
    from sensordrop.cli.demo_oracle import Comparison, Listing, Tick
    from sensordrop.cli.demo_progress import Journey, Progress
    from sensordrop.local import LocalFolder
    from sensordrop.service import StopSignals

LIMIT_SECONDS = 24 * 3600.0
"""The demo gives up after this: a folder of one's own may take a day to copy."""
STALL_LIMIT_SECONDS = 180.0
"""The demo gives up when nothing moves for so long, plus the time for the largest file."""
SLOWEST_BYTES_PER_SECOND = 4_000_000
"""What the slowest disk is trusted with, for the time that one large file may take."""
LEFTOVER_LIMIT_SECONDS = 10.0
"""How long somebody who looks in (`sensordrop status`) may keep a server after the end."""
SPARE_BYTES = 500_000_000
"""Room for the ledger and the logs, beside the objects."""
LOOK_SECONDS = 0.1
PIECES_PER_LOOK = 2
"""Pace of the second card: its forty files take about two seconds."""
MOST_NAMES = 20
"""Names that are listed; the others are counted."""


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".demo"),
    show_default=True,
    help="Where everything of the demo goes. Cleared at the start if an earlier demo made it.",
)
@click.option(
    "--drop",
    type=click.Path(path_type=Path, file_okay=False),
    help="Take this folder of yours instead of made-up cards. It is only read.",
)
def command(folder: Path, drop: Path | None) -> None:
    """Drop SD cards in front of a real sensordropd, and compare what arrives.

    Everything is embedded under one folder: a PostgreSQL, an S3 server, the daemon. At the end
    every object is read back and held against its file by SHA-256. Nothing is left running.
    The last line is JSON. The exit code is 0 only if everything arrived.

    Example:  sensordrop demo --drop /media/card
    """
    # Until the demo's own way to stop is loaded: nothing was started that would have to end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: sys.exit(Exit.INTERRUPTED))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names may have letters that the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(folder, drop))


class InterruptedDemoError(Exception):
    """The demo was told to stop."""


def run(folder: Path, drop: Path | None) -> Exit:
    """Play the demo. Only in the main thread."""
    from sensordrop.adapters.processes import EmbeddedServerError
    from sensordrop.cli.demo_daemon import own_environment
    from sensordrop.cli.demo_folder import DemoError, RefusedError
    from sensordrop.cli.demo_oracle import OracleError
    from sensordrop.cli.demo_progress import Progress
    from sensordrop.core.failure import LedgerUnavailableError
    from sensordrop.local import local_folder
    from sensordrop.service import StopSignals

    stop = StopSignals()
    stop.install()
    environment = own_environment(os.environ)
    os.environ.clear()  # all that follows is about this machine alone
    os.environ.update(environment)
    try:
        with Progress() as progress:
            return Demo(local_folder(folder, drop), stop, progress, made=drop is None).play()
    except InterruptedDemoError:
        said = "interrupted; nothing is left running"
    except RefusedError as error:
        click.echo(str(error), err=True)
        return Exit.USAGE
    except (DemoError, OracleError, EmbeddedServerError, LedgerUnavailableError) as error:
        said = str(error)
    except OSError as error:
        said = f"{_shown(error.filename or folder)}: {error.strerror or error}"
    click.echo(said, err=True)
    return Exit.INTERRUPTED if stop.is_set() else Exit.FAILED


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What there is to judge at the end."""

    listing: Listing
    changes: Mapping[bytes, str]
    """What happened in the drop folder while the daemon ran, beside the copying of our cards."""
    comparison: Comparison
    unreadable: Mapping[str, str]
    """Objects that the server lists and did not give, each with what it answered."""
    disturbed: AbstractSet[str]
    """Keys whose plain files on disk are not what S3 gave."""
    journey: Journey
    exit_code: int
    left: Sequence[str]
    """What still runs."""


class Demo:
    """One demo, from the cleared folder to the verdict."""

    def __init__(
        self, place: LocalFolder, stop: StopSignals, progress: Progress, *, made: bool
    ) -> None:
        """`made`: the cards are made up; otherwise the drop folder is the user's own."""
        self._place = place
        self._stop = stop
        self._progress = progress
        self._made = made

    def play(self) -> Exit:
        """Play it. Raises DemoError, OracleError, LedgerUnavailableError, OSError."""
        from sensordrop.adapters.local_s3 import LocalS3
        from sensordrop.cli.demo_daemon import FOR_MADE_CARDS, DaemonProcess
        from sensordrop.cli.demo_folder import cleared
        from sensordrop.cli.demo_oracle import (
            compare,
            disturbed_on_disk,
            key_of,
            list_folder,
            read_bucket,
        )
        from sensordrop.local import BUCKET, PREFIX

        place = self._place
        before = None if self._made else self._look_at_own_folder()
        with cleared(place):
            place.make()
            before = self._drop_first_cards() if before is None else before
            settings = FOR_MADE_CARDS if self._made else {}
            with DaemonProcess(place, settings=settings, stop=self._stop) as daemon:
                self._progress.say(f"starting sensordropd; its log: {_shown(daemon.log)}")
                daemon.wait_until_up(self._tick)
                before, journey = self._watch(daemon, before)
                listing = list_folder(place.drop)
                objects = read_bucket(
                    LocalS3(place.state / "s3", place.objects),
                    BUCKET,
                    [key_of(PREFIX, path) for path in listing.files],
                    self._counting("objects read back"),
                )
                comparison = compare(
                    place.drop,
                    listing,
                    objects.digests,
                    prefix=PREFIX,
                    changed=listing.changes_since(before).keys(),
                    tick=self._counting("files hashed"),
                )
                self._progress.say("stopping sensordropd")
                exit_code = daemon.end()
            outcome = Outcome(
                listing=listing,
                changes=list_folder(place.drop).changes_since(before),
                comparison=comparison,
                unreadable=objects.unreadable,
                disturbed=disturbed_on_disk(
                    place.objects / BUCKET,
                    objects.digests,
                    self._counting("objects looked at on disk"),
                ),
                journey=journey,
                exit_code=exit_code,
                left=self._left_running(),
            )
            self._tick()
        return self._judge(outcome)

    # --- what is dropped ------------------------------------------------------------------

    def _look_at_own_folder(self) -> Listing:
        """List the user's folder. Raises RefusedError where the demo could not do it whole."""
        from sensordrop.cli.demo_folder import RefusedError
        from sensordrop.cli.demo_oracle import list_folder

        place = self._place
        overlap = place.overlap()
        if overlap is not None:
            raise RefusedError(f"{overlap}: name another folder for the demo with --folder")
        try:
            listing = list_folder(place.drop)
        except OSError as error:
            raise RefusedError(
                f"{_shown(error.filename)} can't be read: {error.strerror}"
            ) from error
        for path in listing.files:
            if not os.access(os.fsencode(place.drop) + b"/" + path, os.R_OK, effective_ids=True):
                raise RefusedError(
                    f"{_shown(place.drop)}/{_shown(path)} can't be read: run the demo "
                    "as a user who may read all of the folder"
                )
        standing = next(p for p in (place.path, *place.path.parents) if p.exists())
        room = shutil.disk_usage(standing).free
        if listing.size_bytes + SPARE_BYTES > room:
            raise RefusedError(
                f"{_shown(place.drop)} holds {size_text(listing.size_bytes)}, but there is room "
                f"for {size_text(room)} in {_shown(place.path)}: name a folder on a larger disk "
                "with --folder"
            )
        self._progress.say(f"your folder, only read: {_shown(place.drop)} ({_told(listing)})")
        return listing

    def _drop_first_cards(self) -> Listing:
        from sensordrop.cli.demo_card import copy_in, first_delivery
        from sensordrop.cli.demo_oracle import list_folder

        for _ in copy_in(first_delivery(), self._place.drop):
            self._check_stop()
        listing = list_folder(self._place.drop)
        self._progress.say(f"dropped into {_shown(self._place.drop)}: {_told(listing)}")
        return listing

    # --- while it runs --------------------------------------------------------------------

    def _watch(self, daemon: DaemonProcess, before: Listing) -> tuple[Listing, Journey]:
        """Show the progress until the session has ended; give what was dropped in all."""
        from sensordrop.adapters.logs import configure
        from sensordrop.cli.demo_card import copy_in, second_delivery
        from sensordrop.cli.demo_folder import DemoError
        from sensordrop.cli.demo_oracle import list_folder
        from sensordrop.cli.demo_progress import Journey
        from sensordrop.composition.ledgers import open_ledger
        from sensordrop.config import DaemonConfig
        from sensordrop.control.told import status_told

        configure("console", "error")
        place = self._place
        began = time.monotonic()
        journey = Journey(expected=len(before.files), moved=began)
        second = copy_in(second_delivery(), place.drop) if self._made else None
        largest = max((v.size_bytes for v in before.files.values()), default=0)
        patience = STALL_LIMIT_SECONDS + largest / SLOWEST_BYTES_PER_SECOND
        config = DaemonConfig(state_directory=place.state)
        directory = place.state / "postgresql"
        with open_ledger(config, directory=directory, started_by="sensordrop demo") as ledger:
            while second is not None or not journey.ended:
                daemon.check()
                (status,) = ledger.status()
                now = time.monotonic()
                journey.take(status_told(status), now)
                # The second card comes when the first is under way.
                if second is not None and journey.finished:
                    more = _go_on(second)
                    before = list_folder(place.drop)
                    journey.expected = len(before.files)
                    if not more:
                        second = None
                        self._progress.say(f"dropped a second card: now {_told(before)}")
                elif journey.ended:  # somebody may have added files meanwhile
                    journey.expected = len(list_folder(place.drop).files)
                self._progress.show(journey.line())
                if now - journey.moved > patience or now - began > LIMIT_SECONDS:
                    raise DemoError(
                        f"gave up after {now - began:.0f} s; nothing has moved for "
                        f"{now - journey.moved:.0f} s: {journey.line()}\n{daemon.last_words()}"
                    )
                self._tick()
        self._progress.show(journey.line(), last=True)
        return before, journey

    def _tick(self) -> None:
        self._stop.wait(LOOK_SECONDS)
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise InterruptedDemoError

    def _counting(self, words: str) -> Tick:
        """Make what shows how a long reading goes on, and breaks it off when told to stop."""

        def tick(done: int, of: int) -> None:
            self._check_stop()
            self._progress.show(f"| {words}: {done:,}/{of:,}", last=done == of)

        return tick

    # --- at the end -----------------------------------------------------------------------

    def _left_running(self) -> list[str]:
        from sensordrop.cli.demo_folder import running

        deadline = time.monotonic() + LEFTOVER_LIMIT_SECONDS
        while (left := running(self._place)) and time.monotonic() < deadline:
            self._stop.wait(LOOK_SECONDS)
        return left

    def _judge(self, outcome: Outcome) -> Exit:
        """Tell people, then programs, how it went."""
        from sensordrop.local import BUCKET, PREFIX, program

        self._progress.close()
        comparison, place = outcome.comparison, self._place
        right = {k: v for k, v in comparison.right.items() if k not in outcome.disturbed}
        disturbed = len(comparison.right) - len(right)
        say = self._progress.say
        say("")
        if not outcome.listing.files:
            say("There was nothing to store: the folder holds no files but junk.")
        sensors = outcome.listing.sensors
        say(f"  sensors   {len(sensors)}" + (f": {_listed(sensors, 5)}" if sensors else ""))
        say(f"  arrived   {_amount(len(right), sum(right.values()))}, equal by SHA-256")
        say(f"  left out  {_told_ignored(outcome.listing)}")
        say(f"  time      {_told_speed(outcome.journey)}")
        say(f"  objects   {_shown(place.objects / BUCKET / PREFIX)}")
        drop = "" if self._made else f" --drop {quote(str(place.drop))}"
        say(f"  go on     {program('sensordropd')} --local {_shown(place.path)}{drop}")
        problems = _problems(outcome, made=self._made)
        for problem in problems:
            say(f"  WRONG     {problem}")
        if not self._made and outcome.changes:
            names = [f"{text_of(path)} ({what})" for path, what in outcome.changes.items()]
            say(f"  note      your folder changed meanwhile: {_listed(names, MOST_NAMES)}")
        figures = {
            "files": len(right),
            "bytes": sum(right.values()),
            "missing": len(comparison.missing),
            "different": len(comparison.different) + disturbed,
        }
        say(json.dumps(figures))
        return Exit.FAILED if problems else Exit.DONE


def _problems(outcome: Outcome, *, made: bool) -> list[str]:
    """Say everything that keeps the demo from being a success."""
    comparison, counts = outcome.comparison, outcome.journey.counts
    named = (
        ("not in the bucket", comparison.missing),
        ("in the bucket with other bytes", comparison.different),
        ("listed by the server, which did not give it", _refused(outcome.unreadable)),
        ("in the bucket, but nobody dropped it", comparison.extra),
        ("not the same on disk as through S3", sorted(outcome.disturbed)),
        ("still running", outcome.left),
    )
    problems = [f"{what}: {_listed(names, MOST_NAMES)}" for what, names in named if names]
    stored, files = counts["uploaded"] + counts["skipped"], len(outcome.listing.files)
    if not outcome.changes and stored != files:
        problems.append(f"the ledger counts {stored:,} files as stored, not {files:,}")
    if counts["failed"]:
        problems.append(f"{counts['failed']:,} files failed; the log says why")
    if outcome.exit_code != 0:
        problems.append(f"sensordropd ended with {outcome.exit_code}, not 0")
    if made and outcome.changes:
        changed = [f"{text_of(path)} ({what})" for path, what in outcome.changes.items()]
        problems.append(f"the drop folder was changed: {_listed(changed, MOST_NAMES)}")
    return problems


def _go_on(copying: Iterator[int]) -> bool:
    """Copy a little more; tell whether there was any more."""
    return bool(list(islice(copying, PIECES_PER_LOOK)))


def _told(listing: Listing) -> str:
    return f"{_amount(len(listing.files), listing.size_bytes)}; {_told_ignored(listing)}"


def _told_ignored(listing: Listing) -> str:
    reasons = Counter(listing.ignored.values())
    return (
        ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items())) or "nothing"
    )


def _told_speed(journey: Journey) -> str:
    seconds = max(journey.seconds, LOOK_SECONDS)
    return (
        f"{seconds:.1f} s from the first file seen to the last one stored: "
        f"{journey.finished / seconds:.1f} files/s, "
        f"{size_text(journey.bytes_uploaded / seconds)}/s"
    )


def _amount(files: int, size_bytes: int) -> str:
    return f"{files:,} file{'s' * (files != 1)}, {size_text(size_bytes)}"


def _listed(names: Sequence[str], most: int) -> str:
    """List names that are text already."""
    more = len(names) - most
    shown = ", ".join(printable(name) for name in names[:most])
    return shown + (f" and {more:,} more" if more > 0 else "")


def _refused(unreadable: Mapping[str, str]) -> list[str]:
    return [f"{key} ({words})" for key, words in sorted(unreadable.items())]


def _shown(name: Path | str | bytes) -> str:
    """Give a path as it may be shown."""
    return printable(text_of(os.fsencode(name)))
