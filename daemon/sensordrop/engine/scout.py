"""The scout: looks after every delivery's folder, and gets what is settled on the books.

Hints make it quick, sweeps make it right. It also ends sessions, because it alone knows when a
folder has been quiet.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.core.keys import path_text
from sensordrop.core.model import (
    DeliveryState,
    DoubtKind,
    EntryType,
    HintKind,
)
from sensordrop.core.session import DeliveryActivity, why_open
from sensordrop.core.tally import StationTally
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.patience import LedgerPatience
from sensordrop.engine.settling import SettlingFiles
from sensordrop.engine.sweeper import SweepResult, sweep
from sensordrop.ports import (
    Clock,
    DeliveryStatus,
    Ledger,
    SettledSighting,
    StopFlag,
    Watcher,
)

TICK_SECONDS = 0.2
"""How often files that settle are looked at, at most."""
UPKEEP_SECONDS = 1.0
"""How often watches are checked, sessions ended and statuses published."""
SWEEP_GAP_SECONDS = 1.0
"""Rest between two sweeps of a delivery that doubts ask for, at least as long as the last took."""
PARTIAL_RETRY_SECONDS = 60.0
"""When a sweep was partial the next comes after this at the latest."""
SWEEPERS = 2
"""Sweeps that run at once: disks don't list faster with more, databases neither."""
MANY_FILES = 1_000
"""More files than this at once: a listing of the bucket, a request for a thousand objects, costs
less than a look at each."""

_log = structlog.get_logger()


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
    published: DeliveryStatus | None = None
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
        enrolled_many: Callable[[int], None] = lambda _delivery_id: None,
        tally: StationTally | None = None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._watcher = watcher
        self._hints = hints
        self._bell = bell
        self._wake_uploader = wake_uploader
        self._enrolled_many = enrolled_many
        waits = (tally or StationTally()).settle_seconds
        self._folders = {
            d.name: _Folder(
                delivery=d, settling=SettlingFiles(clock, d.settings.rules.quiet_seconds, waits)
            )
            for d in deliveries
        }
        self._patience = LedgerPatience("scout", clock)
        self._sweeps: queue.SimpleQueue[_Folder | None] = queue.SimpleQueue()
        self._swept: queue.SimpleQueue[SweepResult | _LostSweep] = queue.SimpleQueue()
        self._sweepers: list[threading.Thread] = []
        self._upkeep_at = 0.0

    def run(self, stop: StopFlag) -> None:
        """Look after the folders until `stop` is set."""
        self._sweepers = [
            threading.Thread(target=self._sweep_loop, args=(stop,), name=f"sweeper-{n}")
            for n in range(SWEEPERS)
        ]
        for thread in self._sweepers:
            thread.start()
        try:
            while not stop.is_set():
                self._bell.wait(TICK_SECONDS)
                try:
                    self._step()
                    self._patience.back()
                except LedgerUnavailableError as error:
                    self._rest(stop, self._patience.lost(error))
        finally:
            for _ in self._sweepers:
                self._sweeps.put(None)
            for thread in self._sweepers:
                thread.join()
            self._ledger.close_own()

    def sweep_soon(self, name: str, why: str) -> None:
        """Ask for a sweep of a delivery. Safe from every thread."""
        folder = self._folders[name]
        folder.sweep_why = why
        folder.sweep_at = 0.0
        self._bell.ring()

    # --- the loop -------------------------------------------------------------------------

    def _rest(self, stop: StopFlag, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while not stop.is_set() and self._clock.monotonic() < until:
            self._bell.wait(TICK_SECONDS)

    def _step(self) -> None:
        self._take_swept()
        now = self._clock.monotonic()
        upkeep = now >= self._upkeep_at
        if upkeep:
            self._upkeep_at = now + UPKEEP_SECONDS
            self._watcher.check()
        for folder in self._folders.values():
            if not folder.delivery.settings.enabled:
                continue
            self._follow_hints(folder)
            if upkeep:
                self._look_for_root(folder)
                self._look_for_watch_problem(folder)
                self._look_at_watch(folder)
            self._start_sweep(folder)
            if upkeep:
                self._end_session(folder)
        if upkeep:
            self._publish()

    # --- hints and settling ---------------------------------------------------------------

    def _follow_hints(self, folder: _Folder) -> None:
        delivery = folder.delivery
        hints, doubt = self._hints.drain(delivery.name)
        if doubt is not None:
            self._doubt(folder, doubt)
        paths = dict.fromkeys(folder.settling.due(), HintKind.APPEARED) | hints
        if not paths or delivery.offline_reason:
            return
        if hints:
            delivery.last_activity = self._clock.monotonic()
        settled = [s for path, kind in paths.items() if (s := self._look(folder, path, kind))]
        if settled:
            self._enroll(folder, settled)
        self._count_settling(folder)

    def _look(self, folder: _Folder, path: bytes, kind: HintKind) -> SettledSighting | None:
        """Look at one file: give it if it is settled, else keep it among the settling."""
        try:
            sighting = folder.delivery.settings.source.look(path)
        except OSError as error:
            _log.warning(
                "look_failed",
                delivery=folder.delivery.name,
                path=path_text(path),
                problem=str(error),
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
        if files > MANY_FILES:
            self._enrolled_many(delivery.delivery_id)
        if files:
            delivery.session_open = True
            delivery.last_activity = self._clock.monotonic()
            self._wake_uploader()

    # --- sweeps ---------------------------------------------------------------------------

    def _want_sweep(self, folder: _Folder, why: str, seconds: float) -> None:
        """Have a sweep after so many seconds, unless one is due before."""
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
        """Notice when the delivery's folder goes away, comes back, or is another one."""
        delivery = folder.delivery
        source = delivery.settings.source
        device = source.device()
        reason: str | None = None
        if device is None:
            reason = f"the folder is missing: {delivery.settings.root}"
        elif delivery.device is not None and device != delivery.device and source.is_empty():
            reason = (
                f"the folder is empty and on another file system than before "
                f"(is the disk mounted?): {delivery.settings.root}"
            )
        elif (
            delivery.device is None
            and source.is_empty()
            and self._ledger.has_queued(delivery.delivery_id)
        ):
            reason = (
                f"the folder is empty, but files of it wait to be stored "
                f"(is the disk mounted?): {delivery.settings.root}"
            )
        if reason is not None and delivery.offline_reason is None:
            _log.warning("delivery_offline", delivery=delivery.name, problem=reason)
            folder.watch_wanted = True
            self._watcher.unwatch(delivery.name)
        if reason is None and delivery.offline_reason is not None:
            _log.info("delivery_online", delivery=delivery.name)
            self._want_sweep(folder, "the folder is back", 0.0)
        if reason is None and not delivery.sweeping and device != delivery.device:
            if delivery.device is not None:
                folder.watch_wanted = True
                self._want_sweep(folder, "the folder is on another file system", 0.0)
            delivery.device = device
        delivery.offline_reason = reason

    def _look_for_watch_problem(self, folder: _Folder) -> None:
        """Notice folders that the kernel's limit left unwatched: they are swept more often."""
        problem = folder.watch_error
        if problem is None and folder.watched:
            problem = self._watcher.problem(folder.delivery.name)
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
        delivery.watched = self._watcher.watching(delivery.name) if wanted else None

    def _start_sweep(self, folder: _Folder) -> None:
        delivery = folder.delivery
        now = self._clock.monotonic()
        if delivery.sweeping or delivery.device is None or delivery.offline_reason:
            return
        if now < folder.sweep_at:
            return
        _log.debug("sweep_started", delivery=delivery.name, why=folder.sweep_why)
        delivery.sweeping = True
        folder.sweep_at = float("inf")
        self._sweeps.put(folder)

    def _sweep_loop(self, stop: StopFlag) -> None:
        """Run sweeps one after the other, in a sweeper's thread."""
        try:
            while (folder := self._sweeps.get()) is not None and not stop.is_set():
                delivery = folder.delivery
                try:
                    folder.watched = delivery.settings.can_watch()
                    watch = folder.watched and (
                        folder.watch_wanted or not self._watcher.watching(delivery.name)
                    )
                    result = sweep(
                        delivery,
                        ledger=self._ledger,
                        clock=self._clock,
                        watcher=self._watcher if watch else None,
                        stop=stop,
                    )
                    self._swept.put(result)
                except LedgerUnavailableError as error:
                    self._swept.put(_LostSweep(delivery=delivery, error=error))
                except BaseException as bug:  # noqa: BLE001 — raised again in the scout's thread
                    self._swept.put(_LostSweep(delivery=delivery, error=bug))
                self._bell.ring()
        finally:
            self._ledger.close_own()

    def _take_swept(self) -> None:
        while True:
            try:
                result = self._swept.get_nowait()
            except queue.Empty:
                return
            folder = self._folders[result.delivery.name]
            folder.delivery.sweeping = False
            folder.sweep_ended = self._clock.monotonic()
            if isinstance(result, _LostSweep):
                folder.delivery.tally.sweeps_lost += 1
                folder.sweep_complete = False
                # It may have opened a session before it was lost; `_end_session` finds out.
                folder.delivery.session_open = True
                self._want_sweep(folder, "the last sweep was broken off", SWEEP_GAP_SECONDS)
                raise result.error
            self._swept_well(folder, result)

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
        self._want_sweep(folder, "timer", interval)
        if result.unsettled_left:
            self._want_sweep(folder, "files had to settle", settings.rules.quiet_seconds)
        for sighting in result.unsettled:
            folder.settling.keep(sighting)
        self._count_settling(folder)
        self._enrolled(delivery, summary.new + summary.changed, result.session_opened)

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

    def _end_session(self, folder: _Folder) -> None:
        delivery = folder.delivery
        now = self._clock.monotonic()
        if delivery.retried:
            delivery.retried = False
            delivery.session_open = True  # perhaps a new one, which nobody told us of
        if not delivery.session_open or now < folder.session_look_at:
            return
        activity = DeliveryActivity(
            settling=len(folder.settling),
            hints_waiting=self._hints.waiting(delivery.name),
            sweeping=delivery.sweeping,
            sweep_wanted=folder.sweep_at <= now,
            last_sweep_complete=folder.sweep_complete and delivery.offline_reason is None,
            queued=0,
            last_activity=delivery.last_activity,
        )
        quiet = delivery.settings.rules.quiet_seconds
        if why_open(activity, monotonic=now, quiet_seconds=quiet) is not None:
            return
        if self._ledger.has_queued(delivery.delivery_id):
            folder.session_look_at = now + UPKEEP_SECONDS
            return
        summary = self._ledger.finish_session(delivery.delivery_id)
        if summary is None:
            delivery.session_open = delivery.delivery_id in self._ledger.open_sessions(
                [delivery.delivery_id]
            )
            return
        delivery.session_open = False
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
        )

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


@dataclass(frozen=True, kw_only=True)
class _LostSweep:
    """A sweep that raised."""

    delivery: Delivery
    error: BaseException


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
    trouble = folder.sweep_problem or folder.watch_problem
    reason = None if trouble is None else f"the last sweep was partial: {trouble}"
    if folder.sweep_problem is None and folder.watch_problem is not None:
        reason = folder.watch_problem
    if delivery.sweeping:
        return DeliveryState.SWEEPING, reason
    return DeliveryState.WATCHING, reason
