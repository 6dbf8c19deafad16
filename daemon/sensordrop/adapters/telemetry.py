"""The metrics: every name that Prometheus sees, what it means, and what it is read from.

Names stand here and nowhere else; docs/METRICS.md is rendered from them:

    python -m sensordrop.adapters.telemetry docs/METRICS.md

Labels are bounded: deliveries, states, scopes, classes of failures, operations, codes; never a
path or a sensor. `exposition` writes them out.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sensordrop.adapters.s3.requests import RequestTally
from sensordrop.core.failure import FailureScope
from sensordrop.core.model import DeliveryState, UploadState
from sensordrop.core.tally import Distribution
from sensordrop.core.vitals import (
    DeliveryReading,
    DeliveryVitals,
    DiskSpace,
    SessionReading,
    StationVitals,
)

PREFIX = "sensordrop_"
INFINITE = float("inf")

Labels = tuple[str, ...]
Sample = tuple[Labels, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Station:
    """What the metrics of the station are read from."""

    vitals: StationVitals
    requests: RequestTally


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric. `name` is without the prefix; `kind` is Prometheus' type."""

    name: str
    kind: str
    meaning: str
    labels: Labels = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StationMetric(Metric):
    """A metric of the whole station."""

    read: Callable[[Station], Iterable[Sample]]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryMetric(Metric):
    """A metric of each delivery; its first label is `delivery`, the samples give the others."""

    read: Callable[[DeliveryVitals], Iterable[Sample]]


@dataclass(frozen=True, kw_only=True, slots=True)
class HistogramMetric(Metric):
    """Distributions of the station, one for each set of labels."""

    read: Callable[[Station], Iterable[tuple[Labels, Distribution]]]


# --- how samples are read -----------------------------------------------------------------


def _one(value: float | None) -> Iterable[Sample]:
    """Give the sample of a metric without further labels; none where there is nothing to tell."""
    return () if value is None else (((), float(value)),)


def _flag(value: bool | None) -> Iterable[Sample]:
    return () if value is None else (((), float(value)),)


def _of_reading(
    read: Callable[[DeliveryReading], float | None],
) -> Callable[[DeliveryVitals], Iterable[Sample]]:
    return lambda d: () if d.reading is None else _one(read(d.reading))


def _letters(delivery: DeliveryVitals) -> Iterable[Sample]:
    reading = delivery.reading
    if reading is None:
        return ()
    waiting, failed = float(reading.letters_waiting), float(reading.letters_failed)
    return ((("waiting",), waiting), (("failed",), failed))


def _of_session(
    read: Callable[[SessionReading], float | None],
) -> Callable[[DeliveryVitals], Iterable[Sample]]:
    def samples(delivery: DeliveryVitals) -> Iterable[Sample]:
        reading = delivery.reading
        return () if reading is None or reading.session is None else _one(read(reading.session))

    return samples


def _of_disk(read: Callable[[DiskSpace], float]) -> Callable[[Station], Iterable[Sample]]:
    def samples(station: Station) -> Iterable[Sample]:
        disk = station.vitals.state_disk
        return () if disk is None else _one(read(disk))

    return samples


_STATES = ("settling", *(state.value for state in UploadState), "ignored")
_LABELLED_STATES = [(state, (state,)) for state in _STATES]
_STATES_WITH_BYTES = [
    (state, labels) for state, labels in _LABELLED_STATES if state not in ("settling", "uploading")
]
_NO_FILES = (0, 0)
_SCOPES = [scope.value for scope in FailureScope if scope is not FailureScope.FILE]


def _files(delivery: DeliveryVitals) -> Iterable[Sample]:
    reading = delivery.reading
    if reading is None:
        return ()
    files = {state: counted[0] for state, counted in reading.counts.items()}
    files["settling"] = delivery.settling
    files["uploading"] = reading.uploading
    files["pending"] = max(0, files.get("pending", 0) - reading.uploading)
    return [(labels, files.get(state, 0)) for state, labels in _LABELLED_STATES]


def _bytes(delivery: DeliveryVitals) -> Iterable[Sample]:
    reading = delivery.reading
    if reading is None:
        return ()
    counts = reading.counts
    return [(labels, counts.get(state, _NO_FILES)[1]) for state, labels in _STATES_WITH_BYTES]


@lru_cache(maxsize=16)
def _state(state: DeliveryState | None) -> Iterable[Sample]:
    """Give the samples of a delivery's state. Kept: there are few states and many deliveries."""
    return [((each.value,), float(each is state)) for each in DeliveryState]


@lru_cache(maxsize=16)
def _breakers(open_scopes: frozenset[str]) -> Iterable[Sample]:
    """Give the samples of a delivery's breakers. Kept for the same reason."""
    return [((scope,), float(scope in open_scopes)) for scope in _SCOPES]


def _deadline(delivery: DeliveryVitals) -> Iterable[Sample]:
    reading = delivery.reading
    if reading is None or reading.session is None or delivery.deadline_seconds is None:
        return ()
    return _one(reading.session.started_at + delivery.deadline_seconds)


def _audit_daily(station: StationVitals) -> float | None:
    """Say how many files the audit is to look at each day; None: there is no audit, or no telling."""
    if not station.audit_share_per_day or station.read_at is None:
        return None
    stored = sum(
        delivery.reading.counts.get(state, (0, 0))[0]
        for delivery in station.deliveries
        if delivery.reading is not None and delivery.enabled
        for state in ("uploaded", "skipped")
    )
    return stored * station.audit_share_per_day


def _audit_due(station: StationVitals) -> float | None:
    daily, behind = _audit_daily(station), station.audit_behind_seconds
    return None if daily is None or behind is None else daily * behind / 86_400


def _rate(limit: float | None) -> Iterable[Sample]:
    return _one(INFINITE if limit is None else limit)


# --- the metrics --------------------------------------------------------------------------

METRICS: Sequence[StationMetric | DeliveryMetric | HistogramMetric] = (
    StationMetric(
        name="build_info",
        kind="gauge",
        labels=("version", "python"),
        meaning="Always 1; the labels say which program runs.",
        read=lambda s: [((s.vitals.version, platform.python_version()), 1.0)],
    ),
    StationMetric(
        name="config_info",
        kind="gauge",
        labels=("hash",),
        meaning="Always 1; the label changes with the configuration in force.",
        read=lambda s: [((s.vitals.configuration.digest,), 1.0)],
    ),
    StationMetric(
        name="config_loaded_timestamp_seconds",
        kind="gauge",
        meaning="When the configuration in force was loaded.",
        read=lambda s: _one(s.vitals.configuration.loaded_at),
    ),
    StationMetric(
        name="config_last_load_successful",
        kind="gauge",
        meaning="1 if the last try to load a configuration succeeded.",
        read=lambda s: _flag(s.vitals.configuration.last_load_succeeded),
    ),
    StationMetric(
        name="database_up",
        kind="gauge",
        meaning="1 if the ledger answers.",
        read=lambda s: _flag(s.vitals.database_up),
    ),
    StationMetric(
        name="database_latency_seconds",
        kind="gauge",
        meaning="How long the ledger took for its last answer to an empty question.",
        read=lambda s: _one(s.vitals.database_seconds),
    ),
    StationMetric(
        name="database_read_timestamp_seconds",
        kind="gauge",
        meaning="When the ledger was last read for the metrics that come from it.",
        read=lambda s: _one(s.vitals.read_at),
    ),
    HistogramMetric(
        name="commit_files",
        kind="histogram",
        meaning="Outcomes that were written down together in one transaction.",
        read=lambda s: [((), s.vitals.tally.commit_files)],
    ),
    HistogramMetric(
        name="commit_duration_seconds",
        kind="histogram",
        meaning="How long a transaction took that wrote outcomes down.",
        read=lambda s: [((), s.vitals.tally.commit_seconds)],
    ),
    HistogramMetric(
        name="upload_duration_seconds",
        kind="histogram",
        meaning="How long it took to store a file, from its opening to the store's proof.",
        read=lambda s: [((), s.vitals.tally.upload_seconds)],
    ),
    HistogramMetric(
        name="upload_size_bytes",
        kind="histogram",
        meaning="How large the files were that were stored.",
        read=lambda s: [((), s.vitals.tally.upload_bytes)],
    ),
    HistogramMetric(
        name="settle_wait_seconds",
        kind="histogram",
        meaning="How long files were waited for until nobody wrote them any more.",
        read=lambda s: [((), s.vitals.tally.settle_seconds)],
    ),
    StationMetric(
        name="s3_requests_total",
        kind="counter",
        labels=("operation", "code"),
        meaning="Requests to stores, by what Amazon calls them and the HTTP status of the answer.",
        read=lambda s: [(key, float(n)) for key, n in sorted(s.requests.counts().items())],
    ),
    HistogramMetric(
        name="s3_request_duration_seconds",
        kind="histogram",
        labels=("operation",),
        meaning="How long requests to stores took.",
        read=lambda s: [((key,), taken) for key, taken in sorted(s.requests.seconds().items())],
    ),
    StationMetric(
        name="s3_sent_bytes_total",
        kind="counter",
        meaning="Bytes of files and parts that were sent and answered, whatever the answer was.",
        read=lambda s: _one(s.requests.sent_bytes()),
    ),
    StationMetric(
        name="hints_waiting",
        kind="gauge",
        meaning="Hints of the watcher that nobody has followed yet.",
        read=lambda s: _one(s.vitals.hints_waiting),
    ),
    StationMetric(
        name="hints_dropped_total",
        kind="counter",
        meaning="Hints that were dropped because too many waited. A sweep finds those files.",
        read=lambda s: _one(s.vitals.hints_dropped),
    ),
    StationMetric(
        name="bandwidth_limit_bytes_per_second",
        kind="gauge",
        meaning="Limit of all uploads together that holds now; +Inf: none.",
        read=lambda s: _rate(s.vitals.limit_bytes_per_second),
    ),
    StationMetric(
        name="service_restarts_total",
        kind="counter",
        labels=("service",),
        meaning="How often a part of the daemon failed and was started anew.",
        read=lambda s: [((name,), float(n)) for name, n in s.vitals.restarts.items()],
    ),
    StationMetric(
        name="audit_behind_seconds",
        kind="gauge",
        meaning="Since when the audit has not used its daily share. Waiting for its share to come "
        "to a whole file is no delay: with few files it may be days.",
        read=lambda s: _one(
            s.vitals.audit_behind_seconds if s.vitals.audit_share_per_day else None
        ),
    ),
    StationMetric(
        name="audit_daily_files",
        kind="gauge",
        meaning="Files that the audit is to look at each day.",
        read=lambda s: _one(_audit_daily(s.vitals)),
    ),
    StationMetric(
        name="audit_due_files",
        kind="gauge",
        meaning="Files that the audit should have looked at by now.",
        read=lambda s: _one(_audit_due(s.vitals)),
    ),
    StationMetric(
        name="state_disk_free_bytes",
        kind="gauge",
        meaning="Room that is left where `state_directory` is.",
        read=_of_disk(lambda disk: disk.free_bytes),
    ),
    StationMetric(
        name="state_disk_size_bytes",
        kind="gauge",
        meaning="Size of the file system where `state_directory` is.",
        read=_of_disk(lambda disk: disk.size_bytes),
    ),
    DeliveryMetric(
        name="delivery_info",
        kind="gauge",
        labels=("delivery", "client", "project", "cycle"),
        meaning="Always 1; the labels say what the delivery is bound to.",
        read=lambda d: [((d.client, d.project, d.cycle), 1.0)],
    ),
    DeliveryMetric(
        name="delivery_state",
        kind="gauge",
        labels=("delivery", "state"),
        meaning="1 for the state that `sensordrop status` shows, 0 for the others.",
        read=lambda d: _state(d.state),
    ),
    DeliveryMetric(
        name="delivery_files",
        kind="gauge",
        labels=("delivery", "state"),
        meaning="Files by their state, as `sensordrop status` counts them.",
        read=_files,
    ),
    DeliveryMetric(
        name="delivery_size_bytes",
        kind="gauge",
        labels=("delivery", "state"),
        meaning="Bytes of those files. What is being uploaded is among the pending.",
        read=_bytes,
    ),
    DeliveryMetric(
        name="files_discovered_total",
        kind="counter",
        labels=("delivery", "by"),
        meaning="New and changed files that went on the books, by who found them.",
        read=lambda d: [
            (("hint",), d.tally.discovered_by_hint),
            (("sweep",), d.tally.discovered_by_sweep),
        ],
    ),
    DeliveryMetric(
        name="files_uploaded_total",
        kind="counter",
        labels=("delivery",),
        meaning="Files that were sent and proven to be stored.",
        read=lambda d: _one(d.tally.uploaded),
    ),
    DeliveryMetric(
        name="uploaded_bytes_total",
        kind="counter",
        labels=("delivery",),
        meaning="Bytes of those files.",
        read=lambda d: _one(d.tally.uploaded_bytes),
    ),
    DeliveryMetric(
        name="files_skipped_total",
        kind="counter",
        labels=("delivery",),
        meaning="Files whose content was in the store already.",
        read=lambda d: _one(d.tally.skipped),
    ),
    DeliveryMetric(
        name="files_failed_total",
        kind="counter",
        labels=("delivery",),
        meaning="Files that were quarantined.",
        read=lambda d: _one(d.tally.failed),
    ),
    DeliveryMetric(
        name="files_retried_total",
        kind="counter",
        labels=("delivery",),
        meaning="Failures of files that are tried again.",
        read=lambda d: _one(d.tally.retried),
    ),
    DeliveryMetric(
        name="files_taken_away_total",
        kind="counter",
        labels=("delivery",),
        meaning="Stored files that were deleted from the folder, or moved out of it "
        "(`after_verified`).",
        read=lambda d: _one(d.tally.taken),
    ),
    DeliveryMetric(
        name="taken_away_bytes_total",
        kind="counter",
        labels=("delivery",),
        meaning="Bytes of those files.",
        read=lambda d: _one(d.tally.taken_bytes),
    ),
    DeliveryMetric(
        name="taking_away_failures_total",
        kind="counter",
        labels=("delivery",),
        meaning="Files that were to be taken away and stayed: they, or their objects, were no "
        "longer what the receipt said, or the folder could not be written.",
        read=lambda d: _one(d.tally.taking_failures),
    ),
    DeliveryMetric(
        name="attempts_total",
        kind="counter",
        labels=("delivery", "class", "scope"),
        meaning="Attempts by what came of them; of failures the class and the scope as in "
        "docs/failures.md.",
        read=lambda d: dict(d.tally.attempts).items(),  # copied: its thread may go on counting
    ),
    DeliveryMetric(
        name="uploads_running",
        kind="gauge",
        labels=("delivery",),
        meaning="Files that are being uploaded by this daemon.",
        read=lambda d: _one(d.running),
    ),
    DeliveryMetric(
        name="last_success_timestamp_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="When a file was last stored, or found stored; 0: never.",
        read=_of_reading(lambda r: r.last_success_at or 0.0),
    ),
    DeliveryMetric(
        name="oldest_pending_timestamp_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="Since when the file waits that was found first of all that are not stored yet.",
        read=_of_reading(lambda r: r.oldest_pending_at),
    ),
    DeliveryMetric(
        name="mismatched_files",
        kind="gauge",
        labels=("delivery",),
        meaning="Stored files that were found missing or different in the store, up to 10,000.",
        read=_of_reading(lambda r: r.mismatches),
    ),
    DeliveryMetric(
        name="letters",
        kind="gauge",
        labels=("delivery", "state"),
        meaning="Registrations and notifications that wait to be told, and that were given up in "
        "the last 30 days, notifications in the last day (`failed`).",
        read=_letters,
    ),
    DeliveryMetric(
        name="oldest_letter_timestamp_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="Since when the registration or notification waits that nobody heard for longest.",
        read=_of_reading(lambda r: r.oldest_letter_at),
    ),
    DeliveryMetric(
        name="breaker_open",
        kind="gauge",
        labels=("delivery", "scope"),
        meaning="1 if trouble of this scope stops the delivery's uploads.",
        read=lambda d: _breakers(d.open_breakers),
    ),
    DeliveryMetric(
        name="paused",
        kind="gauge",
        labels=("delivery",),
        meaning="1 if its uploads are paused.",
        read=lambda d: _flag(d.state is DeliveryState.PAUSED),
    ),
    DeliveryMetric(
        name="delivery_bandwidth_limit_bytes_per_second",
        kind="gauge",
        labels=("delivery",),
        meaning="Limit of this delivery alone that holds now; +Inf: none.",
        read=lambda d: _rate(d.limit_bytes_per_second),
    ),
    DeliveryMetric(
        name="watcher_up",
        kind="gauge",
        labels=("delivery",),
        meaning="1 if a living watch is on the folder; absent where it is polled.",
        read=lambda d: _flag(d.watched),
    ),
    DeliveryMetric(
        name="watcher_canary_timestamp_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="When the watch last proved that it sees what happens in the folder.",
        read=lambda d: _one(d.tally.canary_at),
    ),
    DeliveryMetric(
        name="watcher_missed_files_total",
        kind="counter",
        labels=("delivery",),
        meaning="Files that a sweep found and the watcher should have reported.",
        read=lambda d: _one(d.tally.missed_files),
    ),
    DeliveryMetric(
        name="sweeps_total",
        kind="counter",
        labels=("delivery", "result"),
        meaning="Sweeps that ended: complete, partial (something could not be read), or lost (the "
        "ledger was away).",
        read=lambda d: [
            (("complete",), d.tally.sweeps_complete),
            (("partial",), d.tally.sweeps_partial),
            (("lost",), d.tally.sweeps_lost),
        ],
    ),
    DeliveryMetric(
        name="sweep_interval_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="How often the folder is to be swept (`sweep_interval_seconds`).",
        read=lambda d: _one(d.sweep_interval_seconds),
    ),
    DeliveryMetric(
        name="last_sweep_complete",
        kind="gauge",
        labels=("delivery",),
        meaning="1 if the last sweep could read all of the folder.",
        read=lambda d: _flag(d.tally.last_sweep_complete),
    ),
    DeliveryMetric(
        name="last_sweep_timestamp_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="When the last sweep ended.",
        read=lambda d: _one(d.tally.last_sweep_at),
    ),
    DeliveryMetric(
        name="last_complete_sweep_timestamp_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="When the last complete sweep ended.",
        read=lambda d: _one(d.tally.last_complete_sweep_at),
    ),
    DeliveryMetric(
        name="last_sweep_duration_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="How long the last sweep took.",
        read=lambda d: _one(d.tally.last_sweep_seconds),
    ),
    DeliveryMetric(
        name="last_sweep_files",
        kind="gauge",
        labels=("delivery",),
        meaning="Entries that the last sweep listed.",
        read=lambda d: _one(d.tally.last_sweep_files),
    ),
    DeliveryMetric(
        name="session_start_timestamp_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="When the running session began; absent where none runs, like all of `session_`.",
        read=_of_session(lambda s: s.started_at),
    ),
    DeliveryMetric(
        name="session_files",
        kind="gauge",
        labels=("delivery",),
        meaning="Files of the running session.",
        read=_of_session(lambda s: s.progress.total),
    ),
    DeliveryMetric(
        name="session_finished_files",
        kind="gauge",
        labels=("delivery",),
        meaning="Those of them that are stored, skipped, quarantined or gone.",
        read=_of_session(lambda s: s.progress.total - s.progress.files_left),
    ),
    DeliveryMetric(
        name="session_size_bytes",
        kind="gauge",
        labels=("delivery",),
        meaning="Bytes of the running session's files.",
        read=_of_session(lambda s: s.progress.bytes),
    ),
    DeliveryMetric(
        name="session_finished_bytes",
        kind="gauge",
        labels=("delivery",),
        meaning="Bytes of those of them that are finished.",
        read=_of_session(lambda s: s.progress.bytes - s.progress.bytes_left),
    ),
    DeliveryMetric(
        name="session_remaining_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="How long the running session still takes, as `sensordrop status` estimates it; "
        "absent where there is no telling.",
        read=lambda d: _one(d.remaining_seconds),
    ),
    DeliveryMetric(
        name="session_deadline_timestamp_seconds",
        kind="gauge",
        labels=("delivery",),
        meaning="When the running session should have ended (`session_deadline_seconds`).",
        read=_deadline,
    ),
)

# --- the document -------------------------------------------------------------------------

BEGIN, END = "<!-- begin metrics -->\n", "<!-- end metrics -->\n"


def table() -> str:
    """Give all metrics as a Markdown table."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join(lines) + "\n"


def rewritten(document: str) -> str:
    """Give the document with its table rendered anew. Raises ValueError if it has no place for it."""
    between = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    document, count = between.subn(lambda _: BEGIN + table() + END, document)
    if count != 1:
        raise ValueError(f"the document has {count} places between {BEGIN!r} and {END!r}")
    return document


def main(arguments: Sequence[str]) -> int:
    """Rewrite the document at the given path, or print the table."""
    if not arguments:
        sys.stdout.write(table())
        return 0
    page = Path(arguments[0])
    page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
