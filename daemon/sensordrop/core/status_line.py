"""The one line that `systemctl status` shows."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, tzinfo

from sensordrop.core.model import DeliveryState, UploadState
from sensordrop.core.terminal import printable
from sensordrop.core.vitals import ConfigurationInForce, DeliveryVitals, StationVitals

STORED = (UploadState.UPLOADED, UploadState.SKIPPED)
WANTED = (*STORED, UploadState.PENDING, UploadState.FAILED)
"""What a delivery's files are counted of: superseded versions and vanished files are history."""
TROUBLED = (DeliveryState.PAUSED, DeliveryState.OFFLINE, DeliveryState.BLOCKED)
LONGEST_REASON = 120


def status_line(vitals: StationVitals, zone: tzinfo) -> str:
    """Say how it goes, the most important facts first; times are those of `zone`.

    `2 deliveries · 243,436/301,575 files · 12 failed · 38 files/s · ETA 20:57`
    """
    enabled = [delivery for delivery in vitals.deliveries if delivery.enabled]
    parts = [] if vitals.database_up else ["the ledger does not answer"]
    parts += _refused(vitals.configuration, zone)
    parts.append(f"{len(enabled)} {'delivery' if len(enabled) == 1 else 'deliveries'}")
    stored, wanted = _files(enabled, STORED), _files(enabled, WANTED)
    parts.append(f"{stored:,}/{wanted:,} files")
    if failed := _files(enabled, (UploadState.FAILED,)):
        parts.append(f"{failed:,} failed")
    parts += _progress(enabled, vitals, zone)
    states = Counter(delivery.state for delivery in enabled)
    parts += [f"{states[state]} {state.value}" for state in TROUBLED if states[state]]
    reasons = [d.reason for d in enabled if d.state in TROUBLED and d.reason]
    if reasons:
        parts.append(printable(reasons[0])[:LONGEST_REASON])
    return " · ".join(parts)


def _refused(configuration: ConfigurationInForce, zone: tzinfo) -> list[str]:
    """Say that another configuration was not taken: what was meant to change has not changed."""
    if configuration.last_load_succeeded or configuration.last_load_at is None:
        return []
    at = datetime.fromtimestamp(configuration.last_load_at, zone)
    return [f"configuration refused at {at:%H:%M}, the one before is in force"]


def _files(deliveries: list[DeliveryVitals], states: tuple[UploadState, ...]) -> int:
    readings = [delivery.reading for delivery in deliveries if delivery.reading is not None]
    return sum(
        reading.counts.get(state.value, (0, 0))[0] for reading in readings for state in states
    )


def _progress(deliveries: list[DeliveryVitals], vitals: StationVitals, zone: tzinfo) -> list[str]:
    """Give speed and time of arrival of what is at work. Nothing waits: nothing to say."""
    at_work = [d for d in deliveries if d.running or d.remaining_seconds]
    speed = sum(delivery.files_per_second for delivery in at_work)
    if not speed > 0:
        return []
    parts = [f"{speed:,.0f} files/s" if speed >= 10 else f"{speed:.1f} files/s"]
    remaining = max((d.remaining_seconds or 0.0 for d in at_work), default=0.0)
    if remaining > 0:
        parts.append(f"ETA {_clock(vitals.at, remaining, zone)}")
    return parts


def _clock(at: float, seconds: float, zone: tzinfo) -> str:
    """Give the time of day, with the date where it is not today's."""
    now = datetime.fromtimestamp(at, zone)
    arrival = now + timedelta(seconds=seconds)
    same_day = arrival.date() == now.date()
    return arrival.strftime("%H:%M" if same_day else "%a %d %b %H:%M")
