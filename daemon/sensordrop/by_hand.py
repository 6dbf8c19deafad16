"""A run by hand: the daemon's services on one delivery, from the first look to the summary."""

from __future__ import annotations

import hashlib
import os
import signal
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import structlog

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.source import FolderSource
from sensordrop.adapters.state import StateDirectory
from sensordrop.composition.daemon import Daemon
from sensordrop.composition.deliveries import binding_of, make_delivery
from sensordrop.composition.ledgers import open_ledger
from sensordrop.config import Configuration, DaemonConfig, DeliveryConfig
from sensordrop.core.batch import (
    Ended,
    Figures,
    RunEnd,
    Target,
    another_run,
    delivery_name,
    same_delivery,
)
from sensordrop.core.check import CheckOutcome
from sensordrop.core.controls import ControlKind, Rescan, pause_words
from sensordrop.core.letters import LetterKind, LetterState
from sensordrop.core.story import DeliveryPlace
from sensordrop.engine.batch import LOOK_SECONDS, BatchRun, figures_of
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.following import Following
from sensordrop.engine.halts import SET_BY
from sensordrop.engine.signal_flag import SignalFlag
from sensordrop.engine.supervisor import Service
from sensordrop.engine.sweeper import tell_progress
from sensordrop.ports.life import Clock
from sensordrop.ports.telling import LetterLine, RetryOrder, SessionTrouble

RUNS = uuid.UUID("5f0e8f0a-5a0c-4c0b-9f6e-2b7f6f0f6d11")
"""Runs of the same folder at the same station are told by a number made of both under this one."""

_log = structlog.get_logger()


class Interrupts:
    """Counts what asks a run to stop: the first means in order, the second now. A `StopFlag`."""

    def __init__(self) -> None:
        self._first = SignalFlag()
        self._second = False
        self._on_second: Callable[[], None] | None = None

    def install(self) -> None:
        """Take the signals over. Only in the main thread; not every system has all of them."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._take)
        if hasattr(signal, "SIGIO"):  # see sensordrop.service: a lease of ours must not end us
            signal.signal(signal.SIGIO, signal.SIG_IGN)

    def is_set(self) -> bool:
        """Tell whether to stop."""
        return self._first.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the first signal, at most so long; tell whether it came."""
        return self._first.wait(seconds)

    def on_second(self, call: Callable[[], None]) -> None:
        """Have something called at the second signal; it must only set flags."""
        self._on_second = call
        if self._second:  # it came before anybody wanted to hear of it
            call()

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if not self._first.is_set():
            self._first.set()
            return
        self._second = True
        if self._on_second is not None:
            self._on_second()


@dataclass(frozen=True, kw_only=True)
class HandOptions:
    """What a run is to do."""

    dry_run: bool = False
    auto_retry: bool = True
    """Files that fail are tried again, and those that had failed before too."""
    only_named: bool = False
    """Somebody asked for what failed: the run says so even if that is nothing."""
    retry_session: int | None = None
    """Only what failed in this session is tried again."""
    retry_paths: Sequence[bytes] | None = None
    confirm_vanished: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class HandResult:
    """What came of a run."""

    ended: Ended
    session_id: int | None = None
    delivery: str = ""
    delivery_id: int | None = None
    figures: Figures | None = None
    failed: Sequence[SessionTrouble] = ()
    """What is in quarantine in the delivery now, whichever session it failed in."""

    letters: Sequence[LetterLine] = ()
    """What was to be told about the session."""

    @property
    def untold(self) -> LetterLine | None:
        """The registration, if there is one that was not heard yet. Notifications are only news."""
        registration, told = LetterKind.REGISTRATION, LetterState.TOLD
        letters = (each for each in self.letters if each.kind is registration)
        return next((each for each in letters if each.state is not told), None)

    @property
    def well(self) -> bool:
        """Whether everything that was found is stored."""
        return self.ended.how is RunEnd.DONE and not self.failed


@dataclass(frozen=True, kw_only=True)
class HandPlace:
    """Where a run keeps its books: the daemon's settings, and the folder of an embedded server."""

    daemon: DaemonConfig
    directory: Path
    station: str | None
    home: Path
    """The user's own folder, which names the station where nobody else does."""


class HandRun:
    """One run. `go` blocks; only in the main thread."""

    def __init__(
        self,
        *,
        place: HandPlace,
        config: DeliveryConfig,
        named: bool,
        started_by: str,
        options: HandOptions,
        stop: Interrupts,
    ) -> None:
        """`named`: somebody gave the delivery its name; else it is that of a file."""
        self._place = place
        self._config = config
        self._named = named
        self._started_by = started_by
        self._options = options
        self._stop = stop
        self._clock = SystemClock()

    def go(self) -> HandResult:
        """Do it all.

        Raises LedgerUnavailableError, LedgerRefusedError and EmbeddedServerError where there is
        no ledger, ServiceGaveUpError where the work can't be kept going.
        """
        if FolderSource(str(self._config.local_directory)).device() is None:
            words = f"{self._config.local_directory} is not there, or is no folder: is the card in?"
            return HandResult(ended=Ended(how=RunEnd.OFFLINE, words=words))
        with open_ledger(
            self._place.daemon,
            directory=self._place.directory,
            stop=self._stop,
            origin="batch",
            started_by=self._started_by,
            as_service=True,
        ) as ledger:
            for name in ledger.migrate():
                _log.debug("ledger_migrated", migration=name)
            return self._with(ledger)

    def _with(self, ledger: PostgresLedger) -> HandResult:
        station = self._place.station or _own_station(self._place.home)
        target = _target(self._config)
        places = [p for p in ledger.delivery_places(station) if p.station in (None, station)]
        known = same_delivery(target, places)
        if self._options.dry_run:
            return self._dry_run(ledger, known)
        if known is not None and ledger.looked_after(known.delivery_id):
            return self._hand_over(ledger, known, station)
        folder = f"{station}\n{os.path.realpath(target.local_directory)}"
        if not ledger.hold_run(folder):
            return HandResult(ended=another_run(target.local_directory))
        digest = hashlib.sha256(repr(target).encode()).hexdigest()
        name = self._config.name
        if known is not None or not self._named:
            name = delivery_name(name, target, places, digest=digest)
        taken = next((p for p in places if p.name == name and p is not known), None)
        if taken is not None and ledger.looked_after(taken.delivery_id):
            words = (
                f"sensordropd looks after another delivery {name!r} ({taken.local_directory}): "
                "give this one another name"
            )
            return HandResult(ended=Ended(how=RunEnd.BLOCKED, words=words))
        self._config = self._config.model_copy(update={"name": name})
        return self._work(ledger, station, folder)

    # --- working --------------------------------------------------------------------------

    def _work(self, ledger: PostgresLedger, station: str, folder: str) -> HandResult:
        config = self._config
        if not self._options.auto_retry:
            config = self._config = config.model_copy(update={"times_to_retry": 0})
        run: list[BatchRun] = []

        def companion(deliveries: Sequence[Delivery], clock: Clock) -> Service:
            made = BatchRun(
                ledger=ledger,
                clock=clock,
                delivery=deliveries[0],
                session_id=session_id,
                folder=folder,
            )
            run.append(made)
            return Service(name="run", run=made.run, wake=made.wake)

        daemon = Daemon(
            configuration=Configuration(
                daemon=self._place.daemon.model_copy(
                    update={"metrics_listen": None, "audit_share_per_day": "0%"}
                ),
                deliveries=(config,),
                source=None,
            ),
            ledger=ledger,
            station=station,
            instance=uuid.uuid5(RUNS, folder),
            by_hand=companion,
        )
        daemon.register(crashed=False)
        delivery_id, session_id = daemon.begin_session(config.name)
        refused = self._begin(ledger, daemon, delivery_id, session_id)
        if refused is not None:
            ledger.finish_session(delivery_id)
            daemon.end()
            return HandResult(ended=refused, delivery=config.name)
        self._stop.on_second(daemon.stop_now)
        daemon.run(_Either(self._stop, run))
        ended = run[0].ended or Ended(how=RunEnd.INTERRUPTED)
        return self._result(ledger, ended, config.name, delivery_id, session_id)

    def _begin(
        self, ledger: PostgresLedger, daemon: Daemon, delivery_id: int, session_id: int
    ) -> Ended | None:
        """Tell what the run is about, and see that nothing is in its way; say what is."""
        config = self._config
        retries = config.times_to_retry if self._options.auto_retry else 0
        _log.info("run_started", session=session_id, delivery=config.name,
                  retries=retries, retry_delay_seconds=config.retry_delay_seconds,
                  folder=str(config.local_directory), profile=config.aws_profile,
                  bucket=config.bucket_name, prefix=config.s3_prefix)  # fmt: skip
        ledger.forget_own_pause(delivery_id, set_by=SET_BY, ended_by=self._started_by)
        paused = pause_words(
            [c for c in daemon.controls_at_start if c.set_by != SET_BY], delivery_id
        )
        if paused is not None:
            return Ended(how=RunEnd.PAUSED, words=paused)
        checks = make_delivery(config, delivery_id).settings.destination.preflight(config.s3_prefix)
        for check in checks:
            _log.info("run_check", check=check.name, outcome=check.outcome.value,
                      found=check.words, hint=check.hint)  # fmt: skip
        for check in checks:
            if check.outcome is CheckOutcome.FAILED:
                return Ended(how=RunEnd.BLOCKED, words=_advice(check.words, check.hint))
        self._retry(ledger, delivery_id)
        if self._options.confirm_vanished:
            ledger.set_control(ControlKind.RESCAN, Rescan.CONFIRM_VANISHED.value, station=daemon.station,
                               delivery=config.name, set_by=self._started_by)  # fmt: skip
        (standing,) = (d for d in ledger.status(daemon.station) if d.delivery_id == delivery_id)
        stored = sum(standing.counts.get(s, [0])[0] for s in ("uploaded", "skipped"))
        _log.info("run_stored_before", files=stored)
        return None

    def _retry(self, ledger: PostgresLedger, delivery_id: int) -> None:
        """Have tried again what is wanted, with its attempts before it."""
        options = self._options
        by_name = (
            options.only_named
            or options.retry_session is not None
            or options.retry_paths is not None
        )
        if not (options.auto_retry or by_name):
            return
        what = "all that failed before"
        if options.retry_session is not None:
            what = f"all that failed in session {options.retry_session}"
        if options.retry_paths is not None:
            what = f"{len(options.retry_paths)} files by name"
        result = ledger.retry(
            RetryOrder(
                delivery_id=delivery_id,
                session_id=options.retry_session,
                paths=options.retry_paths,
                what=what,
                asked_by=self._started_by,
                at_once=True,
                reason=options.reason,
            )
        )
        if result.retried or by_name:
            _log.info("run_retries", files=result.retried)

    def _result(
        self,
        ledger: PostgresLedger,
        ended: Ended,
        delivery: str,
        delivery_id: int,
        session_id: int,
    ) -> HandResult:
        lines = ledger.list_sessions([], session_id=session_id, most=1)
        return HandResult(
            ended=ended,
            delivery=delivery,
            delivery_id=delivery_id,
            session_id=session_id if lines else None,
            figures=figures_of(lines[0]) if lines else None,
            failed=ledger.failed_now(delivery_id),
            letters=ledger.letters_of(session_id),
        )

    # --- what else may come of it ---------------------------------------------------------

    def _dry_run(self, ledger: PostgresLedger, known: DeliveryPlace | None) -> HandResult:
        """List and compare; neither the books nor the store are touched."""
        config = self._config
        delivery_id = known.delivery_id if known is not None else None
        settings = make_delivery(config, delivery_id or 0, by_hand=True).settings
        finder = settings.make_finder()
        found = ledger.dry_run(
            delivery_id,
            finder.list(settings.root, self._stop, tell_progress(config.name, self._clock)),
            settings.rules,
            wall_ns=self._clock.wall_ns(),
        )
        _log.info("run_dry", folder=settings.root, bucket=config.bucket_name,
                  prefix=config.s3_prefix, files=finder.report.files, **asdict(found))  # fmt: skip
        if self._stop.is_set():
            return HandResult(ended=Ended(how=RunEnd.INTERRUPTED))
        if not finder.report.complete:
            words = finder.report.problem or "the folder could not be listed to its end"
            return HandResult(ended=Ended(how=RunEnd.PARTIAL, words=words))
        return HandResult(ended=Ended(how=RunEnd.DONE))

    def _hand_over(self, ledger: PostgresLedger, place: DeliveryPlace, station: str) -> HandResult:
        """Have the living daemon sweep its folder, and follow what comes of it."""
        _log.info("run_handed_over", delivery=place.name, folder=place.local_directory)
        following = Following(ledger=ledger, clock=self._clock, place=place, station=station)
        wanted = Rescan.CONFIRM_VANISHED if self._options.confirm_vanished else Rescan.SWEEP
        ledger.set_control(ControlKind.RESCAN, wanted.value, station=station,
                           delivery=place.name, set_by=self._started_by)  # fmt: skip
        self._retry(ledger, place.delivery_id)
        ended: Ended | None = None
        while ended is None and not self._stop.wait(LOOK_SECONDS):
            ended = following.look()
        followed = following.session
        return HandResult(
            ended=ended or Ended(how=RunEnd.INTERRUPTED),
            delivery=place.name,
            delivery_id=place.delivery_id,
            session_id=None if followed is None else followed.session_id,
            figures=None if followed is None else figures_of(followed),
            failed=ledger.failed_now(place.delivery_id),
            letters=following.letters(),
        )


class _Either:
    """A `StopFlag`: somebody asks for the end, or the run is over."""

    def __init__(self, stop: Interrupts, run: Sequence[BatchRun]) -> None:
        self._stop = stop
        self._run = run

    def is_set(self) -> bool:
        return self._stop.is_set() or any(each.is_set() for each in self._run)


def _own_station(home: Path) -> str:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return StateDirectory(home).station()


def _target(config: DeliveryConfig) -> Target:
    binding = binding_of(config, None)
    return Target(
        local_directory=binding.local_directory,
        endpoint_url=binding.endpoint_url or "",
        bucket_name=binding.bucket_name,
        s3_prefix=binding.s3_prefix,
    )


def _advice(words: str, hint: str) -> str:
    return f"{words} — {hint}" if hint else words
