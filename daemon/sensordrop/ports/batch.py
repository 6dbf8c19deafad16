"""The ledger as runs by hand need it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.records import EnrollRules
from sensordrop.ports.telling import LetterLine, SessionTrouble, StoryLedger


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What a run would begin with: files that are new, changed, ignored, or still settling, and
    the bytes of all but the ignored.
    """

    new: int
    changed: int
    ignored: int
    unsettled: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LastSettings:
    """The configuration, without secrets, that a delivery was last used with, and where."""

    configuration: dict[str, object]
    station: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftToDo:
    """Whether any file waits or is in work, and any that is not held because it is missing."""

    any: bool
    to_be_had: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryReport:
    """What a daemon published last of a delivery; `state` None: nothing yet."""

    state: str | None = None
    reason: str | None = None
    settling: int = 0
    swept_at: datetime | None = None
    """When its last sweep ended, by the ledger's clock."""
    sweep_problem: str | None = None
    """Why that sweep was partial; None: it was complete."""


class BatchLedger(Ledger, StoryLedger, Protocol):
    """The ledger as a run by hand uses it; the contract of `Ledger` holds."""

    def hold_run(self, folder: str) -> bool:
        """Take hold of a folder for this run, as long as the connection lives that took it.

        False: another run has it. Does not wait. To be repeated, by any thread of the run: a hold
        that was lost with its connection is taken again then.
        """
        ...

    def looked_after(self, delivery_id: int) -> bool:
        """Tell whether a living daemon (no run by hand) looks after a delivery."""
        ...

    def ever_looked_after(self, delivery_id: int) -> bool:
        """Tell whether a daemon, living or not, ever looked after a delivery."""
        ...

    def left_to_do(self, delivery_id: int) -> LeftToDo:
        """Tell whether files of a delivery are not finished, and whether any of them can be."""
        ...

    def delivery_report(self, delivery_id: int) -> DeliveryReport:
        """Tell what the daemon that looks after a delivery published of it last."""
        ...

    def begin_session(self, delivery_id: int) -> int:
        """Give the delivery's running session; one is opened where there is none."""
        ...

    def forget_own_pause(self, delivery_id: int, *, set_by: str, ended_by: str) -> None:
        """End the pause of a delivery that `set_by` set, if there is one. May be repeated."""
        ...

    def last_settings(self, delivery_id: int) -> LastSettings | None:
        """Give what a delivery was last used with."""
        ...

    def failed_now(self, delivery_id: int) -> list[SessionTrouble]:
        """Count the delivery's quarantined files by class of error, the most frequent first."""
        ...

    def letters_of(self, session_id: int) -> list[LetterLine]:
        """Tell how all that is to be told about a session stands."""
        ...

    def dry_run(
        self,
        delivery_id: int | None,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
    ) -> DryRun:
        """Compare a listing with the books and change nothing. `delivery_id` None: they are empty."""
        ...
