"""When a sync session may end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryActivity:
    """What a delivery is busy with, as the scout sees it. Seconds are on the monotonic clock."""

    settling: int
    hints_waiting: bool
    sweeping: bool
    sweep_wanted: bool
    last_sweep_complete: bool
    queued: int
    """Files pending, uploading or waiting for a retry."""
    last_activity: float
    """When a file was last seen changing, went on the books, or was finished."""


def why_open(activity: DeliveryActivity, *, monotonic: float, quiet_seconds: float) -> str | None:
    """Say what keeps the delivery's session open, or None if it may end.

    A session ends when nothing is settling, pending, uploading or waiting for a retry, the last
    sweep was complete, and the folder has been quiet for `quiet_seconds`.
    """
    if activity.queued:
        return f"{_files(activity.queued)} not finished"
    if activity.settling:
        return f"{_files(activity.settling)} still settling"
    if activity.hints_waiting:
        return "the watcher reported files that were not looked at yet"
    if activity.sweeping or activity.sweep_wanted:
        return "a sweep is due or running"
    if not activity.last_sweep_complete:
        return "the last sweep was partial"
    if monotonic - activity.last_activity < quiet_seconds:
        return "the folder has not been quiet long enough"
    return None


def _files(number: int) -> str:
    return "1 file is" if number == 1 else f"{number:,} files are"
