"""How many files this process may open, and how many uploads that is enough for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

with suppress(ModuleNotFoundError):  # Windows counts no descriptors
    import resource

BESIDE_UPLOADS = 40
"""Descriptors for all that is no upload: logs, locks, watcher, sweeps, the services' connections to
the ledger, a store's checks. A daemon at rest was seen to hold some thirty."""
PER_UPLOAD = 3
"""Its file, its connection to the store, and its worker's connection to the ledger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """How many uploads may run at once under the limit of this process, and what would be wanted."""

    limit: int
    wanted: int
    uploads: int


def uploads_that_fit(limit: int) -> int:
    """Give how many uploads a limit of descriptors is enough for: one at least. Pure."""
    return max(1, (limit - BESIDE_UPLOADS) // PER_UPLOAD)


def make_room(uploads: int) -> Room:
    """Raise this process' limit as far as it may and these uploads need; say what came of it."""
    wanted = BESIDE_UPLOADS + PER_UPLOAD * uploads
    if "resource" not in globals():
        return Room(limit=wanted, wanted=wanted, uploads=uploads)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        with suppress(OSError, ValueError):  # a container may forbid it; then the limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if soft == unlimited else soft
    return Room(limit=limit, wanted=wanted, uploads=min(uploads, uploads_that_fit(limit)))
