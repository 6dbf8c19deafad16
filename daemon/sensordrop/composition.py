"""Joins the rooms: builds adapters from the configuration and hands them to the engine."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from uuid import UUID

import structlog

from sensordrop.adapters import logs as log
from sensordrop.adapters.clock import SystemClock, local_zone
from sensordrop.adapters.descriptors import make_room
from sensordrop.adapters.exposition import CONTENT_TYPE, Exposition
from sensordrop.adapters.finder import FindFinder, WalkFinder, find_is_gnu
from sensordrop.adapters.ledger.embedded import EmbeddedPostgres
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.local_s3 import LocalS3, LocalS3Keeper
from sensordrop.adapters.mounts import needs_polling
from sensordrop.adapters.no_watcher import NoWatcher
from sensordrop.adapters.notifier import HttpNotifier
from sensordrop.adapters.notify_socket import NotifySocket
from sensordrop.adapters.processes import EmbeddedServerError
from sensordrop.adapters.s3 import CapabilityBook, S3Destination, S3Settings
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.s3.requests import RequestTally
from sensordrop.adapters.service_user import stand_in_for_root
from sensordrop.adapters.source import FolderSource
from sensordrop.adapters.status_pages import StatusPages, pages
from sensordrop.config import Configuration, DaemonConfig, DeliveryConfig, Endpoint
from sensordrop.config.bandwidth import limit_of
from sensordrop.config.kinds import share_of
from sensordrop.control.address import ledger_name, socket_path
from sensordrop.control.server import ControlServer, SocketSettings
from sensordrop.control.service import Operations
from sensordrop.core.bandwidth import Limit
from sensordrop.core.controls import Control
from sensordrop.core.failure import FailureScope, LedgerUnavailableError
from sensordrop.core.letters import LetterKind
from sensordrop.core.lifecycle import RetryPolicy
from sensordrop.core.model import Doubt, DoubtKind
from sensordrop.core.selection import Selection
from sensordrop.core.taking import WishKind, wish_of
from sensordrop.core.tally import StationTally
from sensordrop.core.timetable import Rate
from sensordrop.core.vitals import ConfigurationInForce, DiskSpace
from sensordrop.engine.auditor import Auditor
from sensordrop.engine.controls import ControlDesk
from sensordrop.engine.delivery import Bell, Delivery, DeliverySettings
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.janitor import Janitor
from sensordrop.engine.limits import STATION, Limits
from sensordrop.engine.lister import Lister
from sensordrop.engine.observer import Observer
from sensordrop.engine.parts import LedgerParts
from sensordrop.engine.pauses import HandRetries, Pauses
from sensordrop.engine.receipts import (
    MadeReceipt,
    NoReceiptError,
    ReceiptTools,
    delivery_receipt,
    session_receipt,
)
from sensordrop.engine.reloader import Asked, Reloader
from sensordrop.engine.rescans import Rescans
from sensordrop.engine.roster import Roster
from sensordrop.engine.scout import Scout
from sensordrop.engine.sender import Route, Sender
from sensordrop.engine.supervisor import Service, Supervisor
from sensordrop.engine.taker import Taker
from sensordrop.engine.teller import Teller
from sensordrop.engine.throttle import Throttles
from sensordrop.engine.tidier import Tidier
from sensordrop.engine.transfers import TransferPool
from sensordrop.engine.uploader import Uploader
from sensordrop.engine.workers import Pool
from sensordrop.ports.finding import Finder
from sensordrop.ports.life import Clock, ReloadOutcome, StopFlag, Trail
from sensordrop.ports.records import (
    DeliveryBinding,
    EndpointBinding,
    EnrollRules,
    Registration,
    SessionReceipt,
)
from sensordrop.ports.taking import Taking
from sensordrop.ports.transfer import Throttle, Turn
from sensordrop.ports.watching import Watcher
from sensordrop.reloading import Load, Parts, Reloading
from sensordrop.version import VERSION

POLLING_SECONDS = 30.0
"""Where a folder can't be watched it is swept this often, or less often if sweeps take long."""
TIDIER_SILENCE_SECONDS = 1_500.0
"""The tidier rests ten minutes between two looks, and a look may take as long as others' silence."""
COLLECT_AFTER = 20_000
"""New objects after which Python looks for garbage that refers to itself. Its default of 700 is
reached with every few files, and hardly anything of ours does: nearly all goes without it."""
LOCAL_ENDPOINT = "embedded"
"""How the ledger names the embedded S3 server, whose port may change."""

_log = structlog.get_logger()


@contextmanager
def open_ledger(
    config: DaemonConfig,
    *,
    directory: Path,
    stop: StopFlag | None = None,
    origin: str = "daemon",
    started_by: str = "sensordropd",
    as_service: bool = False,
) -> Iterator[PostgresLedger]:
    """Give the configured ledger; an embedded one is started, and ends with its last user.

    `directory` is where an embedded PostgreSQL lives. Raises EmbeddedServerError where it can't
    be started. A database elsewhere is not connected to before its first use. With `as_service`,
    root, turned away by a PostgreSQL that knows its users by name, comes as the service's user.
    """
    if config.database != "embedded":
        ledger = PostgresLedger(
            lambda: config.database,
            stand_in=stand_in_for_root if as_service else None,
            origin=origin,
            started_by=started_by,
        )
        try:
            yield ledger
        finally:
            ledger.close()
        return
    with EmbeddedPostgres(
        directory, log=lambda text: _log.info("embedded_postgres", message=text), stop=stop
    ) as server:
        ledger = PostgresLedger(
            lambda: server.dsn,
            revive=lambda: _ensure(server),
            origin=origin,
            started_by=started_by,
        )
        try:
            yield ledger
        finally:
            ledger.close()


def _ensure(server: EmbeddedPostgres) -> None:
    try:
        server.ensure_running()
    except EmbeddedServerError as error:
        raise LedgerUnavailableError(str(error)) from error


def binding_of(config: DeliveryConfig, local: LocalS3 | None) -> DeliveryBinding:
    """Say what the ledger keeps of a delivery's configuration."""
    return DeliveryBinding(
        name=config.name,
        client=config.client,
        project=config.project,
        cycle=config.cycle,
        local_directory=str(config.local_directory),
        bucket_name=config.bucket_name,
        s3_prefix=config.s3_prefix,
        endpoint_url=LOCAL_ENDPOINT if local else config.endpoint_url,
        aws_region=config.aws_region,
        sensor_level=config.sensor_level,
        shared=config.shared,
        enabled=config.enabled,
        selection={
            "include": list(config.include),
            "exclude": list(config.exclude),
            "extensions": None if config.extensions is None else list(config.extensions),
        },
        configuration=config.public_dict(),
        endpoints=[
            EndpointBinding(kind=kind, endpoint=endpoint.shown, digest=endpoint.digest)
            for kind, endpoint in endpoints_of(config).items()
        ],
    )


def endpoints_of(config: DeliveryConfig) -> dict[LetterKind, Endpoint]:
    """Say whom a delivery tells what."""
    found: dict[LetterKind, Endpoint] = {}
    if config.endpoint is not None:
        found[LetterKind.REGISTRATION] = config.endpoint
    if config.notify is not None:
        found |= dict.fromkeys(config.notify.events, config.notify)
    return found


def s3_settings(
    config: DeliveryConfig, local: LocalS3 | None, requests: RequestTally | None = None
) -> S3Settings:
    """Translate a delivery's keys into what the S3 adapter takes."""
    settings = S3Settings(
        bucket_name=config.bucket_name,
        aws_region=config.aws_region,
        aws_profile=config.aws_profile,
        endpoint_url=config.endpoint_url,
        acl=config.acl,
        storage_class=config.storage_class,
        sse=config.sse,
        kms_key_id=config.kms_key_id,
        tags=dict(config.tags),
        addressing_style=config.addressing_style,  # type: ignore[arg-type]
        ca_bundle=None if config.ca_bundle is None else str(config.ca_bundle),
        proxy=config.proxy,
        request_checksum_calculation=(
            None
            if config.request_checksum_calculation == "auto"
            else config.request_checksum_calculation  # type: ignore[arg-type]
        ),
        multipart_threshold_bytes=config.multipart_threshold_bytes,
        max_connections=config.max_workers,
        read_timeout_seconds=config.stall_seconds,
        engine=config.engine,  # type: ignore[arg-type]
        store_check=config.store_check,  # type: ignore[arg-type]
        requests=requests,
    )
    if local is None:
        return settings
    return replace(
        settings,
        endpoint_url=local.endpoint_url,
        access_key_id=local.access_key,
        secret_access_key=local.secret_key,
        aws_profile=None,
        addressing_style="path",
    )


def make_delivery(
    config: DeliveryConfig,
    delivery_id: int,
    local: LocalS3 | None = None,
    book: CapabilityBook | None = None,
    throttle: Throttle | None = None,
    *,
    requests: RequestTally | None = None,
    by_hand: bool = False,
) -> Delivery:
    """Build a delivery with its folder, its finder and its destination.

    `book`: what is seen of the stores, shared with other deliveries; `requests`: where requests
    to them are counted; `by_hand`: for a run that sweeps once, and ends.
    """
    selection = Selection(
        include=config.include, exclude=config.exclude, extensions=config.extensions
    )
    settings = s3_settings(config, local, requests)
    source = FolderSource(str(config.local_directory))
    taking = None if by_hand else _taking_rule(config, source)
    return Delivery(
        mended=taking is None,
        settings=DeliverySettings(
            name=config.name,
            delivery_id=delivery_id,
            root=str(config.local_directory),
            s3_prefix=config.s3_prefix,
            rules=EnrollRules(
                selection=selection,
                sensor_level=config.sensor_level,
                quiet_seconds=config.quiet_seconds,
            ),
            policy=RetryPolicy(
                times_to_retry=config.times_to_retry,
                retry_delay_seconds=config.retry_delay_seconds,
                retry_cap_seconds=config.retry_cap_seconds,
                quiet_seconds=config.quiet_seconds,
                pause_after_failures=config.pause_after_failures,
            ),
            priority=config.priority,
            max_workers=config.max_workers,
            sweep_interval_seconds=inf if by_hand else config.sweep_interval_seconds,
            polling_interval_seconds=None if by_hand or config.watch == "off" else POLLING_SECONDS,
            can_watch=(lambda: False) if by_hand else _watch_rule(config),
            writer_check=config.writer_check,
            vanish_share=config.vanish_share,
            enabled=config.enabled,
            breaker_keys={
                FailureScope.PROJECT: f"{config.client}/{config.project}/{config.bucket_name}",
                FailureScope.DESTINATION: settings.endpoint_url or f"s3 {config.aws_region or ''}",
                FailureScope.STATION: "this station",
            },
            source=source,
            destination=S3Destination(settings, book, throttle),
            make_finder=_finder_rule(config),
            listing_age_seconds=config.listing_age_seconds,
            client=config.client,
            project=config.project,
            cycle=config.cycle,
            session_deadline_seconds=config.session_deadline_seconds,
            session_receipt=config.session_receipt,
            taking=taking,
            session_quiet_seconds=0.0 if by_hand else None,
        ),
    )


def _taking_rule(config: DeliveryConfig, source: FolderSource) -> Taking | None:
    """Give what takes stored files away, where the delivery asks for it. Elsewhere what could do it
    is not even loaded.
    """
    wish = wish_of(config.after_verified)
    if wish.kind is WishKind.KEEP:
        return None
    from sensordrop.adapters.taking import FolderTaking  # noqa: PLC0415 — as said

    return FolderTaking(str(config.local_directory), wish, source)


def _watch_rule(config: DeliveryConfig) -> Callable[[], bool]:
    def can_watch() -> bool:
        if config.watch != "auto":
            return config.watch == "inotify"
        try:
            return not needs_polling(str(config.local_directory))
        except OSError:  # the folder went away just now; the next sweep asks again
            return False

    return can_watch


def _inotify(hints: HintQueue) -> Watcher:
    """Make the watcher of a daemon. Only Linux has inotify; runs by hand need none."""
    from sensordrop.adapters.watcher import InotifyWatcher  # noqa: PLC0415 — see above

    return InotifyWatcher(hints)


def _finder_rule(config: DeliveryConfig) -> Callable[[], Finder]:
    if config.use_find and find_is_gnu():
        return FindFinder
    return WalkFinder


Companion = Callable[[Sequence[Delivery], Clock], Service]
"""Makes the service that looks after a run by hand."""


class ConfiguredThrottle:
    """A delivery's limits in a program of its own, as `ports.Throttle`: those of the configuration
    at this time of day. Nobody has to look at the clock beside it.
    """

    def __init__(self, config: DeliveryConfig, daemon: DaemonConfig, clock: Clock) -> None:
        zone = local_zone()
        self._clock = clock
        self._name = config.name
        self._station = limit_of(daemon.bandwidth, zone)
        self._own = limit_of(config.bandwidth, zone)
        self._throttles = Throttles(clock)
        self._throttle = self._throttles.of(config.name)
        self._lock = threading.Lock()
        self._rates: tuple[Rate, Rate] = (None, None)

    @property
    def limited(self) -> bool:
        """See `ports.Throttle.limited`."""
        now = self._clock.now()
        with self._lock:
            rates = self._station.rate(now), self._own.rate(now)
            if rates != self._rates:
                self._rates = rates
                self._throttles.set_rates(rates[0], {self._name: rates[1]})
        return self._throttle.limited

    def turn(self) -> Turn:
        """See `ports.Throttle.turn`."""
        return self._throttle.turn()


def collect_seldom() -> None:
    """Have Python look for garbage seldom, and never again at what is there by now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


class Daemon:
    """sensordropd's services on one ledger, from registering to the end."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        ledger: PostgresLedger,
        station: str,
        instance: UUID,
        local: LocalS3 | None = None,
        manager: NotifySocket | None = None,
        by_hand: Companion | None = None,
        load: Load | None = None,
        asked: Asked | None = None,
        note_reload: Callable[[ReloadOutcome, float], None] = lambda _outcome, _began: None,
    ) -> None:
        """`manager`: who started us and wants to hear how it goes; `by_hand`: this is no daemon but
        a run by hand, and whoever looks after it.

        `load` reads the configuration anew whenever somebody `asked` for it; `note_reload` keeps
        what came of it, with the monotonic time at which it began.
        """
        self._by_hand = by_hand
        self._manager = manager or NotifySocket(None)
        self._reloading = Reloading(configuration, load or (lambda: (configuration, ())))
        self._can_reload = load is not None
        self._asked = asked or Asked()
        self._note_reload = note_reload
        self._book = CapabilityBook()
        self._observer: Observer | None = None
        self._ledger = ledger
        self.station = station
        self._instance = instance
        self._local = local
        self._clock = SystemClock()
        self._throttles = Throttles(self._clock)
        self._tally = StationTally()
        self._requests = RequestTally()
        self._configuration_in_force = ConfigurationInForce(
            digest=_digest(configuration), loaded_at=self._clock.now().timestamp()
        )
        self._registration: Registration | None = None
        self._sessions_at_start: Collection[int] = ()
        self._controls_at_start: Sequence[Control] = ()
        self._trail: Trail | None = None
        self._supervisor: Supervisor | None = None
        self._hurried = False

    @property
    def _configuration(self) -> Configuration:
        """What is in force."""
        return self._reloading.configuration

    def register(self, *, crashed: bool, in_work: Sequence[int] | None = None) -> None:
        """Bring the ledger's schema up to date and write this daemon down in it.

        `crashed`: the process before died of its work; `in_work` names the files, if it is known.
        """
        for name in self._ledger.migrate():
            _log.info("ledger_migrated", migration=name)
        if advice := self._ledger.reader_advice():
            _log.info("reader_missing", hint=advice)
        with self._reloading.lock:
            self._registration = self._ledger.register(
                station=self.station,
                instance=self._instance,
                origin="daemon" if self._by_hand is None else "batch",
                version=VERSION,
                bindings=[binding_of(c, self._local) for c in self._configuration.deliveries],
                daemon_configuration=self._configuration.daemon.public_dict(),
                crashed=crashed,
                in_work=in_work,
            )
        if self._registration.claims_taken_back:
            _log.info("claims_taken_back", files=self._registration.claims_taken_back)
        # With the registration, because whoever calls this waits for a ledger that is away.
        delivery_ids = list(self._registration.delivery_ids.values())
        self._sessions_at_start = self._ledger.open_sessions(delivery_ids)
        self._controls_at_start = self._ledger.controls(self._daemon_id(), delivery_ids)

    def begin_session(self, delivery: str) -> tuple[int, int]:
        """Open a session before the work begins, unless one runs; give the delivery's id and its."""
        assert self._registration is not None, "register first"
        delivery_id = self._registration.delivery_ids[delivery]
        session_id = self._ledger.begin_session(delivery_id)
        self._sessions_at_start = self._ledger.open_sessions([delivery_id])
        return delivery_id, session_id

    @property
    def controls_at_start(self) -> Sequence[Control]:
        """What people had set when this program registered."""
        return self._controls_at_start

    def _make(self, config: DeliveryConfig, delivery_id: int, most_workers: int) -> Delivery:
        return make_delivery(
            config.model_copy(update={"max_workers": min(config.max_workers, most_workers)}),
            delivery_id,
            self._local,
            self._book,
            self._throttles.of(config.name),
            requests=self._requests,
            by_hand=self._by_hand is not None,
        )

    def _most_workers(self, configuration: Configuration) -> int:
        """Say how many uploads this process may open files for, and tell where it is too few."""
        wanted = max((c.max_workers for c in configuration.deliveries), default=1)
        room = make_room(wanted)
        if room.uploads < wanted:
            _log.warning(
                "few_descriptors",
                problem=f"this process may open {room.limit} files, and max_workers of {wanted} "
                f"wants {room.wanted}: {room.uploads} uploads run at once",
                hint="raise LimitNOFILE of the service (`ulimit -n`), or lower max_workers",
            )
        return room.uploads

    def run(self, wanted: StopFlag, trail: Trail | None = None) -> None:
        """Run the services until `wanted` is set, then end them in order.

        `trail`: where it is noted which files are in work.

        Raises ServiceGaveUpError when a service can't be kept running.
        """
        assert self._registration is not None, "register first"
        self._trail = trail
        most = self._most_workers(self._configuration)
        ids = self._registration.delivery_ids
        deliveries = Roster(
            self._make(config, ids[config.name], most) for config in self._configuration.deliveries
        )
        for delivery in deliveries:
            delivery.session_open = delivery.delivery_id in self._sessions_at_start
        bell = Bell()
        hints = HintQueue(bell)
        watcher = NoWatcher() if self._by_hand else _inotify(hints)
        self._supervisor = Supervisor(
            self._services(deliveries, bell, hints, watcher),
            self._clock,
            alive=self._manager.alive,
        )
        if self._hurried:
            self._supervisor.stop_now()
        collect_seldom()
        try:
            self._supervisor.run(wanted)
        finally:
            watcher.close()
        self.end()

    def end(self) -> None:
        """Write down that this program has ended, after `run` or instead of it."""
        assert self._registration is not None, "register first"
        # This thread's connection was not used while the services ran: it may have been lost since.
        self._ledger.close_own()
        try:
            self._ledger.fold_counters()
            self._ledger.end(self._registration.daemon_id)
        except LedgerUnavailableError as error:
            _log.warning("end_not_written", problem=str(error),
                         hint="nothing is lost; the next start tidies up")  # fmt: skip

    def stop_now(self) -> None:
        """Don't wait for running uploads any longer. Safe in a signal handler."""
        self._hurried = True
        if self._supervisor is not None:
            self._supervisor.stop_now()

    def _session_receipt(self, delivery: Delivery, mark: str, stop: StopFlag) -> SessionReceipt:
        """Make a session's receipt; see `scout.MakeReceipt`."""
        try:
            tools = self._receipt_tools()
        except NoReceiptError as error:
            return SessionReceipt(mark=mark, problem=str(error))
        return session_receipt(tools, delivery, mark, stop)

    def _receipt_now(self, delivery: Delivery, stop: StopFlag) -> MadeReceipt:
        """Make a receipt before files are taken away; see `engine.taking.MakeReceipt`."""
        return delivery_receipt(self._receipt_tools(), delivery, stop)

    def _receipt_tools(self) -> ReceiptTools:
        """Give what receipts are made with. What signs takes a while to load, and few deliveries
        want it. Raises NoReceiptError.
        """
        from sensordrop.adapters.receipt_key import KeyProblemError, receipt_key  # noqa: PLC0415 — as said
        from sensordrop.adapters.receipt_page import page  # noqa: PLC0415 — as said
        from sensordrop.adapters.receipt_shelf import ReceiptShelf  # noqa: PLC0415 — as said

        state = self._configuration.daemon.state_directory
        try:
            shelf = ReceiptShelf(state, receipt_key(state), page)
        except KeyProblemError as error:
            raise NoReceiptError(str(error)) from error
        return ReceiptTools(
            ledger=self._ledger,
            clock=self._clock,
            progress=lambda _: None,
            begin=shelf.begin,
            source=FolderSource,
            station=self.station,
            made_by=f"sensordropd {VERSION}",
        )

    def _services(
        self,
        deliveries: Roster,
        bell: Bell,
        hints: HintQueue,
        watcher: Watcher,
    ) -> list[Service]:
        uploader = Uploader(
            ledger=self._ledger,
            clock=self._clock,
            deliveries=deliveries,
            daemon_id=self._daemon_id,
            make_pool=self._transfer_pool,
            tally=self._tally,
            trail=self._trail,
            file_gone=lambda delivery: hints.doubt(
                Doubt(delivery=delivery.name, kind=DoubtKind.FILES_GONE)
            ),
        )
        lister = Lister(ledger=self._ledger, clock=self._clock, deliveries=deliveries)
        sender = self._sender()
        taker = Taker(
            ledger=self._ledger,
            clock=self._clock,
            deliveries=deliveries,
            make_receipt=self._receipt_now,
        )
        scout = Scout(
            ledger=self._ledger,
            clock=self._clock,
            deliveries=deliveries,
            watcher=watcher,
            hints=hints,
            bell=bell,
            wake_uploader=uploader.wake,
            daemon_id=self._daemon_id,
            enrolled_many=lister.want,
            session_news=sender.wake if sender is not None else lambda: None,
            make_receipt=self._session_receipt,
            quiet_news=taker.want,
            tally=self._tally,
        )
        janitor = Janitor(
            ledger=self._ledger,
            clock=self._clock,
            daemon_id=self._daemon_id,
            register_again=lambda: self.register(crashed=False),
            wake_uploader=uploader.wake,
        )
        tidier = Tidier(ledger=self._ledger, clock=self._clock, deliveries=deliveries)
        limits = self._limits(deliveries)
        # Before the first byte: what was set by hand survives restarts.
        pauses = Pauses(deliveries, wake=[uploader.wake, bell.ring])
        for take_up in (limits.take_up, pauses.take_up):
            take_up(self._controls_at_start)
        desk = ControlDesk(
            ledger=self._ledger,
            clock=self._clock,
            daemon_id=self._daemon_id,
            deliveries=deliveries,
            retried=HandRetries(deliveries, wake=uploader.wake).take_up,
            takers=[limits.take_up, pauses.take_up, Rescans(scout.rescan).take_up],
        )
        services = [
            Service(name="scout", run=scout.run, wake=bell.ring),
            Service(name="uploader", run=uploader.run, wake=uploader.wake),
            Service(name="janitor", run=janitor.run, wake=janitor.wake),
            Service(name="lister", run=lister.run, wake=lister.wake),
            Service(
                name="tidier",
                run=tidier.run,
                wake=tidier.wake,
                silence_seconds=TIDIER_SILENCE_SECONDS,
            ),
            Service(name="controls", run=desk.run, wake=desk.wake),
        ]
        if self._by_hand is None:
            services.append(Service(name="taker", run=taker.run, wake=taker.wake))
        if sender is not None:
            services.append(Service(name="sender", run=sender.run, wake=sender.wake))
        share = share_of(self._configuration.daemon.audit_share_per_day)
        if share:
            auditor = Auditor(
                ledger=self._ledger,
                clock=self._clock,
                deliveries=deliveries,
                daemon_id=self._daemon_id,
                share_per_day=share,
                close_thread=self._ledger.close_own,
            )
            services.append(Service(name="auditor", run=auditor.run, wake=auditor.wake))
        if self._by_hand is not None:
            services.append(self._by_hand(deliveries, self._clock))
        else:
            services.append(self._control_service(desk.wake))
        services += self._watched_from_outside(deliveries, uploader, hints, limits)
        if self._can_reload:
            wake = [uploader.wake, bell.ring, lister.wake, tidier.wake, desk.wake, taker.wake]
            services.append(self._reload_service(deliveries, limits, sender, wake))
        if self._local is not None:
            keeper = LocalS3Keeper(self._local)
            services.append(Service(name="local_s3", run=keeper.run, wake=keeper.wake))
        return services

    def _control_service(self, changed: Callable[[], None]) -> Service:
        """Give the service that answers at the control socket."""
        config = self._configuration.daemon
        about = {
            "version": VERSION,
            "station": self.station,
            "pid": os.getpid(),
            "started_at": self._clock.now().isoformat(timespec="seconds"),
            "ledger": ledger_name(config),
        }
        server = ControlServer(
            SocketSettings(
                path=socket_path(config),
                mode=int(config.control_mode, 8),
                group=config.control_group,
            ),
            Operations(
                ledger=self._ledger,
                station=self.station,
                zone=local_zone(),
                daemon=lambda: about,
                changed=changed,
            ),
            grants=lambda: self._configuration.daemon.control_principals,
            close_thread=self._ledger.close_own,
        )
        return Service(name="control", run=server.run, wake=server.wake)

    def _sender(self) -> Sender | None:
        """Give the service that tells others about sessions, if anybody is to be told."""
        assert self._registration is not None
        routes, notifier = _ways_to_tell(self._configuration, self._registration.delivery_ids)
        if not routes and not self._can_reload:
            return None
        return Sender(
            ledger=self._ledger,
            clock=self._clock,
            notifier=notifier,
            routes=routes,
            daemon_id=self._daemon_id,
        )

    def _transfer_pool(self, size: int, abandon: StopFlag) -> Pool:
        return TransferPool(
            size,
            abandon,
            make_lane=lambda most: CurlLane(LaneSettings(most_connections=most), self._requests),
            make_journal=lambda claim: LedgerParts(self._ledger, claim),
            close_thread=self._ledger.close_own,
        )

    def _watched_from_outside(
        self,
        deliveries: Sequence[Delivery],
        uploader: Uploader,
        hints: HintQueue,
        limits: Limits,
    ) -> list[Service]:
        """Give the services that show others how the daemon is."""
        listen = self._configuration.daemon.metrics_listen
        if listen is None and not self._manager.listens:
            return []
        state = self._configuration.daemon.state_directory
        observer = Observer(
            ledger=self._ledger,
            clock=self._clock,
            deliveries=deliveries,
            daemon_id=self._daemon_id,
            tally=self._tally,
            uploads=uploader,
            hints=hints,
            limits=limits,
            restarts=lambda: {} if self._supervisor is None else self._supervisor.restarts(),
            disk=lambda: _disk_space(state),
            version=VERSION,
            configuration=self._configuration_in_force,
            audit_share_per_day=share_of(self._configuration.daemon.audit_share_per_day),
        )
        self._observer = observer
        services = [Service(name="observer", run=observer.run, wake=observer.wake)]
        if listen is not None:
            exposition = Exposition(observer, self._requests)
            served = StatusPages(listen, pages(exposition.text, CONTENT_TYPE, observer))
            services.append(Service(name="status_pages", run=served.run, wake=served.wake))
        if self._manager.listens:
            teller = Teller(manager=self._manager, vitals=observer.vitals, zone=local_zone())
            services.append(Service(name="teller", run=teller.run, wake=teller.wake))
        return services

    def _reload_service(
        self,
        roster: Roster,
        limits: Limits,
        sender: Sender | None,
        wake: Sequence[Callable[[], None]],
    ) -> Service:
        """Give the service that takes another configuration up."""

        def configure(
            configuration: Configuration,
            deliveries: Sequence[Delivery],
            controls: Sequence[Control],
        ) -> None:
            limits.configure(
                _limits_of(configuration, deliveries),
                {delivery.delivery_id: delivery.name for delivery in deliveries},
                controls,
            )
            if sender is not None:
                ids = {delivery.name: delivery.delivery_id for delivery in deliveries}
                sender.take_up(*_ways_to_tell(configuration, ids), ids.values())
            log.configure(configuration.daemon.log_format, configuration.daemon.log_level)
            self._configuration_in_force = ConfigurationInForce(
                digest=_digest(configuration), loaded_at=self._clock.now().timestamp()
            )

        def maker(configuration: Configuration) -> Callable[[DeliveryConfig, int], Delivery]:
            most = self._most_workers(configuration)
            return lambda config, delivery_id: self._make(config, delivery_id, most)

        parts = Parts(
            ledger=self._ledger,
            roster=roster,
            daemon_id=self._daemon_id,
            bind=lambda config: binding_of(config, self._local),
            maker=maker,
            configure=configure,
            wake=wake,
        )
        reloader = Reloader(
            asked=self._asked,
            reload=lambda: self._reloading.reload(parts),
            refused=lambda outcome: self._ledger.refuse_configuration(
                self._daemon_id(), "; ".join(outcome.problems)
            ),
            note=self._reload_ended,
            manager=self._manager,
            clock=self._clock,
            close_thread=self._ledger.close_own,
        )
        return Service(name="reloader", run=reloader.run, wake=lambda: None)

    def _reload_ended(self, outcome: ReloadOutcome, began: float) -> None:
        in_force = replace(
            self._configuration_in_force,
            last_load_succeeded=outcome.taken,
            last_load_at=self._clock.now().timestamp(),
            problems=outcome.problems,
        )
        self._configuration_in_force = in_force
        if self._observer is not None:
            self._observer.configuration = in_force
        self._note_reload(outcome, began)

    def _limits(self, deliveries: Sequence[Delivery]) -> Limits:
        zone = local_zone()
        return Limits(
            throttles=self._throttles,
            clock=self._clock,
            configured=_limits_of(self._configuration, deliveries),
            names={delivery.delivery_id: delivery.name for delivery in deliveries},
            read=lambda text: limit_of(text, zone),
        )

    def _daemon_id(self) -> int:
        assert self._registration is not None
        return self._registration.daemon_id


def _ways_to_tell(
    configuration: Configuration, delivery_ids: Mapping[str, int]
) -> tuple[list[Route], HttpNotifier]:
    """Say who is to be told about the sessions of which delivery, and give who tells them."""
    endpoints = {
        (delivery_ids[config.name], kind): (config.name, endpoint)
        for config in configuration.deliveries
        for kind, endpoint in endpoints_of(config).items()
    }
    routes = [
        Route(
            delivery_id=delivery_id,
            delivery=name,
            kind=kind,
            digest=endpoint.digest,
            timeout_seconds=endpoint.timeout_seconds,
            give_up_seconds=endpoint.give_up_seconds,
        )
        for (delivery_id, kind), (name, endpoint) in endpoints.items()
    ]
    return routes, HttpNotifier({key: endpoint for key, (_, endpoint) in endpoints.items()})


def _limits_of(
    configuration: Configuration, deliveries: Sequence[Delivery]
) -> dict[int | None, Limit]:
    """Give the configured limits of the station and of deliveries by their ids."""
    zone = local_zone()
    ids = {delivery.name: delivery.delivery_id for delivery in deliveries}
    return {
        STATION: limit_of(configuration.daemon.bandwidth, zone),
        **{ids[c.name]: limit_of(c.bandwidth, zone) for c in configuration.deliveries},
    }


def _digest(configuration: Configuration) -> str:
    """Give a short text that is another one whenever a setting in force is."""
    in_force = [configuration.daemon, *configuration.deliveries]
    text = json.dumps([each.public_dict() for each in in_force], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _disk_space(folder: Path) -> DiskSpace | None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:  # gone just now: the ledger's trouble tells more than this would
        return None
    return DiskSpace(free_bytes=usage.free, size_bytes=usage.total)
