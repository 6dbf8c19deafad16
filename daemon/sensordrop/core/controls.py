"""What people set over the configuration while the daemon runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ControlKind(StrEnum):
    """What can be set. A kind that has a key in the configuration has that key's name."""

    BANDWIDTH = "bandwidth"
    PAUSE = "pause"


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """Something that somebody set; it holds instead of what the configuration says."""

    kind: ControlKind
    delivery_id: int | None
    """None: for the whole station."""
    value: str
    reason: str
    set_by: str
    set_at: datetime
    until: datetime | None
    """When it stops to hold by itself; None: not before somebody ends it."""
