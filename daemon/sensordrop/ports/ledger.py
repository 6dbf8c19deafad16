"""The ledger, as the daemon's own work needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sensordrop.core.controls import Control, ControlKind
from sensordrop.core.guard import VanishRule
from sensordrop.core.model import Claim, SweepSummary
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.records import (
    BreakerState,
    Commit,
    ConfigurationState,
    DeliveryBinding,
    DeliveryCounts,
    DeliveryStatus,
    EnrollResult,
    EnrollRules,
    GoneResult,
    LedgerHealth,
    ObjectListing,
    OpenBreaker,
    ProbePath,
    Registration,
    SessionReceipt,
    SessionSummary,
    SettingInForce,
    SettledSighting,
    Vouched,
)
from sensordrop.ports.storing import LandedPart, ListedObject, StaleUpload, UnfinishedUpload


class Ledger(Protocol):
    """The only memory that matters. PostgreSQL is the one implementation.

    Every call is one or a few short transactions, blocks on the database, is safe from every
    thread (each has a connection of its own), and may be repeated. Each raises
    LedgerUnavailableError when the database can't be reached or ended the transaction; nothing
    is then half done, but whether the last commit happened may be unknown, which repeating
    clears up.
    """

    def register(
        self,
        *,
        station: str,
        instance: UUID,
        origin: str,
        version: str,
        bindings: Sequence[DeliveryBinding],
        daemon_configuration: dict[str, object],
        crashed: bool,
        in_work: Sequence[int] | None = None,
    ) -> Registration:
        """Write this program, its deliveries and its configuration down.

        Takes back what predecessors on the same state directory (`instance`) had claimed;
        `crashed` says that the last one is known to have died of its work, which is charged to
        the files that it had in work (None: it is not known which; then to all it had claimed). A delivery that now goes elsewhere begins a new row.
        """
        ...

    def rebind(
        self,
        *,
        daemon_id: int,
        bindings: Sequence[DeliveryBinding],
        daemon_configuration: dict[str, object],
    ) -> dict[str, int]:
        """Write down what a running daemon is configured to from now on; give the deliveries' ids.

        As with `register`, but its claims stay good, also those on files of a delivery that now
        goes elsewhere: `finish_retired` ends that one.
        """
        ...

    def refuse_configuration(self, daemon_id: int, problem: str) -> None:
        """Write down that a running daemon was given a configuration that it does not take."""
        ...

    def finish_retired(self, delivery_id: int) -> None:
        """End the session of a delivery that goes elsewhere, when nothing of it is in work any
        more. Does nothing to one that is not retired.
        """
        ...

    def heartbeat(self, daemon_id: int) -> bool:
        """Say that this program is alive. False: it was declared dead and must register anew."""
        ...

    def take_back_dead(self) -> int:
        """Free the claims of programs whose heartbeat died; give how many claims."""
        ...

    def end(self, daemon_id: int) -> None:
        """Write down that this program ended in order. What it still had claimed is free."""
        ...

    def begin_sweep(self) -> datetime:
        """Give the database's time before a listing begins, for `mark_gone`."""
        ...

    def enroll_listing(
        self,
        delivery_id: int,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
        most_unsettled: int,
        vouched: Vouched | None = None,
    ) -> EnrollResult:
        """Compare a listing with the books and enrol what is new or changed and settled.

        Streams: memory does not grow with the listing. What went on the books stays there even
        if a later chunk of rows fails. `wall_ns` is the wall clock when the listing began.
        """
        ...

    def enroll_sightings(
        self,
        delivery_id: int,
        settled: Sequence[SettledSighting],
        rules: EnrollRules,
        *,
        wall_ns: int,
    ) -> EnrollResult:
        """Enrol single files that are settled. Those that must settle longer come back."""
        ...

    def mark_gone(
        self, delivery_id: int, probe: ProbePath, *, sweep_began: datetime, rule: VanishRule
    ) -> GoneResult:
        """Mark waiting files vanished that the last complete listing did not have.

        Only directly after `enroll_listing` on the same thread, and only if that listing was
        complete. Each candidate is looked at once more with `probe`. Where the rule wants to have
        it confirmed, the files are held instead: they stay on the books and are not tried, until
        a listing has them again (`enroll_listing` sees to that) or a rule lets them vanish that
        is confirmed.
        """
        ...

    def known_roots(self, daemon_id: int, delivery_ids: Sequence[int]) -> dict[int, str]:
        """Give the file system on which each delivery's folder was last swept by this station."""
        ...

    def remember_root(self, daemon_id: int, delivery_id: int, filesystem: str) -> None:
        """Note on which file system a delivery's folder is at this station."""
        ...

    def publish(self, statuses: Sequence[DeliveryStatus]) -> None:
        """Say what deliveries are doing."""
        ...

    def tell_trouble(self, delivery_id: int, reason: str) -> None:
        """Have those who want to hear of failures told that a delivery is held up.

        Once for the running session, whatever was told of it; nothing where none runs. May be
        repeated.
        """
        ...

    def publish_breakers(self, daemon_id: int, states: Sequence[BreakerState]) -> None:
        """Say which of a program's breakers opened, were probed, or closed."""
        ...

    def configurations(self, station: str | None) -> list[ConfigurationState]:
        """Tell how the living daemons of a station (None: of all) stand to their configuration."""
        ...

    def open_breakers(
        self, station: str | None, *, clients: Sequence[str] | None = None
    ) -> list[OpenBreaker]:
        """Give the breakers that are open in the living daemons of a station (None: of all), of
        projects and destinations those of the clients.
        """
        ...

    def publish_sweep(self, delivery_id: int, summary: SweepSummary) -> None:
        """Say how a sweep ended."""
        ...

    def claim(self, daemon_id: int, delivery_id: int, most: int) -> list[Claim]:
        """Lease up to `most` due files of one delivery, oldest first."""
        ...

    def claim_suspect(self, daemon_id: int, delivery_ids: Sequence[int]) -> Claim | None:
        """Lease one due file that was in work in several crashes: work on nothing beside it."""
        ...

    def release_unheld(
        self, daemon_id: int, delivery_ids: Sequence[int], held: Sequence[Claim]
    ) -> int:
        """Free this program's claims beside those in `held`; give how many.

        For after a `claim` that raised: it may have happened. Only on the thread that claims.
        """
        ...

    def due_in_seconds(self, delivery_ids: Sequence[int]) -> dict[int, float]:
        """Say in how many seconds each delivery that has files waiting has one due.

        Zero or less means now; infinity means that all of them are claimed.
        """
        ...

    def bring_forward(self, longest_waits: Mapping[int, float]) -> int:
        """Make files due that wait for longer than any wait lasts, which is given in seconds for
        each delivery; give how many.

        The database's clock was set back after they were put off. What is held stays held.
        """
        ...

    def commit(self, daemon_id: int, commits: Sequence[Commit], now: datetime) -> int:
        """Write decided actions down in one durable transaction; give how many still held.

        An action whose claim was lost meanwhile is dropped. `now` is the clock against which the
        actions' times were set.
        """
        ...

    def unfinished_uploads(self, upload_id: int) -> list[UnfinishedUpload]:
        """Give the uploads in parts that were begun for a file, oldest first, with their parts."""
        ...

    def begin_upload(
        self, claim: Claim, *, object_key: str, sha256: bytes, size_bytes: int, part_bytes: int
    ) -> int:
        """Write down that an upload in parts is about to be begun; give the record's id."""
        ...

    def name_upload(self, record_id: int, remote_id: str) -> None:
        """Write down what the store calls an upload in parts."""
        ...

    def land_parts(self, record_id: int, parts: Sequence[LandedPart]) -> None:
        """Write down parts that the store has; a number that is known is replaced."""
        ...

    def forget_upload(self, record_id: int) -> None:
        """Take an upload in parts off the list, with its parts."""
        ...

    def stale_uploads(
        self, delivery_ids: Sequence[int], *, kept_seconds: float
    ) -> list[StaleUpload]:
        """Give uploads in parts that nobody goes on with; some at a time.

        Those of files that are finished, and those on which nothing landed for `kept_seconds`.
        Never one whose file is being worked on.
        """
        ...

    def listing_age_seconds(self, delivery_id: int) -> float | None:
        """Tell how long ago the delivery's prefix was listed completely; None: never."""
        ...

    def begin_object_listing(self, delivery_id: int) -> ObjectListing:
        """Begin to list a delivery's prefix. One that was broken off is simply begun anew."""
        ...

    def add_listed(self, listing: ObjectListing, objects: Sequence[ListedObject]) -> None:
        """Take in some thousand objects of a listing. They count for claims at once."""
        ...

    def end_object_listing(self, listing: ObjectListing, objects: int) -> int:
        """Note that a listing is complete, and forget the objects that it no longer had; give how
        many. Only for a listing whose pages were all added.
        """
        ...

    def has_queued(self, delivery_id: int) -> bool:
        """Tell whether any file is pending, uploading or waiting for a retry."""
        ...

    def open_sessions(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        """Give the id of each delivery's running session, where there is one."""
        ...

    def begin_verifying(self, delivery_id: int) -> str | None:
        """Say that the running session is being verified, unless a file is not finished; give
        where it stands. May be repeated: after a restart it begins anew. What comes into the
        session takes it back.
        """
        ...

    def finish_session(
        self, delivery_id: int, *, receipt: SessionReceipt | None = None
    ) -> SessionSummary | None:
        """End the running session with its recounted numbers, unless a file is not finished.

        With a receipt it ends only where it still stands as when its verifying began; else that is
        taken back. None: there is none, or it can't end yet. A session without any file leaves no row; its
        summary then has 0 files.
        """
        ...

    def fold_counters(self) -> int:
        """Add the appended counter changes to the sums; give how many there were."""
        ...

    def health(self) -> LedgerHealth:
        """Tell how the ledger's server is. Only on a ledger that `check` accepts."""
        ...

    def status(
        self, station: str | None = None, *, clients: Sequence[str] | None = None
    ) -> list[DeliveryCounts]:
        """Tell how the deliveries stand (of one station, or of all; of the clients, or of all),
        sorted by name.
        """
        ...

    def controls(self, daemon_id: int, delivery_ids: Sequence[int]) -> list[Control]:
        """Give what people set, and still holds, for a program's station and its deliveries.

        Cheap: it may be asked once a second.
        """
        ...

    def set_control(
        self,
        kind: ControlKind,
        value: str | None,
        *,
        station: str,
        delivery: str | None,
        set_by: str,
        for_seconds: float | None = None,
        reason: str = "",
        clients: Sequence[str] | None = None,
    ) -> bool:
        """Set something for a station, or for one of its deliveries, over the configuration.

        It stands until it is set anew, or ends after `for_seconds`. None ends what was set: the
        configuration holds again. False: the ledger knows no such station or delivery (of the
        clients, or of all).
        """
        ...

    def pause_delivery(self, delivery_id: int, *, set_by: str, reason: str) -> None:
        """Pause a delivery until somebody resumes it, in place of any pause that it has."""
        ...

    def newest_retries(self, delivery_ids: Sequence[int]) -> dict[int, int]:
        """Give the number of each delivery's last retry by hand, where there was one: a higher one
        than before means that files wait which nobody rang for. Cheap, like `controls`.
        """
        ...

    def end_control(self, control: Control, ended_by: str) -> None:
        """End something that was set for a delivery and was done; what was set since stands."""
        ...

    def settings_in_force(
        self, kind: ControlKind, station: str, *, clients: Sequence[str] | None = None
    ) -> list[SettingInForce]:
        """Tell what holds for a station and its enabled deliveries (of the clients, or of all), the
        station first.
        """
        ...

    def close_own(self) -> None:
        """Close the calling thread's connection, before the thread ends."""
        ...

    def close(self) -> None:
        """Close all connections. May be repeated."""
        ...
