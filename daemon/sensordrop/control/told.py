"""What is told of deliveries, sessions, files and settings: the JSON of routes and of `--json`.

All keys are always present. Pure, but for the clock that an estimate starts from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from sensordrop.config.bandwidth import limit_of
from sensordrop.core.bandwidth import Limit
from sensordrop.core.failure import FailureScope
from sensordrop.core.model import UploadState
from sensordrop.core.progress import SessionProgress, seconds_left
from sensordrop.core.story import DeliveryPlace
from sensordrop.core.timetable import TimetableError
from sensordrop.ports.records import ConfigurationState, DeliveryCounts, OpenBreaker, SettingInForce
from sensordrop.ports.telling import FileLine, LetterLine, PastControl, SessionLine, SessionTrouble

Told = dict[str, Any]

COUNTED = (
    "settling",
    "pending",
    "uploading",
    "uploaded",
    "skipped",
    "failed",
    "superseded",
    "vanished",
    "ignored",
)
IN_SESSIONS = tuple(state.value for state in UploadState if state is not UploadState.UPLOADING)

Limits = Mapping[str | None, Limit]
"""The bandwidth limits that hold: the station's (None) and those of deliveries by name."""
NO_LIMITS: Limits = {}
YOUR_ADMINISTRATOR = "ask your administrator"
"""Instead of words that may be about other clients, too."""


def limits_of(settings: Sequence[SettingInForce], local: tzinfo) -> Limits:
    """Read the limits in force. One that can't be read here is left out: an estimate does without."""
    found = {}
    for setting in settings:
        text = setting.configured if setting.control is None else setting.control.value
        with suppress(TimetableError):
            found[setting.delivery] = limit_of(text, local)
    return found


def status_told(delivery: DeliveryCounts, limits: Limits = NO_LIMITS) -> Told:
    """Tell how a delivery stands."""
    files = {state: counts[0] for state, counts in delivery.counts.items()}
    sizes = {state: counts[1] for state, counts in delivery.counts.items()}
    waiting = files.get("pending", 0)
    uploading = min(delivery.uploading, waiting)
    counts = dict.fromkeys(COUNTED, 0) | files
    counts |= {
        "settling": delivery.settling,
        "pending": waiting - uploading,
        "uploading": uploading,
    }
    # A living daemon that has not said anything of it yet is about to sweep it.
    unsaid = "sweeping" if delivery.daemon_alive else "offline"
    state, reason = delivery.state or unsaid, delivery.reason
    if not delivery.enabled:
        state, reason = "disabled", "not in the configuration, or enabled is false there"
    elif not delivery.daemon_alive:
        reason = "sensordropd is not running" + (f" ({reason})" if reason else "")
    return {
        "name": delivery.name,
        "client": delivery.client,
        "project": delivery.project,
        "cycle": delivery.cycle,
        "state": state,
        "reason": reason,
        "daemon_alive": delivery.daemon_alive,
        "counts": {name: counts[name] for name in COUNTED},
        "bytes": {"pending": sizes.get("pending", 0), "uploaded": sizes.get("uploaded", 0)},
        "mismatches": delivery.mismatches,
        "letters": {"delayed": delivery.letters_delayed, "failed": delivery.letters_failed},
        "session": None
        if delivery.session_id is None or delivery.session_started_at is None
        else {
            "id": delivery.session_id,
            "started_at": delivery.session_started_at.isoformat(timespec="seconds"),
        },
        "progress": None
        if delivery.progress is None
        else _progress_told(
            delivery.progress, [limits[of] for of in (None, delivery.name) if of in limits]
        ),
    }


def _progress_told(progress: SessionProgress, limits: Sequence[Limit]) -> Told:
    now = datetime.now(UTC)
    seconds = seconds_left(progress, at=now, limits=limits)
    eta = None if seconds is None else now + timedelta(seconds=seconds)
    return {
        "files": progress.total,
        "finished": progress.total - progress.files_left,
        "bytes": progress.bytes,
        "bytes_left": progress.bytes_left,
        "share": round(progress.share, 6),
        "files_per_second": round(progress.files_per_second, 3),
        "bytes_per_second": round(progress.bytes_per_second),
        "seconds_left": None if seconds is None else round(seconds),
        "eta": None if eta is None else eta.isoformat(timespec="seconds"),
    }


def configuration_told(state: ConfigurationState, *, whole: bool) -> Told:
    """Tell since when a daemon works with its configuration, and what it did not take since."""
    refused = state.refused_at
    problem = state.problem if whole or state.problem is None else YOUR_ADMINISTRATOR
    return {
        "station": state.station,
        "since": state.since.isoformat(timespec="seconds"),
        "refused_at": None if refused is None else refused.isoformat(timespec="seconds"),
        "problem": problem,
    }


def breaker_told(breaker: OpenBreaker, *, whole: bool) -> Told:
    """Tell what stops all uploads of a scope. One that clients share may name the file and bucket
    of any of them: without `whole` that is left out.
    """
    own = whole or breaker.scope == FailureScope.PROJECT
    return {
        "station": breaker.station,
        "scope": breaker.scope,
        "target": breaker.target,
        "error_class": breaker.error_class,
        "reason": breaker.problem if own else f"{breaker.error_class}: {YOUR_ADMINISTRATOR}",
        "hint": breaker.hint,
        "failures": breaker.failures,
        "opened_at": breaker.opened_at.isoformat(timespec="seconds"),
        "next_probe_at": breaker.probe_at.isoformat(timespec="seconds"),
    }


def delivery_told(place: DeliveryPlace, stands: DeliveryCounts | None) -> Told:
    """Tell where a delivery takes from and puts to."""
    status = status_told(stands) if stands is not None else None
    return {
        "name": place.name,
        "station": place.station,
        "client": status and status["client"],
        "project": status and status["project"],
        "cycle": status and status["cycle"],
        "state": status and status["state"],
        "reason": status and status["reason"],
        "daemon_alive": place.daemon_alive,
        "local_directory": place.local_directory,
        "endpoint_url": place.endpoint_url or None,
        "bucket_name": place.bucket_name,
        "s3_prefix": place.s3_prefix,
        "session_id": place.session_id,
        "last_sweep_at": iso(place.last_sweep_ended_at),
        "last_complete_sweep_at": iso(place.last_complete_sweep_at),
        "counts": status and status["counts"],
    }


def session_told(line: SessionLine) -> Told:
    """Tell of one session."""
    counts = {state: line.counts.get(state, 0) for state in IN_SESSIONS}
    return {
        "id": line.session_id,
        "delivery": line.delivery,
        "state": line.state,
        "origin": line.origin,
        "started_by": line.started_by,
        "started_at": iso(line.started_at),
        "ended_at": iso(line.ended_at),
        "files": sum(counts.values()),
        "counts": counts,
        "bytes": {"total": line.bytes_total, "uploaded": line.bytes_uploaded},
    }


def trouble_told(trouble: SessionTrouble) -> Told:
    """Tell what failed in a session, by kind of error."""
    return {"error_class": trouble.error_class, "files": trouble.files, "example": trouble.path}


def letter_told(line: LetterLine) -> Told:
    """Tell what somebody was, or is to be, told of a session."""
    return {
        "kind": line.kind.value,
        "endpoint": line.endpoint,
        "idempotency_key": line.idempotency_key,
        "state": line.state.value,
        "attempts": line.attempts,
        "asked_at": iso(line.asked_at),
        "next_attempt_at": iso(line.next_at),
        "told_at": iso(line.told_at),
        "status": line.status,
        "answer": line.answer,
        "problem": line.problem,
    }


def file_told(line: FileLine) -> Told:
    """Tell of one version of a file."""
    return {
        "delivery": line.delivery,
        "sensor": line.sensor,
        "path": line.path,
        "state": line.state,
        "size_bytes": line.size_bytes,
        "session_id": line.session_id,
        "attempts": line.attempts,
        "enrolled_at": iso(line.enrolled_at),
        "finished_at": iso(line.finished_at),
        "next_attempt_at": iso(line.next_at),
        "error_class": line.error_class,
        "reason": line.reason,
    }


def pause_told(found: SettingInForce) -> Told:
    """Tell of one pause that holds."""
    control = found.control
    assert control is not None
    return {
        "delivery": found.delivery,
        "set_by": control.set_by,
        "set_at": control.set_at.isoformat(timespec="seconds"),
        "until": control.until.isoformat(timespec="seconds") if control.until else None,
        "reason": control.reason,
    }


def past_told(past: PastControl) -> Told:
    """Tell of something that was set, and may hold still."""
    return {
        "delivery": past.delivery,
        "reason": past.reason,
        "set_by": past.set_by,
        "set_at": iso(past.set_at),
        "until": iso(past.until),
        "ended_by": past.ended_by,
        "ended_at": iso(past.ended_at),
    }


def limit_told(found: SettingInForce, zone: tzinfo) -> Told:
    """Tell of one bandwidth limit. Raises TimetableError where it can't be read here."""
    control = found.control
    setting = control.value if control is not None else found.configured
    now = datetime.now(UTC)
    limit = limit_of(setting, zone)
    change = limit.next_change(now)
    rate = limit.rate(now)
    return {
        "delivery": found.delivery,
        "setting": setting or "off",
        "from": "command" if control is not None else "configuration",
        "configured": found.configured or "off",
        "bytes_per_second": None if rate is None else round(rate),
        "next_change": None if change is None else change[0].isoformat(timespec="seconds"),
        "next_bytes_per_second": None if change is None or change[1] is None else round(change[1]),
        "set_by": control.set_by if control is not None else None,
        "set_at": control.set_at.isoformat(timespec="seconds") if control is not None else None,
        "until": control.until.isoformat(timespec="seconds")
        if control is not None and control.until is not None
        else None,
        "reason": control.reason if control is not None else "",
    }


def iso(instant: datetime | None) -> str | None:
    """Write an instant for programs."""
    return None if instant is None else instant.isoformat(timespec="milliseconds")
