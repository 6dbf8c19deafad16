"""What people set over the configuration while the daemon runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ControlKind(StrEnum):
    """What can be set. A kind that has a key in the configuration has that key's name."""

    BANDWIDTH = "bandwidth"
    PAUSE = "pause"
    RESCAN = "rescan"
    """A sweep that somebody asked for; it is ended by the daemon that has done it."""


class Rescan(StrEnum):
    """What a sweep that somebody asked for is to do: the values of `ControlKind.RESCAN`."""

    SWEEP = "sweep"
    CONFIRM_VANISHED = "confirm-vanished"
    """Hold what is missing to be gone, however much it is."""


PAUSED = "on"
"""The value of a pause: all there is to say is that it holds."""


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


def pause_words(controls: Sequence[Control], delivery_id: int) -> str | None:
    """Say who paused a delivery, or the whole station, in words; None if nobody did."""
    pauses = [each for each in controls if each.kind is ControlKind.PAUSE]
    for pause in sorted(pauses, key=lambda each: each.delivery_id is None):
        if pause.delivery_id in (None, delivery_id):
            words = "paused" if pause.delivery_id is not None else "this station is paused"
            words += f" by {pause.set_by} since {pause.set_at:%Y-%m-%d %H:%M %Z}"
            if pause.until is not None:
                words += f" until {pause.until:%Y-%m-%d %H:%M %Z}"
            return f"{words}: {pause.reason}" if pause.reason else words
    return None
