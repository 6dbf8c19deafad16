"""The dashboard for those who wait for a delivery: how far it is, how fast, and what stops it."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard

from panels import (
    AMBER,
    BLUE,
    FEW_IS_GOOD,
    GREEN,
    GREY,
    NONE_IS_GOOD,
    RED,
    PanelBuilder,
    board,
    figure,
    gauges,
    graph,
    instant,
    lines,
    listing,
    rows,
    scope_variables,
    states,
    where,
)

OF = 'delivery=~"$delivery"'
"""Prometheus' condition on what is chosen; the variable holds what client, project and cycle left."""
RATE = "[$__rate_interval]"
NO_SESSION = "no session"


def delivery_live() -> dashboard.Dashboard:
    """Build it."""
    return board(
        "delivery",
        "sensordrop: delivery live",
        "How far the running deliveries are, how fast, when they are done, what fails, and what "
        "stops them.",
        scope_variables(),
        {
            "Now": _now(),
            "Progress": _progress(),
            "Speed": _speed(),
            "Failures": _failures(),
        },
        since="now-6h",
        refresh="10s",
    )


def _now() -> Sequence[PanelBuilder]:
    return [
        figure(
            "Finished",
            "Share of the bytes of all running sessions that is stored, skipped or quarantined.",
            instant(
                f"sum(sensordrop_session_finished_bytes{{{OF}}})"
                f" / sum(sensordrop_session_size_bytes{{{OF}}})"
            ),
            unit="percentunit",
            none=NO_SESSION,
            width=3,
        ),
        figure(
            "Done in",
            "How long the running session takes that takes longest; knows limits and timetables.",
            instant(f"max(sensordrop_session_remaining_seconds{{{OF}}})"),
            unit="dtdurations",
            none=NO_SESSION,
            width=3,
            runbook="sensordropsessionlate",
        ),
        figure(
            "Speed",
            "Bytes of stored files per second. A large file counts when it is stored.",
            instant(f"sum(rate(sensordrop_uploaded_bytes_total{{{OF}}}{RATE}))"),
            unit="Bps",
            width=3,
        ),
        figure(
            "Files per second",
            "Files stored per second.",
            instant(f"sum(rate(sensordrop_files_uploaded_total{{{OF}}}{RATE}))"),
            unit="suffix: files/s",
            width=3,
        ),
        figure(
            "In flight",
            "Files that are being uploaded right now.",
            instant(f"sum(sensordrop_uploads_running{{{OF}}})"),
            width=3,
        ),
        figure(
            "Waiting",
            "Files on the books that nobody works on yet: ready, or waiting for their next try.",
            instant(f'sum(sensordrop_delivery_files{{{OF},state="pending"}})'),
            width=3,
            runbook="sensordropfilewaitslong",
        ),
        figure(
            "Quarantined",
            "Files that a person has to look at.",
            instant(f'sum(sensordrop_delivery_files{{{OF},state="failed"}})'),
            steps=NONE_IS_GOOD,
            width=3,
            runbook="sensordropfilesquarantined",
        ),
        figure(
            "Open breakers",
            "Kinds of trouble that stop uploads; each is probed and closes by itself.",
            instant(f"sum(sensordrop_breaker_open{{{OF}}})"),
            steps=NONE_IS_GOOD,
            width=3,
            runbook="sensordropbreakeropen",
        ),
    ]


def _progress() -> Sequence[PanelBuilder]:
    return [
        gauges(
            "Running sessions",
            "Share of each running session's bytes that is finished.",
            instant(
                f"sum by (delivery) (sensordrop_session_finished_bytes{{{OF}}})"
                f" / sum by (delivery) (sensordrop_session_size_bytes{{{OF}}})",
                "{{delivery}}",
            ),
            none=NO_SESSION,
            width=8,
        ),
        listing(
            "Sessions",
            "Each session with its files; a running one with its speed and when it is done at that "
            "speed. The newest first.",
            rows(
                f"""
                SELECT session, client, project, delivery, state, total, uploaded, skipped, failed,
                       bytes, files_per_second, eta
                FROM grafana.session_progress WHERE {where("client", "project", "delivery")}
                ORDER BY session DESC LIMIT 100
                """
            ),
            columns={
                "bytes": {"unit": "decbytes"},
                "failed": {"steps": NONE_IS_GOOD},
                "files_per_second": {"unit": "suffix: files/s", "decimals": 1},
                "eta": {"unit": "dateTimeAsIso"},
            },
            width=16,
            height=8,
        ),
        listing(
            "Deliveries",
            "The state of each delivery, as sensordrop status shows it, and how much of it is "
            "stored.",
            rows(
                f"""
                SELECT client, project, cycle, delivery, station,
                       CASE WHEN daemon_alive OR state IN ('disabled', 'retired') THEN state
                            ELSE 'not running' END AS state,
                       reason, stored::float8 / nullif(stored + waiting + settling + failed, 0) AS share,
                       stored, waiting, settling, failed, mismatched
                FROM grafana.delivery_progress
                WHERE {where("client", "project", "cycle", "delivery")}
                ORDER BY client, project, cycle, delivery
                """
            ),
            columns={
                "share": {"unit": "percentunit", "decimals": 1, "gauge": True},
                "waiting": {"steps": FEW_IS_GOOD},
                "failed": {"steps": NONE_IS_GOOD},
                "mismatched": {"steps": NONE_IS_GOOD},
            },
            runbook="sensordropnothinggetsstored",
        ),
        listing(
            "Stalled",
            "Deliveries whose files wait and don't get stored, with the reason.",
            rows(
                f"""
                SELECT client, project, delivery, reason, pending, oldest_pending_at,
                       last_success_at
                FROM grafana.stalled_deliveries WHERE {where("client", "project", "delivery")}
                ORDER BY oldest_pending_at
                """
            ),
            columns={
                "pending": {"steps": FEW_IS_GOOD},
                "oldest_pending_at": {"unit": "dateTimeFromNow"},
                "last_success_at": {"unit": "dateTimeFromNow"},
            },
            height=6,
            runbook="sensordropnothinggetsstored",
        ),
    ]


def _speed() -> Sequence[PanelBuilder]:
    return [
        lines(
            "Throughput",
            "Bytes of stored files per second, by delivery, below the limit of the station where "
            "there is one.",
            graph(
                f"sum by (delivery) (rate(sensordrop_uploaded_bytes_total{{{OF}}}{RATE}))",
                "{{delivery}}",
            ),
            graph("sensordrop_bandwidth_limit_bytes_per_second < Inf", "limit", "B"),
            unit="Bps",
        ),
        lines(
            "Files per second",
            "Files stored, skipped because the same content was there, and found.",
            graph(f"sum(rate(sensordrop_files_uploaded_total{{{OF}}}{RATE}))", "stored"),
            graph(f"sum(rate(sensordrop_files_skipped_total{{{OF}}}{RATE}))", "skipped", "B"),
            graph(f"sum(rate(sensordrop_files_discovered_total{{{OF}}}{RATE}))", "found", "C"),
            unit="suffix: files/s",
        ),
        lines(
            "Files by state",
            "How the files of the chosen deliveries stand.",
            graph(
                f"sum by (state) (sensordrop_delivery_files{{{OF},"
                'state=~"settling|pending|uploading|failed"})',
                "{{state}}",
            ),
            unit="short",
        ),
        lines(
            "Time left",
            "Estimate of how long each running session still takes, and how long it may "
            "(session_deadline_seconds).",
            graph(
                f"max by (delivery) (sensordrop_session_remaining_seconds{{{OF}}})", "{{delivery}}"
            ),
            graph(
                f"max by (delivery) (sensordrop_session_deadline_timestamp_seconds{{{OF}}}) - time()",
                "{{delivery}}: deadline",
                "B",
            ),
            unit="s",
            runbook="sensordropsessionlate",
        ),
        lines(
            "How long uploads take",
            "From opening a file to the store's proof: half of the files are faster than the first "
            "line, all but one of a hundred than the last. Of the whole station.",
            *[
                graph(
                    f"histogram_quantile({share},"
                    f" sum by (le) (rate(sensordrop_upload_duration_seconds_bucket{RATE})))",
                    words,
                    letter,
                )
                for share, words, letter in (
                    (0.5, "half", "A"), (0.95, "19 of 20", "B"), (0.99, "99 of 100", "C"))
            ],
            unit="s",
        ),
        lines(
            "How large files are",
            "The middling size of the files that were stored, and the size that 19 of 20 stay "
            "below. Of the whole station.",
            *[
                graph(
                    f"histogram_quantile({share},"
                    f" sum by (le) (rate(sensordrop_upload_size_bytes_bucket{RATE})))",
                    words,
                    letter,
                )
                for share, words, letter in ((0.5, "half", "A"), (0.95, "19 of 20", "B"))
            ],
            unit="bytes",
        ),
    ]  # fmt: skip


def _failures() -> Sequence[PanelBuilder]:
    return [
        lines(
            "Failures by class",
            "Attempts that failed, by class and scope. docs/failures.md says for each class what "
            "helps. Only failures of scope file use up a file's attempts.",
            graph(
                "sum by (class, scope) "
                f'(increase(sensordrop_attempts_total{{{OF},scope!=""}}{RATE}))',
                "{{class}} ({{scope}})",
            ),
            unit="short",
            steps=FEW_IS_GOOD,
            stacked=True,
            bars=True,
            runbook="sensordropfilesquarantined",
        ),
        lines(
            "Retries and quarantine",
            "Files that are tried again after a failure, and files that were quarantined.",
            graph(f"sum(increase(sensordrop_files_retried_total{{{OF}}}{RATE}))", "tried again"),
            graph(
                f"sum(increase(sensordrop_files_failed_total{{{OF}}}{RATE}))", "quarantined", "B"
            ),
            unit="short",
            steps=FEW_IS_GOOD,
            bars=True,
            runbook="sensordropfilesquarantined",
        ),
        states(
            "Breakers",
            "Trouble that stops a delivery's uploads, by scope: of the project (credentials, "
            "bucket), the destination (endpoint, network) or the station.",
            graph(
                f"max by (delivery, scope) (sensordrop_breaker_open{{{OF}}})",
                "{{delivery}}: {{scope}}",
            ),
            steps=NONE_IS_GOOD,
            texts={"0": ("closed", GREEN), "1": ("open", RED)},
            runbook="sensordropbreakeropen",
        ),
        states(
            "Paused",
            "Deliveries whose uploads were paused by hand.",
            graph(f"max by (delivery) (sensordrop_paused{{{OF}}})", "{{delivery}}"),
            steps=((None, GREY), (1, AMBER)),
            texts={"0": ("not paused", BLUE), "1": ("paused", AMBER)},
            runbook="sensordroppausedlong",
        ),
        listing(
            "Quarantined files",
            "The files that are quarantined now, the newest first.",
            rows(
                f"""
                SELECT failed_at, client, project, delivery, sensor, path, error_class, error,
                       attempts
                FROM grafana.recent_failures WHERE {where("client", "project", "delivery")}
                ORDER BY failed_at DESC LIMIT 200
                """
            ),
            columns={"failed_at": {"unit": "dateTimeFromNow"}},
            runbook="sensordropfilesquarantined",
        ),
    ]
