"""The ledger as verification and the season's overview read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sensordrop.core.season import Season, SeasonScope
from sensordrop.core.verification import (
    CheckMethod,
    ExtraObject,
    Finding,
    KnownObject,
    Problem,
)
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.records import EnrollRules
from sensordrop.ports.storing import ListedObject


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyScope:
    """What is to be verified of one delivery; None: all of it."""

    delivery_id: int
    session_id: int | None = None
    sensor: str | None = None

    @property
    def narrowed(self) -> bool:
        """Whether it is less than all of the delivery."""
        return self.session_id is not None or self.sensor is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryToVerify:
    """A delivery as the ledger has it. `endpoint_url` is '' for Amazon's own."""

    delivery_id: int
    name: str
    station: str | None
    retired: bool
    endpoint_url: str
    bucket_name: str
    s3_prefix: str
    local_directory: str
    swept: bool
    last_sweep_complete: bool | None
    last_sweep_problem: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """The first items of a list, and how many there are of them in all."""

    problems: Sequence[Problem]
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedObject:
    """An object of the verification under way; `number` is its place in it."""

    number: int
    known: KnownObject


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyResult:
    """What a verification came to."""

    checked: Mapping[str, int]
    missing: int
    different: int
    unchecked: int
    problems: Sequence[Problem]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditStep:
    """What the audit has to look at now.

    `allowance` is how many objects the daily share allows by now (with a fraction), `stored` how
    many there are in all. `objects` are the next ones, at most as many as asked for and allowed;
    `position` is how far the walk over all objects has come with them, and `round_over` says that
    this was the last of the round.
    """

    allowance: float
    stored: int
    objects: Sequence[KnownObject] = ()
    position: int = 0
    round_over: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """One object, and what was found out about it."""

    known: KnownObject
    method: CheckMethod
    finding: Finding


class VerifyLedger(Protocol):
    """The part of the ledger that verification works on; the contract of `Ledger` holds.

    A verification lives in the calling thread's connection: all calls of one are made on one
    thread, and when the connection is lost it must begin anew. Two million objects are compared
    by SQL and never pass through here one by one.
    """

    def deliveries_to_verify(
        self, *, station: str | None, session_id: int | None
    ) -> list[DeliveryToVerify]:
        """Give a station's deliveries (None: all stations'), or the one that a session is of."""
        ...

    def unaccounted(
        self,
        scope: VerifyScope,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
        most: int,
    ) -> Listed:
        """Compare a listing of the folder with the books; give the files that are not on them as
        they are on disk. Nothing is enrolled.
        """
        ...

    def unfinished(self, scope: VerifyScope, *, most: int) -> Listed:
        """Give the files of a scope that are on the books and not stored, each with the reason."""
        ...

    def begin_verification(self, scope: VerifyScope) -> tuple[int, int]:
        """Take note of all stored objects of a scope; give how many, and their bytes."""
        ...

    def add_verify_listed(self, objects: Sequence[ListedObject]) -> None:
        """Take in some thousand objects of a listing, to be compared."""
        ...

    def compare_listed(self) -> None:
        """Compare what was listed with what is known: size and ETag."""
        ...

    def doubtful(self, *, after: int, most: int) -> list[VerifiedObject]:
        """Give the next objects, by number, that are not known to be the same."""
        ...

    def pick(self, most: int) -> None:
        """Choose so many of the objects by chance, for a closer look."""
        ...

    def pick_unproven(self, *, every_version: bool) -> int:
        """Choose the objects whose bytes are only proven by reading them: nothing ties the store's
        ETag to them, or what was found contradicts it. Gives how many. Without `every_version`
        none that has a successor is chosen.
        """
        ...

    def picked(self, *, after: int, most: int) -> list[VerifiedObject]:
        """Give the next objects, by number, that were picked."""
        ...

    def note_findings(self, method: CheckMethod, findings: Sequence[tuple[int, Finding]]) -> None:
        """Note what was found out about objects, by their numbers."""
        ...

    def give_up(self, reason: str, *, picked_but_by: CheckMethod | None = None) -> None:
        """Note why the objects that have no result have none; with `picked_but_by`, also that
        those which were picked and not verified by this method have none.
        """
        ...

    def end_verification(self, scope: VerifyScope, *, most: int) -> VerifyResult:
        """Write down for good what was found, and give what it came to."""
        ...

    def extra_objects(self, scope: VerifyScope, *, most: int) -> tuple[int, list[ExtraObject]]:
        """Count the listed objects that no delivery of the destination knows; give the first."""
        ...

    # --- the audit ---

    def audit_step(
        self, daemon_id: int, delivery_ids: Sequence[int], *, share_per_day: float, most: int
    ) -> AuditStep:
        """Say what the audit of this program's station has to look at now: of the deliveries
        named, the objects that come next and were not verified since this round began.
        """
        ...

    def note_audit(
        self,
        daemon_id: int,
        checked: Sequence[Checked],
        *,
        position: int | None,
        round_over: bool,
        used_seconds: float,
    ) -> set[int]:
        """Write down what was looked at and how far the walk has come (None: no further), and that
        the share of so much time was used. Gives the uploads whose objects are newly missing or
        different.
        """
        ...


class SeasonLedger(Protocol):
    """The part of the ledger that overviews are made from; the contract of `Ledger` holds.

    It reads the views that dashboards read, and nothing else.
    """

    def season(self, scope: SeasonScope, *, most_failures: int) -> Season:
        """Read how a season stands, all as of one moment, with the newest failures. Takes no lock
        that anybody waits for.
        """
        ...

    def season_names(self) -> list[tuple[str, str, str]]:
        """Give client, project and cycle of all deliveries, each combination once."""
        ...
