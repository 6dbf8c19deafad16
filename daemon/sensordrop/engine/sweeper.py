"""One sweep of one delivery: list the folder, compare with the ledger, mark what is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from sensordrop.core.controls import Control, Rescan
from sensordrop.core.guard import VanishRule
from sensordrop.core.model import EntryType, Fingerprint, Sighting, SweepSummary
from sensordrop.core.settle import NANOSECONDS
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.settling import MOST_SETTLING
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.records import GoneResult, Vouched
from sensordrop.ports.watching import Watcher

PROGRESS_FILES = 10_000
"""A sweep tells how far it is each time that it found so many more."""

HINT_SECONDS = 30.0
"""How long a hint may take to put a file on the books once it has settled, on a busy machine."""

_IN_DOUBT = Fingerprint(size_bytes=0, mtime_ns=0, ctime_ns=0)

_log = structlog.get_logger()


def tell_progress(delivery: str, clock: Clock) -> Callable[[int], None]:
    """Give what a finder calls with the number of entries so far: round numbers are told."""
    began = clock.monotonic()
    told = 0

    def progress(entries: int) -> None:
        nonlocal told
        reached = entries - entries % PROGRESS_FILES
        if reached <= told:
            return
        told = reached
        speed = entries / max(clock.monotonic() - began, 0.001)
        _log.info(
            "sweep_progress",
            delivery=delivery,
            message=f"find: Found {reached:,} files so far…",
            files_per_second=round(speed),
        )

    return progress


@dataclass(frozen=True, kw_only=True)
class KnownDisk:
    """What is known of the disk that a folder is on.

    `filesystem` is what it was when it was last looked at, '' unknown; `exchanged`: it is another
    one than at the last sweep.
    """

    filesystem: str = ""
    exchanged: bool = False


NO_DISK = KnownDisk()


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep tells the scout."""

    delivery: Delivery
    summary: SweepSummary
    seconds: float
    session_opened: int | None = None
    unsettled: tuple[Sighting, ...] = ()
    unsettled_left: int = 0
    watch_problem: str | None = None
    held: int = 0
    """Waiting files that are missing, and kept until somebody confirms that they are gone."""
    began_ns: int = 0
    """When the listing began, on the wall clock."""
    missed: int = 0
    """New files that the watcher should have reported."""
    asked: Control | None = None
    """By which somebody asked for it."""


def sweep(
    delivery: Delivery,
    *,
    ledger: Ledger,
    clock: Clock,
    watcher: Watcher | None,
    stop: StopFlag,
    disk: KnownDisk = NO_DISK,
    vouched_since_ns: int | None = None,
    asked: Control | None = None,
) -> SweepResult:
    """Sweep once. Blocks on the disk and the database.

    The watch, if one is to be begun, begins before the listing, so that nothing falls between
    the two. `disk`: what is known of the one in the folder; `vouched_since_ns`: since when
    the watcher should have reported every new file; `asked`: the control by which somebody asked
    for it. Raises LedgerUnavailableError; all that is wrong with
    the folder is in the summary.
    """
    settings = delivery.settings
    began = clock.monotonic()
    watch_problem = None
    if watcher is not None:
        try:
            watcher.watch(delivery.key, settings.root)
        except OSError as error:
            watch_problem = f"the folder can't be watched: {error.strerror or error}"
    started_at = ledger.begin_sweep()
    wall_ns = clock.wall_ns()
    finder = settings.make_finder()

    result = ledger.enroll_listing(
        delivery.delivery_id,
        finder.list(settings.root, stop, tell_progress(delivery.name, clock)),
        settings.rules,
        wall_ns=wall_ns,
        most_unsettled=MOST_SETTLING,
        vouched=_vouched(vouched_since_ns, wall_ns, settings.rules.quiet_seconds),
    )
    report = finder.report
    problem = report.problem
    if report.complete and settings.source.device() != delivery.device:
        problem = "the folder's file system was exchanged while it was listed"
    gone = GoneResult()
    if problem is None:
        gone = ledger.mark_gone(
            delivery.delivery_id,
            lambda path: _look(delivery, path),
            sweep_began=started_at,
            rule=VanishRule(
                share=settings.vanish_share,
                exchanged=disk.exchanged or _was_exchanged(delivery, disk),
                confirmed=asked is not None and asked.value == Rescan.CONFIRM_VANISHED,
            ),
        )
    summary = SweepSummary(
        started_at=started_at,
        files=report.files,
        folders=report.folders,
        new=result.new,
        changed=result.changed,
        gone=gone.gone,
        ignored=result.ignored,
        unsettled=len(result.unsettled) + result.unsettled_left,
        complete=problem is None,
        problem=problem,
    )
    ledger.publish_sweep(delivery.delivery_id, summary)
    return SweepResult(
        delivery=delivery,
        summary=summary,
        seconds=clock.monotonic() - began,
        session_opened=result.session_opened,
        unsettled=tuple(result.unsettled),
        unsettled_left=result.unsettled_left,
        watch_problem=watch_problem,
        held=gone.held,
        began_ns=wall_ns,
        missed=result.missed,
        asked=asked,
    )


def _vouched(since_ns: int | None, wall_ns: int, quiet_seconds: float) -> Vouched | None:
    """Leave out what was written lately: the watcher's word of it may still be on its way."""
    if since_ns is None:
        return None
    late_ns = int((quiet_seconds + HINT_SECONDS) * NANOSECONDS)
    return Vouched(since_ns=since_ns, until_ns=wall_ns - late_ns)


def _was_exchanged(delivery: Delivery, disk: KnownDisk) -> bool:
    """Tell whether another disk is in the folder than before, be it in the same slot."""
    now = delivery.settings.source.filesystem()
    return bool(now and disk.filesystem and now != disk.filesystem)


def _look(delivery: Delivery, path: bytes) -> Fingerprint | None:
    """Look once more at a file that a listing did not have. In doubt it is there."""
    try:
        sighting = delivery.settings.source.look(path)
    except OSError:
        return _IN_DOUBT
    if sighting is None or sighting.entry_type is EntryType.FOLDER:
        return None if delivery.settings.source.device() == delivery.device else _IN_DOUBT
    return sighting.fingerprint
