"""Joins the rooms: builds sensordropd's services and runs them on one ledger."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from sensordrop.adapters import logs as log
from sensordrop.adapters.clock import SystemClock, local_zone
from sensordrop.adapters.descriptors import make_room
from sensordrop.adapters.exposition import CONTENT_TYPE, Exposition
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.local_s3 import LocalS3, LocalS3Keeper
from sensordrop.adapters.no_watcher import NoWatcher
from sensordrop.adapters.notify_socket import NotifySocket
from sensordrop.adapters.s3 import CapabilityBook
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.s3.requests import RequestTally
from sensordrop.adapters.source import FolderSource
from sensordrop.adapters.status_pages import StatusPages, pages
from sensordrop.composition.deliveries import binding_of, make_delivery
from sensordrop.composition.in_force import digest_of, disk_space, limits_of, ways_to_tell
from sensordrop.config import Configuration, DeliveryConfig
from sensordrop.config.bandwidth import limit_of
from sensordrop.config.kinds import share_of
from sensordrop.control.address import ledger_name, socket_path
from sensordrop.control.server import ControlServer, SocketSettings
from sensordrop.control.service import Operations
from sensordrop.core.controls import Control
from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.core.model import Doubt, DoubtKind
from sensordrop.core.tally import StationTally
from sensordrop.core.vitals import ConfigurationInForce
from sensordrop.engine.auditor import Auditor
from sensordrop.engine.controls import ControlDesk
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.janitor import Janitor
from sensordrop.engine.limits import Limits
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
from sensordrop.engine.sender import Sender
from sensordrop.engine.supervisor import Service, Supervisor
from sensordrop.engine.taker import Taker
from sensordrop.engine.teller import Teller
from sensordrop.engine.throttle import Throttles
from sensordrop.engine.tidier import Tidier
from sensordrop.engine.transfers import TransferPool
from sensordrop.engine.uploader import Uploader
from sensordrop.engine.workers import Pool
from sensordrop.ports.life import Clock, ReloadOutcome, StopFlag, Trail
from sensordrop.ports.records import (
    Registration,
    SessionReceipt,
)
from sensordrop.ports.watching import Watcher
from sensordrop.reloading import Load, Parts, Reloading
from sensordrop.version import VERSION

_log = structlog.get_logger()


TIDIER_SILENCE_SECONDS = 1_500.0
"""The tidier rests ten minutes between two looks, and a look may take as long as others' silence."""


COLLECT_AFTER = 20_000
"""New objects after which Python looks for garbage that refers to itself. Its default of 700 is
reached with every few files, and hardly anything of ours does: nearly all goes without it."""


def _inotify(hints: HintQueue) -> Watcher:
    """Make the watcher of a daemon. Only Linux has inotify; runs by hand need none."""
    from sensordrop.adapters.watcher import InotifyWatcher  # noqa: PLC0415 — see above

    return InotifyWatcher(hints)


Companion = Callable[[Sequence[Delivery], Clock], Service]
"""Makes the service that looks after a run by hand."""


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
            digest=digest_of(configuration), loaded_at=self._clock.now().timestamp()
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
        routes, notifier = ways_to_tell(self._configuration, self._registration.delivery_ids)
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
            disk=lambda: disk_space(state),
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
                limits_of(configuration, deliveries),
                {delivery.delivery_id: delivery.name for delivery in deliveries},
                controls,
            )
            if sender is not None:
                ids = {delivery.name: delivery.delivery_id for delivery in deliveries}
                sender.take_up(*ways_to_tell(configuration, ids), ids.values())
            log.configure(configuration.daemon.log_format, configuration.daemon.log_level)
            self._configuration_in_force = ConfigurationInForce(
                digest=digest_of(configuration), loaded_at=self._clock.now().timestamp()
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
            configured=limits_of(self._configuration, deliveries),
            names={delivery.delivery_id: delivery.name for delivery in deliveries},
            read=lambda text: limit_of(text, zone),
        )

    def _daemon_id(self) -> int:
        assert self._registration is not None
        return self._registration.daemon_id
