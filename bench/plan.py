"""How much is measured, and what every group of rows gets to work with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from figures import Better, Goal, Row
from peers import Peers
from stores import Sink, Store

KIB = 1024
MIB = 1024 * KIB

PEAK = Goal(better=Better.LESS, must=200, reach=100, of="ours", unit="MiB")
"""What the daemon's own memory may grow to, whatever it does."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The numbers of the full run, which `QUICK` makes smaller. All others stay."""

    rounds: int = 3
    small_files: int = 20_000
    medium_files: int = 3_000
    large_files: int = 4
    large_bytes: int = 512 * MIB
    far_files: int = 10_000
    stored_files: int = 5_000
    aws_files: int = 2_000
    listed_files: int = 1_000_000
    receipt_files: int = 300_000
    ledger_rows: int = 10_000_000
    ledger_files: int = 5_000
    single_files: int = 1_000
    moved_files: int = 100_000
    watched_folders: int = 10_000
    idle_seconds: float = 60.0


QUICK = Sizes(
    rounds=1,
    small_files=4_000,
    medium_files=500,
    large_files=2,
    large_bytes=256 * MIB,
    far_files=3_000,
    stored_files=1_000,
    aws_files=200,
    listed_files=100_000,
    receipt_files=30_000,
    ledger_rows=300_000,
    ledger_files=2_000,
    single_files=100,
    moved_files=10_000,
    watched_folders=2_000,
    idle_seconds=15.0,
)
"""Every row in about five minutes: it shows that all works, not how fast it is."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What there is to measure with."""

    work: Path
    peers: Peers
    sizes: Sizes
    sink: Sink | None
    """None where nginx is missing: what needs it is left out."""

    def environment(self, store: Store) -> dict[str, str]:
        """Give what a peer is started with: nothing of the user's own configuration."""
        kept = ("PATH", "PYTHONPATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
        base = {name: os.environ[name] for name in kept if name in os.environ}
        return store.environment({**base, "HOME": str(self.work)})


def about_store(rows: Sequence[Row], store: Store, **settings: object) -> list[Row]:
    """Note in rows what was written to, and with which settings of ours."""
    told = {"engine": "curl", "store_check": "auto", **settings, "store": store.words}
    return [replace(row, settings={**told, **row.settings}) for row in rows]
