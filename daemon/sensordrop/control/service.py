"""The operations: what the daemon can be asked and told, whoever carries the question.

The socket's server calls them for whoever is at the other end; a verb of the command line calls
the same ones on the ledger itself where no daemon is there to be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from sensordrop.config.bandwidth import limit_of
from sensordrop.config.problem import did_you_mean
from sensordrop.control.file_story import story_told
from sensordrop.control.refusal import Reason, RefusedError
from sensordrop.control.told import (
    NO_LIMITS,
    Told,
    breaker_told,
    configuration_told,
    delivery_told,
    file_told,
    letter_told,
    limit_told,
    limits_of,
    past_told,
    pause_told,
    session_told,
    status_told,
    trouble_told,
)
from sensordrop.core.controls import PAUSED, ControlKind, Rescan
from sensordrop.core.keys import path_bytes, path_text
from sensordrop.core.principal import Principal
from sensordrop.core.story import DeliveryPlace
from sensordrop.core.timetable import TimetableError
from sensordrop.ports.telling import AskedAgain, ControlLedger, FileFilter, RetryOrder
from sensordrop.version import VERSION

HISTORY_LINES = 200
"""Pauses that are told: years of them, and never more than a person reads."""
CONFIGURED = "config"
"""The limit that lets the configuration hold again."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """All operations on one ledger. Safe from every thread; each call blocks on the ledger.

    All raise RefusedError, and LedgerUnavailableError. `station` is whose deliveries they are
    about; None: those of all stations, and nothing can be set. `changed` is called when something
    was set, so that whoever takes it up need not wait for the next look.
    """

    ledger: ControlLedger
    station: str | None
    zone: tzinfo
    daemon: Callable[[], Told] | None = None
    """Tells of the daemon that answers; None: none does."""
    changed: Callable[[], None] = lambda: None

    # --- looking --------------------------------------------------------------------------

    def about(self, _principal: Principal) -> Told:
        """Tell who answers."""
        if self.daemon is None:
            raise RefusedError(Reason.UNKNOWN, "no daemon answers here: this is the ledger alone")
        return self.daemon()

    def whoami(self, principal: Principal) -> Told:
        """Tell who asks, and what they may do."""
        clients = None if principal.clients is None else list(principal.clients)
        return {"name": principal.name, "role": principal.role.value, "clients": clients}

    def status(self, principal: Principal) -> Told:
        """Tell how every delivery stands."""
        clients = principal.clients
        deliveries = self.ledger.status(self.station, clients=clients)
        limits = NO_LIMITS
        if self.station is not None and any(each.progress is not None for each in deliveries):
            settings = self.ledger.settings_in_force(ControlKind.BANDWIDTH, self.station)
            limits = limits_of(settings, self.zone)
        breakers = self.ledger.open_breakers(self.station, clients=clients)
        return {
            "version": VERSION,
            "station": self.station,
            "deliveries": [status_told(each, limits) for each in deliveries],
            "breakers": [breaker_told(each, whole=clients is None) for each in breakers],
            "configuration": [
                # What is wrong with it may name other clients' folders.
                configuration_told(each, whole=clients is None)
                for each in self.ledger.configurations(self.station)
            ],
        }

    def deliveries(self, principal: Principal) -> Told:
        """Tell where the deliveries take from and put to."""
        places = self.ledger.delivery_places(self.station, clients=principal.clients)
        stands = {
            each.delivery_id: each
            for each in self.ledger.status(self.station, clients=principal.clients)
        }
        return {
            "deliveries": [delivery_told(each, stands.get(each.delivery_id)) for each in places]
        }

    def known(self, principal: Principal, *, delivery: str, path: str) -> Told:
        """Tell whether a path is on a delivery's books, or ignored there."""
        places = self._places(principal, delivery)
        exact = _exact(path)
        known = any(self.ledger.knows_file(each.delivery_id, exact) for each in places)
        return {"delivery": delivery, "path": path, "known": known}

    def why(self, principal: Principal, *, delivery: str, path: str) -> Told:
        """Tell all that the ledger knows of a path; what the folder shows of it is not asked."""
        places, exact = self._places(principal, delivery), _exact(path)
        found = next(
            (each for each in places if self.ledger.knows_file(each.delivery_id, exact)), places[0]
        )
        story = self.ledger.story(found, exact, station=self.station)
        return {"delivery": delivery, "path": path, "story": story_told(story)}

    def sessions(
        self,
        principal: Principal,
        *,
        limit: int,
        delivery: str | None = None,
        after: int | None = None,
    ) -> Told:
        """List the bursts of work, the newest first."""
        ids = [each.delivery_id for each in self._places(principal, delivery)]
        lines = self.ledger.list_sessions(ids, before=after, most=limit)
        following = lines[-1].session_id if len(lines) == limit else None
        return {"sessions": [session_told(line) for line in lines], "next": following}

    def session(self, principal: Principal, *, session_id: int) -> Told:
        """Tell of one session, and what failed in it."""
        ours = {each.delivery_id for each in self._places(principal, None)}
        lines = self.ledger.list_sessions([], session_id=session_id, most=1)
        lines = [line for line in lines if line.delivery_id in ours]
        if not lines:
            raise _no_session(principal, session_id)
        troubles = self.ledger.session_troubles(session_id)
        letters = self.ledger.letters_of(session_id)
        return session_told(lines[0]) | {
            "failures": [trouble_told(each) for each in troubles],
            "letters": [letter_told(each) for each in letters],
        }

    def files(
        self,
        principal: Principal,
        *,
        limit: int,
        delivery: str | None = None,
        sensor: str | None = None,
        state: str | None = None,
        after: int | None = None,
    ) -> Told:
        """List files, the newest first (failed ones: the last to fail first)."""
        ids = [each.delivery_id for each in self._places(principal, delivery)]
        wanted = FileFilter(delivery_ids=ids, state=state, sensor=sensor)
        lines = self.ledger.list_files(wanted, before=after, most=limit)
        following = lines[-1].place if len(lines) == limit else None
        return {"files": [file_told(line) for line in lines], "next": following}

    def pauses(self, principal: Principal) -> Told:
        """Tell what is paused."""
        station = self._station()
        found = self.ledger.settings_in_force(ControlKind.PAUSE, station, clients=principal.clients)
        paused = [pause_told(each) for each in found if each.control is not None]
        return {"station": station, "paused": paused, "running": self._running(principal)}

    def pause_history(self, principal: Principal) -> Told:
        """Tell who paused what, when, why, and who let it go on."""
        station = self._station()
        past = self.ledger.control_history(
            ControlKind.PAUSE, station, most=HISTORY_LINES, clients=principal.clients
        )
        return {"station": station, "pauses": [past_told(each) for each in past]}

    def bandwidth(self, principal: Principal) -> Told:
        """Tell the bandwidth limits in force."""
        station = self._station()
        found = self.ledger.settings_in_force(
            ControlKind.BANDWIDTH, station, clients=principal.clients
        )
        try:
            limits = [limit_told(each, self.zone) for each in found]
        except TimetableError as error:
            raise RefusedError(
                Reason.UNKNOWN, f"a limit that was set can't be read here: {error}"
            ) from error
        return {"station": station, "limits": limits, "running": self._running(principal)}

    # --- setting --------------------------------------------------------------------------

    def pause(
        self,
        principal: Principal,
        *,
        delivery: str | None = None,
        for_seconds: float | None = None,
        reason: str = "",
    ) -> Told:
        """Stop the uploads of a delivery, or of the whole station."""
        self._set(
            principal, ControlKind.PAUSE, PAUSED,
            delivery=delivery, for_seconds=for_seconds, reason=reason,
        )  # fmt: skip
        return self.pauses(principal)

    def resume(self, principal: Principal, *, delivery: str | None = None) -> Told:
        """End the pause of a delivery, or that of the station."""
        self._set(principal, ControlKind.PAUSE, None, delivery=delivery)
        return self.pauses(principal)

    def set_bandwidth(
        self,
        principal: Principal,
        *,
        limit: str,
        delivery: str | None = None,
        for_seconds: float | None = None,
        reason: str = "",
    ) -> Told:
        """Set a bandwidth limit, or let the configuration hold again."""
        value: str | None = limit.strip()
        if limit.strip().lower() == CONFIGURED:
            if for_seconds is not None:
                raise RefusedError(
                    Reason.USAGE, "'config' holds until something else is set: leave the time out"
                )
            value = None
        else:
            try:
                limit_of(limit, self.zone)
            except TimetableError as error:
                raise RefusedError(
                    Reason.USAGE, f"the limit {limit!r} can't be read: {error}"
                ) from error
        self._set(
            principal, ControlKind.BANDWIDTH, value,
            delivery=delivery, for_seconds=for_seconds, reason=reason,
        )  # fmt: skip
        return self.bandwidth(principal)

    def rescan(
        self,
        principal: Principal,
        *,
        delivery: str | None = None,
        confirm_vanished: bool = False,
    ) -> Told:
        """Have a delivery's folder swept now, or those of all of the station."""
        if confirm_vanished and delivery is None:
            raise RefusedError(
                Reason.USAGE, "confirming what vanished needs the delivery whose files are gone"
            )
        station = self._station()
        value = Rescan.CONFIRM_VANISHED if confirm_vanished else Rescan.SWEEP
        known = self._settable(principal, ControlKind.RESCAN, delivery)
        names = [delivery] if delivery else [name for name in known if name is not None]
        for name in names:
            self.ledger.set_control(
                ControlKind.RESCAN, value.value, station=station, delivery=name,
                set_by=principal.name, clients=principal.clients,
            )  # fmt: skip
        self.changed()
        found = [
            {"name": each["name"], "state": each["state"], "reason": each["reason"],
             "daemon_alive": each["daemon_alive"]}
            for each in self.status(principal)["deliveries"] if each["name"] in names
        ]  # fmt: skip
        running = any(each["daemon_alive"] for each in found)
        return {"station": station, "rescan": names, "running": running, "deliveries": found}

    def retry(
        self,
        principal: Principal,
        *,
        delivery: str | None = None,
        paths: Sequence[str] | None = None,
        session_id: int | None = None,
        all_failed: bool = False,
        now: bool = False,
        reason: str = "",
    ) -> Told:
        """Have files tried again that failed: these paths of a delivery, or all of a scope."""
        if not (paths or delivery or session_id is not None or all_failed):
            raise RefusedError(
                Reason.USAGE, "what is to be retried? paths, a delivery, a session or all_failed"
            )
        if paths and (delivery is None or session_id is not None or all_failed):
            raise RefusedError(
                Reason.USAGE, "paths go with the one delivery that they are of, and nothing else"
            )
        if all_failed and (delivery or session_id is not None):
            raise RefusedError(
                Reason.USAGE, "all_failed is all there is; leave delivery and session out"
            )
        places = self._places(principal, delivery)
        what = "all that failed"
        exact = [_exact(path) for path in paths or ()]
        if exact:
            what = path_text(exact[0]) if len(exact) == 1 else f"{len(exact)} files by name"
        elif session_id is not None:
            what = f"all that failed in session {session_id}"
            places = self._of_session(principal, places, session_id)
        orders = [
            RetryOrder(
                delivery_id=place.delivery_id, asked_by=principal.name, what=what,
                paths=exact or None, session_id=session_id, at_once=now, reason=reason,
            )
            for place in places
        ]  # fmt: skip
        return self._retried(places, orders)

    def trigger(self, principal: Principal, *, session_id: int) -> Told:
        """Have a session's registration told once more, under the same key."""
        (place,) = self._of_session(principal, self._places(principal, None), session_id)
        match self.ledger.ask_letter_again(session_id, None):
            case AskedAgain.RUNNING:
                raise RefusedError(
                    Reason.UNKNOWN, f"session {session_id} has not ended: it is told when it has"
                )
            case AskedAgain.NOBODY:
                raise RefusedError(
                    Reason.UNKNOWN,
                    f"delivery {place.name} has no endpoint: configure one and reload the daemon, "
                    "or name one with --url",
                )
        self.changed()
        return {
            "session_id": session_id,
            "delivery": place.name,
            "running": place.daemon_alive,
            "letters": [letter_told(each) for each in self.ledger.letters_of(session_id)],
        }

    def _retried(self, places: Sequence[DeliveryPlace], orders: Sequence[RetryOrder]) -> Told:
        """Carry the orders out, one for each place, and tell what came of them."""
        told: Told = {"retried": 0, "hurried": 0, "deliveries": [], "paths": [], "running": True}
        for place, order in zip(places, orders, strict=True):
            result = self.ledger.retry(order)
            told["retried"] += result.retried
            told["hurried"] += result.hurried
            if result.retried or result.hurried:
                told["deliveries"].append(place.name)
                told["running"] &= place.daemon_alive
            for path in order.paths or ():
                state = result.states.get(path)
                again = state == "failed" or (state == "pending" and order.at_once)
                told["paths"].append(
                    {"path": path_text(path), "delivery": place.name, "state_before": state,
                     "retried": again}
                )  # fmt: skip
        self.changed()
        return told

    # --- what they share ------------------------------------------------------------------

    def _set(
        self,
        principal: Principal,
        kind: ControlKind,
        value: str | None,
        *,
        delivery: str | None,
        for_seconds: float | None = None,
        reason: str = "",
    ) -> None:
        self._settable(principal, kind, delivery)
        if delivery is None and principal.clients is not None:
            raise RefusedError(
                Reason.NOT_PERMITTED,
                f"{principal.name} may not set anything for the whole station: name a delivery",
            )
        done = self.ledger.set_control(
            kind,
            value,
            station=self._station(),
            delivery=delivery,
            set_by=principal.name,
            for_seconds=for_seconds,
            reason=reason,
            clients=principal.clients,
        )
        if not done:  # it went with a reload just now
            raise _no_delivery(principal, delivery or "", (), self.station)
        self.changed()

    def _station(self) -> str:
        if self.station is None:
            raise RefusedError(
                Reason.USAGE,
                "which station? name its configuration with --config PATH (or --local FOLDER), or "
                "its name with SENSORDROP_STATION",
            )
        return self.station

    def _settable(
        self, principal: Principal, kind: ControlKind, delivery: str | None
    ) -> list[str | None]:
        """Give what something can be set for (None: the station), the delivery among it."""
        station = self._station()
        settings = self.ledger.settings_in_force(kind, station, clients=principal.clients)
        known = [each.delivery for each in settings]
        if not known:
            raise RefusedError(
                Reason.UNKNOWN,
                f"the ledger knows no station {station!r}: has sensordropd run there?",
            )
        if delivery is not None and delivery not in known:
            names = [name for name in known if name is not None]
            raise _no_delivery(principal, delivery, names, station)
        return known

    def _places(self, principal: Principal, delivery: str | None) -> list[DeliveryPlace]:
        """Give the deliveries that are meant: the one that is named, or all."""
        places = self.ledger.delivery_places(self.station, clients=principal.clients)
        if delivery is None:
            return places
        chosen = [place for place in places if place.name == delivery]
        if not chosen:
            names = [place.name for place in places]
            raise _no_delivery(principal, delivery, names, self.station)
        return chosen

    def _of_session(
        self, principal: Principal, places: Sequence[DeliveryPlace], session_id: int
    ) -> list[DeliveryPlace]:
        ids = [each.delivery_id for each in places]
        sessions = self.ledger.list_sessions(ids, session_id=session_id, most=1)
        found = [p for p in places if sessions and p.delivery_id == sessions[0].delivery_id]
        if not found:
            raise _no_session(principal, session_id)
        return found

    def _running(self, principal: Principal) -> bool:
        stands = self.ledger.status(self.station, clients=principal.clients)
        return any(each.daemon_alive for each in stands)


def _exact(path: str) -> bytes:
    """Give the bytes of a path in text form. Refuses what no disk can have."""
    if "\0" in path or not path:
        raise RefusedError(Reason.USAGE, "a path has at least one character, and none of them NUL")
    return path_bytes(path)


def _no_delivery(
    principal: Principal, delivery: str, names: Sequence[str], station: str | None
) -> RefusedError:
    """Refuse what is about a delivery that is not there. Whoever may see some clients alone is told
    the same of one that is another client's: not even that there is one is for them.
    """
    meant = did_you_mean(delivery, names)
    there = meant or f"there are: {', '.join(names) or 'none'}"
    if principal.clients is not None:
        return RefusedError(
            Reason.NOT_PERMITTED, f"{_limits_of(principal)}: none of them is {delivery!r}; {there}"
        )
    where = "" if station is None else f" on station {station!r}"
    return RefusedError(
        Reason.USAGE, f"there is no delivery {delivery!r}{where}{' — ' if meant else '; '}{there}"
    )


def _no_session(principal: Principal, session_id: int) -> RefusedError:
    """Refuse what is about a session that is not there, or another client's."""
    lists = "sensordrop sessions lists them"
    if principal.clients is not None:
        return RefusedError(
            Reason.NOT_PERMITTED, f"{_limits_of(principal)}: none has session {session_id}; {lists}"
        )
    return RefusedError(Reason.UNKNOWN, f"there is no session {session_id}: {lists}")


def _limits_of(principal: Principal) -> str:
    assert principal.clients is not None
    return f"{principal.name} may see the deliveries of {', '.join(principal.clients)} alone"
