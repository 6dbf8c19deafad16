"""What is read of the ledger for those who watch the daemon, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sensordrop.core.vitals import LedgerReading, StationVitals


class VitalsLedger(Protocol):
    """The part of the ledger that telemetry reads; the contract of `Ledger` holds.

    It only reads, waits for no lock, and what takes seconds is given up.
    """

    def ping(self) -> float:
        """Ask for nothing, and tell how many seconds the answer took. Finding a connection is not
        counted.
        """
        ...

    def read_vitals(self, daemon_id: int, delivery_ids: Sequence[int]) -> LedgerReading:
        """Read how deliveries stand, from the kept counts: its cost does not grow with files."""
        ...

    def close_own(self) -> None:
        """See `Ledger.close_own`."""
        ...


class Telemetry(Protocol):
    """Where the daemon's vitals can be had from: whoever shows them asks here, at any time."""

    def vitals(self) -> StationVitals:
        """Give how the daemon is right now.

        Never blocks, never asks the ledger or a disk, and takes no lock that uploads wait for; so
        it may be asked as often as somebody likes. Safe from every thread.
        """
        ...
