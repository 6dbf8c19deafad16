"""The dashboard for those who ask whether the season's data is safe: projects, cycles, sensors."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat, statushistory, table, timeseries
from grafana_foundation_sdk.models import dashboard

from panels import (
    AMBER,
    FEW_IS_GOOD,
    GREEN,
    NONE_IS_GOOD,
    RED,
    board,
    figure,
    heatmap,
    lines,
    listing,
    rows,
    scope_variables,
    series,
    where,
)

ALL = where("client", "project", "cycle", "delivery")
PROJECT = where("client", "project")
CYCLE = where("client", "project", "cycle")

SIZE = {"unit": "decbytes"}
WHEN = {"unit": "dateTimeFromNow"}
SHARE = {"unit": "percentunit", "decimals": 1, "gauge": True}
BAD = {"steps": NONE_IS_GOOD}
WAITS = {"steps": FEW_IS_GOOD}

OPEN = (
    "waiting > 0 OR settling > 0 OR failed > 0 OR mismatched > 0 OR NOT daemon_alive"
    " OR state IN ('offline', 'blocked', 'paused') OR last_complete_sweep_at IS NULL"
    " OR last_sweep_problem IS NOT NULL"
)
"""What keeps a delivery from being safe. `open_things` of core/season.py says the same, which a
test holds it to."""
UNSAFE = (
    f"(state NOT IN ('disabled', 'retired') AND ({OPEN}))"
    " OR (state = 'disabled' AND (waiting > 0 OR settling > 0 OR failed > 0))"
    " OR mismatched > 0"
)


def season_overview() -> dashboard.Dashboard:
    """Build it."""
    return board(
        "season",
        "sensordrop: season overview",
        "Whether the field season's data is safe: projects, cycles, the days that each sensor has, "
        "and what is not safe yet. No panel is a verdict on a card: sensordrop receipt gives it.",
        scope_variables(),
        {
            "Is it safe?": [*_figures(), _unsafe()],
            "Projects and cycles": [
                _cycles(), _cycle_types(), _projects(), _file_status(), _bucket_status(), _file_types()
            ],
            "Coverage": [_coverage(), _sensors()],
            "Over time": [_stored_per_day(), _success_rate(), _speed()],
            "Failures": [_failures()],
        },
        since="now-6M",
        refresh="1m",
    )  # fmt: skip


def _sum(column: str) -> str:
    return f"SELECT coalesce(sum({column}), 0)::float8 AS value FROM grafana.delivery_progress WHERE {ALL}"


def _figures() -> list[stat.Panel]:
    return [
        figure(
            "Deliveries not safe yet",
            "Deliveries with files that wait or are quarantined, with objects that are missing or "
            "different, or whose folder nobody looks into.",
            rows(f"SELECT count(*) AS value FROM grafana.delivery_progress WHERE {ALL} AND ({UNSAFE})"),
            steps=FEW_IS_GOOD,
            runbook="sensordropnothinggetsstored",
        ),
        figure("Stored files", "Files that are proven to be stored.", rows(_sum("stored"))),
        figure("Stored bytes", "How large those files are together.", rows(_sum("stored_bytes")), unit="decbytes"),
        figure(
            "Not stored yet", "Files on the books that are not stored.", rows(_sum("waiting")),
            steps=FEW_IS_GOOD, runbook="sensordropfilewaitslong",
        ),
        figure(
            "Quarantined", "Files that a person has to look at.", rows(_sum("failed")),
            steps=NONE_IS_GOOD, runbook="sensordropfilesquarantined",
        ),
        figure(
            "Missing or different",
            "Stored objects that were found missing or different when they were last verified.",
            rows(_sum("mismatched")),
            steps=NONE_IS_GOOD,
            runbook="sensordropstoredfilesmismatch",
        ),
    ]  # fmt: skip


def _unsafe() -> table.Panel:
    return listing(
        "What is not safe yet",
        "Each delivery with what keeps it from being safe. A card that was copied into a folder "
        "that nobody looks into is not safe either.",
        rows(
            f"""
            SELECT client, project, cycle, delivery, station,
                   CASE WHEN daemon_alive OR state = 'disabled' THEN state
                        ELSE 'not running' END AS state,
                   reason, waiting, settling, failed, mismatched, last_success_at,
                   last_complete_sweep_at, last_sweep_problem
            FROM grafana.delivery_progress
            WHERE {ALL} AND ({UNSAFE})
            ORDER BY mismatched DESC, failed DESC, waiting DESC, client, project, delivery
            """
        ),
        columns={
            "waiting": WAITS, "settling": WAITS, "failed": BAD, "mismatched": BAD,
            "last_success_at": WHEN, "last_complete_sweep_at": WHEN,
        },
        runbook="sensordropnothinggetsstored",
    )  # fmt: skip


def _cycles() -> table.Panel:
    return listing(
        "Cycles",
        "How much of each cycle is stored, of all that its deliveries know of.",
        rows(
            f"""
            SELECT client, project, cycle, sum(stored) AS stored, sum(stored_bytes) AS bytes,
                   sum(waiting + settling) AS waiting, sum(failed) AS failed,
                   sum(stored) / nullif(sum(stored + waiting + settling + failed), 0) AS share
            FROM grafana.delivery_progress WHERE {ALL}
            GROUP BY client, project, cycle ORDER BY client, project, cycle
            """
        ),
        columns={"bytes": SIZE, "waiting": WAITS, "failed": BAD, "share": SHARE},
        width=12,
    )


def _cycle_types() -> table.Panel:
    return listing(
        "Cycles by type of file",
        "What each cycle holds: recordings, pictures, and the small files beside them.",
        rows(
            f"""
            SELECT client, project, cycle, bucket, file_type, files, bytes
            FROM grafana.cycle_comparison WHERE {CYCLE}
            ORDER BY client, project, cycle, bucket, file_type
            """
        ),
        columns={"bytes": SIZE},
        width=12,
    )


def _projects() -> table.Panel:
    return listing(
        "Projects",
        "Files of each project and bucket, stored or on their way.",
        rows(
            f"""
            SELECT client, project, bucket, files, bytes FROM grafana.files_per_project
            WHERE {PROJECT} ORDER BY client, project, bucket
            """
        ),
        columns={"bytes": SIZE},
        width=8,
    )


def _file_status() -> table.Panel:
    return listing(
        "Files by state",
        "All versions of all files of a project by their state in the ledger.",
        rows(
            f"""
            SELECT client, project, status, files, bytes, share FROM grafana.file_status
            WHERE {PROJECT} ORDER BY client, project, files DESC
            """
        ),
        columns={"bytes": SIZE, "share": SHARE},
        width=8,
    )


def _bucket_status() -> table.Panel:
    return listing(
        "Buckets by state",
        "The same by bucket, where a project has several.",
        rows(
            f"""
            SELECT client, project, bucket, status, files, bytes
            FROM grafana.upload_status_per_project
            WHERE {PROJECT} ORDER BY client, project, bucket, files DESC
            """
        ),
        columns={"bytes": SIZE},
        width=8,
    )


def _file_types() -> table.Panel:
    return listing(
        "Types of files",
        "What a project holds in all its cycles.",
        rows(
            f"""
            SELECT client, project, file_type, files, bytes FROM grafana.file_types
            WHERE {PROJECT} ORDER BY client, project, files DESC
            """
        ),
        columns={"bytes": SIZE},
    )


def _coverage() -> statushistory.Panel:
    return heatmap(
        "Coverage: sensor by day",
        "What each sensor has on each day, as a share of a usual day of its cycle. Red: nothing, "
        "between days that have files. Days come from file names, else from the files' times (UTC).",
        series(
            f"""
            WITH days AS (
                SELECT client, project, cycle, sensor, day, files FROM grafana.sensor_days
                WHERE {CYCLE} AND $__timeFilter(day)
            ), usual AS (
                SELECT client, project, cycle,
                       percentile_cont(0.5) WITHIN GROUP (ORDER BY files) AS files
                FROM days GROUP BY client, project, cycle
            ), spans AS (
                SELECT client, project, cycle, sensor, min(day) AS first, max(day) AS last
                FROM days GROUP BY client, project, cycle, sensor
            )
            SELECT g.day AT TIME ZONE 'UTC' AS "time",
                   s.client || ' / ' || s.project || ' / ' || s.cycle || ' / ' || s.sensor AS metric,
                   coalesce(d.files, 0) / u.files AS share
            FROM spans AS s
            JOIN usual AS u USING (client, project, cycle)
            CROSS JOIN LATERAL generate_series(s.first::timestamp, s.last::timestamp, '1 day')
                AS g (day)
            LEFT JOIN days AS d
                ON (d.client, d.project, d.cycle, d.sensor, d.day)
                 = (s.client, s.project, s.cycle, s.sensor, g.day::date)
            ORDER BY 1, 2
            """
        ),
        unit="percentunit",
        steps=((None, RED), (0.000001, "super-light-green"), (0.25, "light-green"), (0.75, GREEN)),
    )


def _sensors() -> table.Panel:
    return listing(
        "Sensors",
        "What each sensor delivered: how much, from which day to which, how much of it is "
        "quarantined, and when something of it last went on the books.",
        rows(
            f"""
            SELECT client, project, cycle, sensor, files, bytes, first_file, last_file, failed,
                   last_seen
            FROM grafana.sensor_coverage WHERE {CYCLE}
            ORDER BY client, project, cycle, sensor
            """
        ),
        columns={"bytes": SIZE, "failed": BAD, "last_seen": WHEN},
    )


def _stored_per_day() -> timeseries.Panel:
    return lines(
        "Files stored each day",
        "Files uploaded, and files quarantined, on each day (UTC).",
        series(
            f"""
            SELECT day::timestamp AT TIME ZONE 'UTC' AS "time", sum(uploaded)::float8 AS uploaded,
                   sum(failed)::float8 AS quarantined
            FROM grafana.success_rate_daily
            WHERE {PROJECT} AND $__timeFilter(day) GROUP BY 1 ORDER BY 1
            """
        ),
        unit="short",
        stacked=True,
        bars=True,
        width=8,
    )


def _success_rate() -> timeseries.Panel:
    return lines(
        "Success rate",
        "Share of the files that were finished on a day which were uploaded, by project.",
        series(
            f"""
            SELECT day::timestamp AT TIME ZONE 'UTC' AS "time",
                   client || ' / ' || project AS metric, rate
            FROM grafana.success_rate_daily
            WHERE {PROJECT} AND $__timeFilter(day) ORDER BY 1, 2
            """
        ),
        unit="percentunit",
        steps=((None, RED), (0.95, AMBER), (0.999, GREEN)),
        width=8,
        runbook="sensordropfilesquarantined",
    )


def _speed() -> timeseries.Panel:
    return lines(
        "Upload speed by hour",
        "Files that were uploaded in each hour, by project, as files per second.",
        series(
            f"""
            SELECT hour AS "time", client || ' / ' || project AS metric, files_per_second
            FROM grafana.upload_speed_hourly
            WHERE {PROJECT} AND $__timeFilter(hour) ORDER BY 1, 2
            """
        ),
        unit="suffix: files/s",
        width=8,
    )


def _failures() -> table.Panel:
    return listing(
        "Quarantined files",
        "The files that are quarantined now, the newest first, with what failed. "
        "docs/failures.md says for each class what helps.",
        rows(
            f"""
            SELECT failed_at, client, project, delivery, sensor, path, error_class, error, attempts
            FROM grafana.recent_failures
            WHERE {where("client", "project", "delivery")}
            ORDER BY failed_at DESC LIMIT 500
            """
        ),
        columns={"failed_at": WHEN},
        runbook="sensordropfilesquarantined",
    )
