"""The scout: looks after every delivery's folder, and gets what is settled on the books.

Hints make it quick, sweeps make it right. It also ends sessions, because it alone knows when a
folder has been quiet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from sensordrop.core.controls import Control, Rescan
from sensordrop.core.failure import InterruptedAttemptError, LedgerUnavailableError
from sensordrop.core.keys import path_text
from sensordrop.core.model import (
    DeliveryState,
    DoubtKind,
    EntryType,
    HintKind,
    Sighting,
)
from sensordrop.core.session import DeliveryActivity, why_open
from sensordrop.core.settle import NANOSECONDS
from sensordrop.core.tally import StationTally
from sensordrop.engine.delivery import Bell, Delivery, ErrandStop
from sensordrop.engine.errands import Ended, Errands
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.lookout import HUNG_SECONDS, Change, Lookout
from sensordrop.engine.patience import LedgerPatience
from sensordrop.engine.roster import Roster
from sensordrop.engine.settling import SettlingFiles
from sensordrop.engine.sweeper import KnownDisk, SweepResult, sweep
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.records import DeliveryStatus, SessionReceipt, SettledSighting
from sensordrop.ports.watching import Watcher

TICK_SECONDS = 0.2
"""How often files that settle are looked at, at most."""
UPKEEP_SECONDS = 1.0
"""How often watches are checked, sessions ended and statuses published."""
SWEEP_GAP_SECONDS = 1.0
"""Rest between two sweeps of a delivery that doubts ask for, at least as long as the last took."""
PARTIAL_RETRY_SECONDS = 60.0
"""When a sweep was partial the next comes after this at the latest."""
SWEEPERS = 2
"""Sweeps that run at once, those that are held up not counted: disks don't list faster with more,
databases neither."""
LOOKERS = 4
"""Deliveries whose hinted files are looked at at once, those that are held up not counted."""
RECEIPTS = 2
"""Receipts that are made at once: each lists a folder and asks a store."""
RECEIPT_CLOSE_SECONDS = 1.0
"""How long a receipt is waited for at the end: its thread holds nothing that must be given back."""
TROUBLE_TOLD_SECONDS = 900.0
"""A delivery that is offline or blocked for so long is told as a failure, to those who want to hear of
any: shorter troubles, a router that restarts, are over before anybody has looked.
"""
CLOSE_SECONDS = 15.0
"""How long sweeps are waited for at the end: a listing that is broken off ends `find` first."""
MANY_FILES = 1_000
"""More files than this at once: a listing of the bucket, a request for a thousand objects, costs
less than a look at each."""

TIMER = "timer"
"""Why a sweep is due that nothing else asked for."""

_NEVER = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger()

SessionEnded = Callable[[Delivery], None]
"""Is called with a delivery whose folder has become quiet."""
MakeReceipt = Callable[[Delivery, str, StopFlag], SessionReceipt]
"""Makes a session's receipt, given where the session stands. Raises LedgerUnavailableError, and
InterruptedAttemptError when the flag is set."""

_Looked = Sequence[tuple[bytes, HintKind, Sighting | OSError | None]]
"""What was seen at each path, and what had been reported of it."""


@dataclass(kw_only=True)
class _Folder:
    """What the scout keeps of one delivery."""

    delivery: Delivery
    settling: SettlingFiles
    sweep_at: float = 0.0
    sweep_why: str = "start"
    sweep_ended: float = 0.0
    sweep_seconds: float = 0.0
    sweep_complete: bool = False
    sweep_problem: str | None = None
    watch_wanted: bool = True
    watched: bool = False
    watch_error: str | None = None
    """Why the last try to watch the folder failed."""
    watch_problem: str | None = None
    """Why not all of the folder is watched, as it was last told."""
    vouched_since_ns: int | None = None
    """Since when the watcher should have reported every new file, on the wall clock."""
    held: int = 0
    """Waiting files that are missing, and kept until somebody confirms that they are gone."""
    rescan: Control | None = None
    """A sweep that somebody asked for and that has not been done."""
    rescans_done: datetime = _NEVER
    """When the last one that was done was asked for."""
    receipt: SessionReceipt | None = None
    """The receipt that was made for the running session, until it ends with it."""
    published: DeliveryStatus | None = None
    trouble_since: float | None = None
    """Since when it is offline or blocked, on the monotonic clock."""
    trouble_told: bool = False
    """Whether that has lasted long enough to be told."""
    session_look_at: float = 0.0


class Scout:
    """A service: `run` returns when `stop` is set and no sweep runs any more."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        deliveries: Sequence[Delivery],
        watcher: Watcher,
        hints: HintQueue,
        bell: Bell,
        wake_uploader: Callable[[], None],
        daemon_id: Callable[[], int],
        enrolled_many: Callable[[int], None] = lambda _delivery_id: None,
        session_news: Callable[[], None] = lambda: None,
        make_receipt: MakeReceipt | None = None,
        quiet_news: SessionEnded = lambda _delivery: None,
        tally: StationTally | None = None,
        hung_seconds: float = HUNG_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._daemon_id = daemon_id
        self._clock = clock
        self._watcher = watcher
        self._hints = hints
        self._bell = bell
        self._wake_uploader = wake_uploader
        self._enrolled_many = enrolled_many
        self._session_news = session_news
        self._make_receipt = make_receipt
        self._quiet_news = quiet_news
        self._waits = (tally or StationTally()).settle_seconds
        self._roster = Roster.of(deliveries)
        self._taken: tuple[Delivery, ...] = ()
        self._folders: dict[str, _Folder] = {}
        self._by_id: dict[int, _Folder] = {}
        self._leaving: dict[str, _Folder] = {}
        """Folders of deliveries that left, until nothing of them is under way."""
        self._roots_unknown: list[Delivery] = []
        self._patience = LedgerPatience("scout", clock)
        self._lookout = Lookout(
            watcher=watcher,
            files_wait=ledger.has_queued,
            wake=bell.ring,
            hung_seconds=hung_seconds,
        )
        self._looks: Errands[_Looked] = Errands(name="hints", most=LOOKERS, wake=bell.ring)
        self._sweeps: Errands[SweepResult] = Errands(
            name="sweeper", most=SWEEPERS, wake=bell.ring, close_thread=ledger.close_own
        )
        self._receipts: Errands[SessionReceipt] = Errands(
            name="receipts", most=RECEIPTS, wake=bell.ring, close_thread=ledger.close_own
        )
        self._upkeep_at = 0.0
        self._take_up()

    def run(self, stop: StopFlag) -> None:
        """Look after the folders until `stop` is set."""
        try:
            while not stop.is_set():
                self._bell.wait(TICK_SECONDS)
                try:
                    self._step(stop)
                    self._patience.back()
                except LedgerUnavailableError as error:
                    self._rest(stop, self._patience.lost(error))
        finally:
            for key in self._sweeps.close(CLOSE_SECONDS):
                folder = self._folders.get(key) or self._leaving[key]
                folder.delivery.sweeping = False
                folder.sweep_at = 0.0
            for key in self._looks.close(CLOSE_SECONDS):
                folder = self._folders.get(key) or self._leaving[key]
                self._want_sweep(folder, "files were not looked at", 0.0)
            # A receipt that is broken off is made anew after the next start.
            self._receipts.close(RECEIPT_CLOSE_SECONDS)
            self._lookout.close()
            self._ledger.close_own()

    def sweep_soon(self, name: str, why: str) -> None:
        """Ask for a sweep of a delivery. Safe from every thread."""
        (folder,) = (f for f in self._folders.values() if f.delivery.name == name)
        folder.sweep_why = why
        folder.sweep_at = 0.0
        self._bell.ring()

    def rescan(self, delivery_id: int, control: Control) -> None:
        """Sweep a delivery now because somebody asked for it. Safe from every thread; the same
        control may come again and again.
        """
        folder = self._by_id.get(delivery_id)
        if folder is None or not folder.delivery.settings.enabled:
            return
        if control.set_at > folder.rescans_done and folder.rescan != control:
            folder.rescan = control
            self.sweep_soon(folder.delivery.name, f"asked for by {control.set_by}")

    # --- the loop -------------------------------------------------------------------------

    def _rest(self, stop: StopFlag, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while not stop.is_set() and self._clock.monotonic() < until:
            self._bell.wait(TICK_SECONDS)

    def _step(self, stop: StopFlag) -> None:
        self._take_up()
        self._learn_roots()
        self._take_swept()
        self._take_roots()
        self._take_looked()
        now = self._clock.monotonic()
        upkeep = now >= self._upkeep_at
        if upkeep:
            self._upkeep_at = now + UPKEEP_SECONDS
        for folder in self._folders.values():
            if not folder.delivery.settings.enabled:
                continue
            self._follow_hints(folder)
            if upkeep:
                self._look_for_root(folder)
                self._look_for_watch_problem(folder)
                self._look_at_watch(folder)
            self._start_sweep(folder, stop)
            if upkeep:
                self._end_session(folder, stop)
        if upkeep:
            self._see_off()
            self._publish()

    # --- which deliveries there are ---------------------------------------------------------

    def _take_up(self) -> None:
        """Take up which deliveries are in force, where that changed."""
        now = self._roster.now
        if now is self._taken:
            return
        before = self._folders
        folders = {d.key: before.get(d.key) or self._new_folder(d) for d in now}
        self._leaving |= {key: folder for key, folder in before.items() if key not in folders}
        for delivery in self._roster.left:
            if delivery.key not in before.keys() | folders.keys() | self._leaving.keys():
                # It came and left between two turns; others may have met it.
                self._leaving[delivery.key] = self._new_folder(delivery)
        self._folders = folders
        self._by_id = {folder.delivery.delivery_id: folder for folder in folders.values()}
        self._roots_unknown += [f.delivery for key, f in folders.items() if key not in before]
        self._taken = now

    def _new_folder(self, delivery: Delivery) -> _Folder:
        quiet = delivery.settings.rules.quiet_seconds
        return _Folder(delivery=delivery, settling=SettlingFiles(self._clock, quiet, self._waits))

    def _learn_roots(self) -> None:
        """Ask the ledger on which file systems folders were last swept."""
        if not self._roots_unknown:
            return
        keys = {delivery.delivery_id: delivery.key for delivery in self._roots_unknown}
        known = self._ledger.known_roots(self._daemon_id(), list(keys))
        self._lookout.begin({keys[delivery_id]: fs for delivery_id, fs in known.items()})
        self._roots_unknown = []

    def _see_off(self) -> None:
        """Let go of deliveries that left, as soon as nothing of them is under way.

        Their folders are looked at until then: uploads that one holds up must be given up.
        """
        for key, folder in list(self._leaving.items()):
            delivery = folder.delivery
            errands = (self._sweeps, self._looks)
            busy = any(kind.under_way(key) for kind in errands) or self._lookout.under_way(delivery)
            if busy or not delivery.drained:
                self._look_for_root(folder)
                continue
            self._watcher.unwatch(key)
            self._hints.drain(key)
            self._lookout.forget(delivery)
            self._ledger.finish_retired(delivery.delivery_id)
            self._roster.forget(delivery)
            del self._leaving[key]

    def _former_sweeps(self, delivery: Delivery) -> bool:
        """Tell whether a sweep of the same delivery, as it was configured before, is under way."""
        formers = [folder.delivery for folder in self._leaving.values()]
        return any(
            d.delivery_id == delivery.delivery_id and d.sweeping and not d.hung for d in formers
        )

    # --- hints and settling ---------------------------------------------------------------

    def _follow_hints(self, folder: _Folder) -> None:
        delivery = folder.delivery
        if self._looks.under_way(delivery.key) and not delivery.offline_reason:
            return
        hints, doubt = self._hints.drain(delivery.key)
        if doubt is not None:
            self._doubt(folder, doubt)
        paths = dict.fromkeys(folder.settling.due(), HintKind.APPEARED) | hints
        if not paths or delivery.offline_reason:
            return
        if hints:
            delivery.last_activity = self._clock.monotonic()
        look = delivery.settings.source.look
        self._looks.start(
            delivery.key, lambda: [(path, kind, _look(look, path)) for path, kind in paths.items()]
        )

    def _take_looked(self) -> None:
        while (ended := self._looks.collect()) is not None:
            folder = self._folders.get(ended.key)
            if folder is None:
                continue  # its delivery left; if it came back as another, that is swept
            if ended.error is not None:
                self._want_sweep(folder, "files were not looked at", 0.0)
            settled = [s for looked in ended.outcome() if (s := self._judge(folder, *looked))]
            if settled:
                self._enroll(folder, settled)
            self._count_settling(folder)

    def _judge(
        self,
        folder: _Folder,
        path: bytes,
        kind: HintKind,
        sighting: Sighting | OSError | None,
    ) -> SettledSighting | None:
        """Judge what was seen: give it if it is settled, else keep it among the settling."""
        if isinstance(sighting, OSError):
            _log.warning(
                "look_failed",
                delivery=folder.delivery.name,
                path=path_text(path),
                problem=str(sighting),
            )
            self._want_sweep(folder, "a file could not be looked at", PARTIAL_RETRY_SECONDS)
            folder.settling.forget(path)
            return None
        if sighting is None or sighting.entry_type is EntryType.FOLDER:
            folder.settling.forget(path)
            return None
        rules = folder.delivery.settings.rules
        ignored = rules.selection.ignore_reason(path_text(path), sighting.entry_type)
        closed = kind is HintKind.CLOSED and not folder.settling.goes_by_quiet(path)
        if ignored is not None:  # it goes on the ledger's list at once
            folder.settling.forget(path)
            return SettledSighting(sighting=sighting, eager=True)
        if closed:
            seen_ago = folder.settling.settled(path)
            return SettledSighting(sighting=sighting, eager=True, seen_ago=seen_ago)
        return folder.settling.observe(sighting)

    def _count_settling(self, folder: _Folder) -> None:
        folder.delivery.settling = len(folder.settling)
        if folder.settling.overflowed:
            folder.settling.overflowed = False
            quiet = folder.delivery.settings.rules.quiet_seconds
            self._want_sweep(folder, "more files settle than are watched", quiet)

    def _enroll(self, folder: _Folder, settled: Sequence[SettledSighting]) -> None:
        delivery = folder.delivery
        try:
            result = self._ledger.enroll_sightings(
                delivery.delivery_id,
                settled,
                delivery.settings.rules,
                wall_ns=self._clock.wall_ns(),
            )
        except LedgerUnavailableError:
            delivery.session_open = True  # perhaps; `_end_session` finds out
            self._want_sweep(folder, "the ledger was away", 0.0)
            raise
        for sighting in result.unsettled:
            folder.settling.keep(sighting, quiet_only=True)
        delivery.tally.discovered_by_hint += result.new + result.changed
        self._enrolled(delivery, result.new + result.changed, result.session_opened)

    def _enrolled(self, delivery: Delivery, files: int, session_opened: int | None) -> None:
        if session_opened is not None:
            _log.info("session_opened", delivery=delivery.name, session=session_opened)
            self._session_news()
        if files > MANY_FILES:
            self._enrolled_many(delivery.delivery_id)
        if files:
            delivery.session_open = True
            delivery.last_activity = self._clock.monotonic()
            self._wake_uploader()

    # --- sweeps ---------------------------------------------------------------------------

    def _want_sweep(self, folder: _Folder, why: str, seconds: float) -> None:
        """Have a sweep after so many seconds, unless one is due before."""
        if why != TIMER:
            folder.vouched_since_ns = None  # what it finds, nobody had promised to report
        at = self._clock.monotonic() + seconds
        if at < folder.sweep_at:
            folder.sweep_at, folder.sweep_why = at, why

    def _doubt(self, folder: _Folder, doubt: DoubtKind) -> None:
        _log.warning("watch_doubted", delivery=folder.delivery.name, doubt=doubt.value,
                     hint="a sweep finds what the watcher may have missed")  # fmt: skip
        rest = max(SWEEP_GAP_SECONDS, folder.sweep_seconds)
        since = self._clock.monotonic() - folder.sweep_ended
        self._want_sweep(folder, f"watcher: {doubt.value}", max(0.0, rest - since))

    def _look_for_root(self, folder: _Folder) -> None:
        """Have the folder looked at; notice when it does not answer."""
        delivery = folder.delivery
        self._lookout.look(delivery)
        if self._lookout.hung(delivery):
            folder.watch_wanted = True
            self._sweeps.write_off(delivery.key)
            self._looks.write_off(delivery.key)
            self._receipts.write_off(delivery.key)

    def _take_roots(self) -> None:
        """Notice when a delivery's folder goes away, comes back, or is another one."""
        folders = self._leaving | self._folders
        deliveries = {key: folder.delivery for key, folder in folders.items()}
        for delivery, change in self._lookout.take(deliveries):
            folder = folders[delivery.key]
            folder.watch_wanted = True
            if change is Change.ONLINE:
                self._want_sweep(folder, "the folder is back", 0.0)
            if change is Change.EXCHANGED:
                self._want_sweep(folder, "the folder is on another file system", 0.0)

    def _look_for_watch_problem(self, folder: _Folder) -> None:
        """Notice folders that the kernel's limit left unwatched: they are swept more often."""
        problem = folder.watch_error
        if problem is None and folder.watched:
            problem = self._watcher.problem(folder.delivery.key)
        if problem == folder.watch_problem:
            return
        folder.watch_problem = problem
        if problem is not None:
            _log.warning(
                "watch_failed",
                delivery=folder.delivery.name,
                problem=problem,
                hint="the folder is swept more often instead",
            )
            polling = folder.delivery.settings.polling_interval_seconds
            if polling is not None:
                self._want_sweep(folder, "not all folders are watched", polling)

    def _look_at_watch(self, folder: _Folder) -> None:
        """Note for others whether the folder is watched, where it should be."""
        delivery = folder.delivery
        wanted = folder.watched and delivery.offline_reason is None
        delivery.watched = self._watcher.watching(delivery.key) if wanted else None
        age = self._watcher.canary_age_seconds(delivery.key)
        if age is not None:
            delivery.tally.canary_at = self._clock.wall_ns() / NANOSECONDS - age

    def _start_sweep(self, folder: _Folder, stop: StopFlag) -> None:
        delivery = folder.delivery
        now = self._clock.monotonic()
        asked = folder.rescan
        confirmed = asked is not None and asked.value == Rescan.CONFIRM_VANISHED
        if confirmed and delivery.offline_reason:
            self._lookout.accept(delivery)
        if delivery.sweeping or delivery.device is None or delivery.offline_reason:
            return
        if not delivery.mended:
            return
        if now < folder.sweep_at or self._former_sweeps(delivery):
            return
        _log.debug("sweep_started", delivery=delivery.name, why=folder.sweep_why)
        disk = self._lookout.disk(delivery)
        if self._sweeps.start(
            delivery.key,
            lambda: self._sweep(folder, stop, disk, asked, folder.vouched_since_ns),
        ):
            delivery.sweeping = True
            folder.sweep_at = float("inf")

    def _sweep(
        self,
        folder: _Folder,
        stop: StopFlag,
        disk: KnownDisk,
        asked: Control | None,
        vouched_since_ns: int | None,
    ) -> SweepResult:
        """Sweep once, in a thread that may be held up."""
        delivery = folder.delivery
        folder.watched = delivery.settings.can_watch()
        watch = (
            folder.watched
            and not delivery.left
            and (folder.watch_wanted or not self._watcher.watching(delivery.key))
        )
        return sweep(
            delivery,
            ledger=self._ledger,
            clock=self._clock,
            watcher=self._watcher if watch else None,
            stop=ErrandStop(stop, delivery),
            disk=disk,
            vouched_since_ns=None if watch else vouched_since_ns,
            asked=asked,
        )

    def _take_swept(self) -> None:
        while (ended := self._sweeps.collect()) is not None:
            folder = self._folders.get(ended.key)
            if folder is None:
                self._left_swept(ended)
                continue
            folder.delivery.sweeping = False
            folder.sweep_ended = self._clock.monotonic()
            if ended.error is not None:
                folder.delivery.tally.sweeps_lost += 1
                folder.sweep_complete = False
                # It may have opened a session before it was lost; `_end_session` finds out.
                folder.delivery.session_open = True
                self._want_sweep(folder, "the last sweep was broken off", SWEEP_GAP_SECONDS)
            self._swept_well(folder, ended.outcome())

    def _left_swept(self, ended: Ended[SweepResult]) -> None:
        """Take note that the last sweep of a delivery that left has ended. It was broken off, so
        it says nothing; what it enrolled is for whoever is configured in its place now.
        """
        delivery = self._leaving[ended.key].delivery
        delivery.sweeping = False
        successor = self._by_id.get(delivery.delivery_id)
        if successor is not None:
            successor.delivery.session_open = True
            self._wake_uploader()
        if not isinstance(ended.error, LedgerUnavailableError):
            ended.outcome()

    def _swept_well(self, folder: _Folder, result: SweepResult) -> None:
        delivery, summary = folder.delivery, result.summary
        settings = delivery.settings
        folder.sweep_seconds = result.seconds
        folder.watch_wanted = False
        folder.watch_error = result.watch_problem
        self._tell_sweep(folder, result)
        _count_sweep(delivery, result, self._clock.now().timestamp())
        folder.sweep_complete = summary.complete
        folder.sweep_problem = summary.problem
        interval = settings.sweep_interval_seconds
        if not summary.complete:
            interval = min(interval, PARTIAL_RETRY_SECONDS)
        polling = settings.polling_interval_seconds
        if polling is not None and (
            not folder.watched or folder.watch_error or folder.watch_problem
        ):
            interval = min(interval, max(polling, 10 * result.seconds))
        whole_watch = folder.watched and not folder.watch_error and not folder.watch_problem
        vouches = whole_watch and summary.complete and self._watcher.watching(delivery.key)
        folder.vouched_since_ns = result.began_ns if vouches else None
        self._want_sweep(folder, TIMER, interval)
        if result.unsettled_left:
            self._want_sweep(folder, "files had to settle", settings.rules.quiet_seconds)
        for sighting in result.unsettled:
            folder.settling.keep(sighting)
        self._count_settling(folder)
        self._enrolled(delivery, summary.new + summary.changed, result.session_opened)
        if result.missed:
            self._watch_missed(folder, result.missed)
        if summary.complete:
            self._swept_whole(folder, result)

    def _watch_missed(self, folder: _Folder, files: int) -> None:
        """Begin a watch anew that says nothing though it seems to be well."""
        folder.delivery.tally.missed_files += files
        _log.warning("watch_missed", delivery=folder.delivery.name, files=files,
                     hint="they are on the books now; the folder is watched anew")  # fmt: skip
        folder.watch_wanted = True
        rest = max(SWEEP_GAP_SECONDS, folder.sweep_seconds)
        self._want_sweep(folder, "the watcher missed files", rest)

    def _swept_whole(self, folder: _Folder, result: SweepResult) -> None:
        delivery = folder.delivery
        if result.held > folder.held:
            _log.warning("files_missing", delivery=delivery.name, files=result.held,
                         hint=_held_hint(delivery))  # fmt: skip
        folder.held = result.held
        if (filesystem := self._lookout.swept(delivery)) is not None:
            self._ledger.remember_root(self._daemon_id(), delivery.delivery_id, filesystem)
            self._lookout.begin({delivery.key: filesystem})
        if result.asked is not None:
            self._ledger.end_control(result.asked, "sensordropd")
            folder.rescans_done = result.asked.set_at
            if folder.rescan == result.asked:
                folder.rescan = None
            self._quiet_news(delivery)

    def _tell_sweep(self, folder: _Folder, result: SweepResult) -> None:
        summary = result.summary
        told = {
            "delivery": folder.delivery.name,
            "why": folder.sweep_why,
            "files": summary.files,
            "new": summary.new,
            "changed": summary.changed,
            "gone": summary.gone,
            "settling": summary.unsettled,
            "seconds": round(result.seconds, 2),
        }
        if not summary.complete:
            _log.warning("sweep_partial", **told, problem=summary.problem,
                         hint="let the daemon's user read it: what is below is not stored yet")  # fmt: skip
        elif summary.new or summary.changed or summary.gone or folder.sweep_why == "start":
            _log.info("sweep_finished", **told)
        else:
            _log.debug("sweep_finished", **told)

    # --- sessions and statuses ------------------------------------------------------------

    def _end_session(self, folder: _Folder, stop: StopFlag) -> None:
        delivery = folder.delivery
        now = self._clock.monotonic()
        if delivery.retried:
            delivery.retried = False
            delivery.session_open = True  # perhaps a new one, which nobody told us of
        if not delivery.session_open or now < folder.session_look_at:
            return
        activity = DeliveryActivity(
            settling=len(folder.settling),
            hints_waiting=self._hints.waiting(delivery.key) or self._looks.under_way(delivery.key),
            sweeping=delivery.sweeping,
            sweep_wanted=folder.sweep_at <= now,
            last_sweep_complete=folder.sweep_complete and delivery.offline_reason is None,
            queued=0,
            last_activity=delivery.last_activity,
        )
        quiet = delivery.settings.session_quiet_seconds
        if quiet is None:
            quiet = delivery.settings.rules.quiet_seconds
        if why_open(activity, monotonic=now, quiet_seconds=quiet) is not None:
            return
        if self._ledger.has_queued(delivery.delivery_id):
            folder.session_look_at = now + UPKEEP_SECONDS
            return
        receipt = self._receipt_for(folder, stop)
        if receipt is None and self._receipt_wanted(delivery):
            return
        summary = self._ledger.finish_session(delivery.delivery_id, receipt=receipt)
        if summary is None:
            delivery.session_open = delivery.delivery_id in self._ledger.open_sessions(
                [delivery.delivery_id]
            )
            return
        delivery.session_open = False
        self._session_news()
        self._quiet_news(delivery)
        _log.info(
            "session_ended",
            delivery=delivery.name,
            session=summary.session_id,
            files=summary.files,
            uploaded=summary.uploaded,
            skipped=summary.skipped,
            failed=summary.failed,
            vanished=summary.vanished,
            bytes_uploaded=summary.bytes_uploaded,
            **_told(receipt),
        )

    def _receipt_wanted(self, delivery: Delivery) -> bool:
        return delivery.settings.session_receipt and self._make_receipt is not None

    def _receipt_for(self, folder: _Folder, stop: StopFlag) -> SessionReceipt | None:
        """Give the receipt that the session ends with, once it is made; beside this thread, as it
        takes as long as listing the folder and asking the store.
        """
        delivery = folder.delivery
        while (ended := self._receipts.collect()) is not None:
            told = self._folders.get(ended.key)
            broken_off = isinstance(ended.error, InterruptedAttemptError)
            if told is not None and not broken_off:  # else its delivery left, or all ends
                told.receipt = ended.outcome()
        make = self._make_receipt
        if make is None or not delivery.settings.session_receipt:
            return None
        receipt, folder.receipt = folder.receipt, None
        if receipt is None and not self._receipts.under_way(delivery.key):
            mark = self._ledger.begin_verifying(delivery.delivery_id)
            if mark is not None:
                until = ErrandStop(stop, delivery)
                self._receipts.start(delivery.key, lambda: make(delivery, mark, until))
            else:
                delivery.session_open = delivery.delivery_id in self._ledger.open_sessions(
                    [delivery.delivery_id]
                )
        return receipt

    def _publish(self) -> None:
        changed: list[DeliveryStatus] = []
        for folder in self._folders.values():
            state, reason = _state(folder)
            folder.delivery.state, folder.delivery.reason = state, reason
            status = DeliveryStatus(
                delivery_id=folder.delivery.delivery_id,
                state=state.value,
                reason=reason,
                settling=len(folder.settling),
            )
            if status != folder.published:
                folder.published = status
                changed.append(status)
        if changed:
            try:
                self._ledger.publish(changed)
            except LedgerUnavailableError:
                for folder in self._folders.values():
                    folder.published = None
                raise
        for folder in self._folders.values():
            self._tell_trouble(folder)

    def _tell_trouble(self, folder: _Folder) -> None:
        """Have it told once that a delivery is held up, when that has lasted."""
        delivery = folder.delivery
        if delivery.state not in (DeliveryState.OFFLINE, DeliveryState.BLOCKED):
            folder.trouble_since, folder.trouble_told = None, False
            return
        now = self._clock.monotonic()
        if folder.trouble_since is None:
            folder.trouble_since = now
        if not folder.trouble_told and now - folder.trouble_since >= TROUBLE_TOLD_SECONDS:
            self._ledger.tell_trouble(delivery.delivery_id, delivery.reason or delivery.state.value)
            folder.trouble_told = True
            self._session_news()


def _count_sweep(delivery: Delivery, result: SweepResult, now: float) -> None:
    summary, tally = result.summary, delivery.tally
    if summary.complete:
        tally.sweeps_complete += 1
    else:
        tally.sweeps_partial += 1
    tally.discovered_by_sweep += summary.new + summary.changed
    tally.last_sweep_seconds = result.seconds
    tally.last_sweep_files = summary.files
    tally.last_sweep_complete = summary.complete
    tally.last_sweep_at = now
    if summary.complete:
        tally.last_complete_sweep_at = now
    delivery.swept = True


def _look(look: Callable[[bytes], Sighting | None], path: bytes) -> Sighting | OSError | None:
    try:
        return look(path)
    except OSError as error:
        return error


def _held_hint(delivery: Delivery) -> str:
    return (
        "bring the files (or their disk) back; or say that they are gone: "
        f"sensordrop rescan {delivery.name} --confirm-vanished"
    )


def _state(folder: _Folder) -> tuple[DeliveryState, str | None]:
    """Tell what the delivery is doing: the first that holds, in the order of DeliveryState."""
    delivery = folder.delivery
    if not delivery.settings.enabled:
        return DeliveryState.DISABLED, "enabled is false in its configuration"
    if delivery.paused_reason is not None:
        return DeliveryState.PAUSED, delivery.paused_reason
    if delivery.offline_reason is not None:
        return DeliveryState.OFFLINE, delivery.offline_reason
    if delivery.blocked_reason is not None:
        return DeliveryState.BLOCKED, delivery.blocked_reason
    reason = _trouble(folder)
    if delivery.sweeping or not delivery.swept:
        # Before its first sweep has ended nobody knows what the folder has: that is not "watched".
        return DeliveryState.SWEEPING, reason
    return DeliveryState.WATCHING, reason


def _trouble(folder: _Folder) -> str | None:
    """Say what is not as it should be though the delivery is at work, the gravest first."""
    if folder.sweep_problem is not None:
        return f"the last sweep was partial: {folder.sweep_problem}"
    if folder.held:
        return (
            f"{folder.held:,} of the files that wait are no longer in the folder and are kept: "
            + _held_hint(folder.delivery)
        )
    if folder.watch_problem is None and folder.delivery.taking_problem is not None:
        return f"stored files stay in the folder: {folder.delivery.taking_problem}"
    return folder.watch_problem


def _told(receipt: SessionReceipt | None) -> dict[str, str]:
    """Give what is told of a session's receipt as it ends."""
    if receipt is None:
        return {}
    if receipt.problem is not None:
        return {"receipt_problem": receipt.problem}
    return {"verdict": receipt.verdict or "", "receipt": receipt.digest or ""}
