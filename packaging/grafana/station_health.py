"""The dashboard for those who keep a station running: its parts, its ledger, its stores, its room."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard

from panels import (
    AMBER,
    FEW_IS_GOOD,
    GREEN,
    NONE_IS_GOOD,
    ONE_IS_GOOD,
    RED,
    PanelBuilder,
    board,
    figure,
    graph,
    instance_variable,
    instant,
    lines,
    listing,
    rows,
    scope_variables,
    states,
    where,
)

HERE = 'instance=~"$instance"'
OF = 'instance=~"$instance",delivery=~"$delivery"'
RATE = "[$__rate_interval]"
DAY = 86_400.0
CANARY_OLD = 900.0
"""As in the alert SensordropWatcherBlind."""


def station_health() -> dashboard.Dashboard:
    """Build it."""
    return board(
        "station",
        "sensordrop: station health",
        "Whether sensordropd can do its work: watcher, sweeps, ledger, stores, resources, audit.",
        [*scope_variables(), instance_variable()],
        {
            "Daemon": _daemon(),
            "Watcher": _watcher(),
            "Sweeps": _sweeps(),
            "Ledger": _ledger(),
            "Stores": _stores(),
            "Resources": _resources(),
            "Audit": _audit(),
        },
        since="now-24h",
        refresh="30s",
    )


def _daemon() -> Sequence[PanelBuilder]:
    return [
        figure(
            "Ledger", "Whether the ledger answers.",
            instant(f"min(sensordrop_database_up{{{HERE}}})"),
            unit="bool_on_off", steps=ONE_IS_GOOD, runbook="sensordropdatabasedown",
        ),
        figure(
            "Watchers", "Folders with a living watch on them. Those that are polled have none.",
            instant(f"sum(sensordrop_watcher_up{{{OF}}})"), runbook="sensordropwatcherdead",
        ),
        figure(
            "Restarts of parts", "Parts of the daemon that failed and were started anew, in the "
            "time shown.",
            instant(f"sum(increase(sensordrop_service_restarts_total{{{HERE}}}[$__range]))"),
            steps=FEW_IS_GOOD, runbook="sensordropservicefails",
        ),
        figure(
            "Up for", "How long the daemon runs that was started last.",
            instant(f"time() - max(process_start_time_seconds{{{HERE}}} "
                    f"* on (instance) group_left () sensordrop_build_info{{{HERE}}})"),
            unit="dtdurations", runbook="sensordroprestartsoften",
        ),
        figure(
            "Configuration", "Whether the last try to load a configuration succeeded.",
            instant(f"min(sensordrop_config_last_load_successful{{{HERE}}})"),
            unit="bool_on_off", steps=ONE_IS_GOOD,
            runbook="sensordropconfigurationrejected",
        ),
        figure(
            "Disk", "The share that is left where state_directory is, where it is scarcest.",
            instant(f"min(sensordrop_state_disk_free_bytes{{{HERE}}}"
                    f" / sensordrop_state_disk_size_bytes{{{HERE}}})"),
            unit="percentunit", steps=((None, RED), (0.05, AMBER), (0.15, GREEN)),
            runbook="sensordropdisknearlyfull",
        ),
        listing(
            "Daemons", "Which program runs where.",
            instant(f"sensordrop_build_info{{{HERE}}}"),
            width=12, height=6,
        ),
        listing(
            "Deliveries", "When each folder was last listed completely, and what was in the way.",
            rows(
                f"""
                SELECT client, project, delivery, station, state, reason, last_complete_sweep_at,
                       last_sweep_problem
                FROM grafana.delivery_progress
                WHERE {where("client", "project", "cycle", "delivery")}
                ORDER BY last_complete_sweep_at NULLS FIRST, client, project, delivery
                """
            ),
            columns={"last_complete_sweep_at": {"unit": "dateTimeFromNow"}},
            width=12, height=6, runbook="sensordropsweepstale",
        ),
    ]  # fmt: skip


def _watcher() -> Sequence[PanelBuilder]:
    return [
        states(
            "Watchers",
            "Whether a living watch is on each folder. Sweeps find what a dead one misses, later.",
            graph(f"min by (delivery) (sensordrop_watcher_up{{{OF}}})", "{{delivery}}"),
            steps=ONE_IS_GOOD,
            texts={"0": ("dead", RED), "1": ("living", GREEN)},
            width=6,
            runbook="sensordropwatcherdead",
        ),
        lines(
            "Files that the watcher missed",
            "Files that a sweep found and the watcher should have reported. Some are usual where "
            "folders are moved in; many on a local disk are not.",
            graph(
                f"sum by (delivery) (increase(sensordrop_watcher_missed_files_total{{{OF}}}{RATE}))",
                "{{delivery}}",
            ),
            unit="short",
            steps=FEW_IS_GOOD,
            bars=True,
            width=6,
            runbook="sensordropwatchermissesfiles",
        ),
        lines(
            "Hints",
            "Hints that wait, and hints that were dropped because too many waited.",
            graph(f"sum(sensordrop_hints_waiting{{{HERE}}})", "waiting"),
            graph(f"sum(increase(sensordrop_hints_dropped_total{{{HERE}}}{RATE}))", "dropped", "B"),
            unit="short",
            width=6,
        ),
        _canary(),
    ]


def _canary() -> PanelBuilder:
    return lines(
        "Proof of the watchers",
        "How long ago each watch last proved that it sees what happens in its folder. A watch that "
        "lives and proves nothing for minutes is blind.",
        graph(
            f"time() - max by (delivery) (sensordrop_watcher_canary_timestamp_seconds{{{OF}}})",
            "{{delivery}}",
        ),
        unit="s",
        steps=((None, GREEN), (CANARY_OLD, RED)),
        width=6,
        runbook="sensordropwatcherblind",
    )


def _sweeps() -> Sequence[PanelBuilder]:
    return [
        lines(
            "Age of the last complete sweep",
            "How long ago each folder was last listed completely.",
            graph(
                "time() - max by (delivery) "
                f"(sensordrop_last_complete_sweep_timestamp_seconds{{{OF}}})",
                "{{delivery}}",
            ),
            unit="s",
            steps=((None, GREEN), (DAY, RED)),
            width=6,
            runbook="sensordropsweepstale",
        ),
        lines(
            "How long sweeps take",
            "How long the last sweep of each folder took.",
            graph(
                f"max by (delivery) (sensordrop_last_sweep_duration_seconds{{{OF}}})",
                "{{delivery}}",
            ),
            unit="s",
            width=6,
        ),
        lines(
            "Entries listed",
            "Entries that the last sweep of each folder listed.",
            graph(f"max by (delivery) (sensordrop_last_sweep_files{{{OF}}})", "{{delivery}}"),
            unit="short",
            width=6,
        ),
        lines(
            "Sweeps by result",
            "Sweeps that were complete, partial (something could not be read) or lost (the ledger "
            "was away).",
            graph(
                f"sum by (result) (increase(sensordrop_sweeps_total{{{OF}}}{RATE}))", "{{result}}"
            ),
            unit="short",
            bars=True,
            stacked=True,
            width=6,
            runbook="sensordropsweeppartial",
        ),
    ]


def _ledger() -> Sequence[PanelBuilder]:
    return [
        lines(
            "Answers of the ledger",
            "How long the ledger took to answer an empty question.",
            graph(
                f"max by (instance) (sensordrop_database_latency_seconds{{{HERE}}})", "{{instance}}"
            ),
            unit="s",
            steps=((None, GREEN), (1, RED)),
            width=8,
            runbook="sensordropdatabasedown",
        ),
        lines(
            "Commits",
            "How long the transactions take that write outcomes down: half of them, and 99 of 100.",
            graph(_quantile(0.5, "sensordrop_commit_duration_seconds", HERE), "half"),
            graph(_quantile(0.99, "sensordrop_commit_duration_seconds", HERE), "99 of 100", "B"),
            unit="s",
            width=8,
        ),
        lines(
            "Outcomes in a commit",
            "How many outcomes are written down together, in the mean.",
            graph(
                f"sum(rate(sensordrop_commit_files_sum{{{HERE}}}{RATE}))"
                f" / sum(rate(sensordrop_commit_files_count{{{HERE}}}{RATE}))",
                "outcomes",
            ),
            unit="short",
            width=8,
        ),
    ]


def _quantile(share: float, metric: str, condition: str, by: str = "le") -> str:
    return (
        f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{{{condition}}}{RATE})))"
    )


def _stores() -> Sequence[PanelBuilder]:
    return [
        lines(
            "Requests",
            "Requests to stores, by what Amazon calls them and the HTTP status of the answer.",
            graph(
                f"sum by (operation, code) (rate(sensordrop_s3_requests_total{{{HERE}}}{RATE}))",
                "{{operation}} {{code}}",
            ),
            unit="reqps",
            width=8,
        ),
        lines(
            "Errors",
            "Share of the requests that were not answered with success. A look at a key that is "
            "not there, and a key that is taken, are none.",
            graph(
                "(sum(rate(sensordrop_s3_requests_total"
                f'{{{HERE},code!~"[23]..|404|409|412"}}{RATE})) or vector(0))'
                f" / sum(rate(sensordrop_s3_requests_total{{{HERE}}}{RATE}))",
                "errors",
            ),
            unit="percentunit",
            steps=((None, GREEN), (0.01, AMBER), (0.1, RED)),
            width=8,
            runbook="sensordropbreakeropen",
        ),
        lines(
            "Latency",
            "How long 19 of 20 requests stay below, by operation.",
            graph(
                _quantile(0.95, "sensordrop_s3_request_duration_seconds", HERE, "le, operation"),
                "{{operation}}",
            ),
            unit="s",
            width=8,
        ),
        lines(
            "Bytes sent",
            "Bytes of files and parts that were sent and answered, and the limit where there is one.",
            graph(f"sum(rate(sensordrop_s3_sent_bytes_total{{{HERE}}}{RATE}))", "sent"),
            graph(
                f"min(sensordrop_bandwidth_limit_bytes_per_second{{{HERE}}} < Inf)", "limit", "B"
            ),
            unit="Bps",
        ),
        lines(
            "Waiting for files to settle",
            "How long files were waited for until nobody wrote them any more: half of them, and 19 "
            "of 20.",
            graph(_quantile(0.5, "sensordrop_settle_wait_seconds", HERE), "half"),
            graph(_quantile(0.95, "sensordrop_settle_wait_seconds", HERE), "19 of 20", "B"),
            unit="s",
        ),
    ]


def _resources() -> Sequence[PanelBuilder]:
    return [
        lines(
            "Processor",
            "Processor time that the daemon uses; 1 is one core.",
            graph(
                f"rate(process_cpu_seconds_total{{{HERE}}}{RATE})"
                f" * on (instance) group_left () sensordrop_build_info{{{HERE}}}",
                "{{instance}}",
            ),
            unit="short",
            width=6,
        ),
        lines(
            "Memory",
            "Memory that the daemon holds.",
            graph(
                f"process_resident_memory_bytes{{{HERE}}}"
                f" * on (instance) group_left () sensordrop_build_info{{{HERE}}}",
                "{{instance}}",
            ),
            unit="bytes",
            width=6,
        ),
        lines(
            "Open files",
            "Share of the files that the daemon may have open which it has open.",
            graph(
                f"process_open_fds{{{HERE}}} / process_max_fds{{{HERE}}}"
                f" * on (instance) group_left () sensordrop_build_info{{{HERE}}}",
                "{{instance}}",
            ),
            unit="percentunit",
            steps=((None, GREEN), (0.8, RED)),
            width=6,
        ),
        lines(
            "Room on the disk",
            "Room that is left where state_directory is.",
            graph(f"sensordrop_state_disk_free_bytes{{{HERE}}}", "{{instance}}"),
            unit="bytes",
            width=6,
            runbook="sensordropdisknearlyfull",
        ),
    ]


def _audit() -> Sequence[PanelBuilder]:
    return [
        lines(
            "Audit",
            "Files that the audit should have looked at by now, and how many it is to look at in a "
            "day.",
            graph(f"sum(sensordrop_audit_due_files{{{HERE}}})", "due"),
            graph(f"sum(sensordrop_audit_daily_files{{{HERE}}})", "each day", "B"),
            unit="short",
            runbook="sensordropauditstale",
        ),
        lines(
            "Missing or different",
            "Stored files that were found missing or different in the store.",
            graph(f"sum by (delivery) (sensordrop_mismatched_files{{{OF}}})", "{{delivery}}"),
            unit="short",
            steps=NONE_IS_GOOD,
            runbook="sensordropstoredfilesmismatch",
        ),
    ]
