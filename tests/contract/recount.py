"""What the views must say, counted anew from the raw rows: nothing of the product's own counting.

Only rows are read by SQL; all joining, grouping and adding up is done here, in plain Python.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg2
import psycopg2.extras

from sensordrop.core.captured import captured_day

Rows = list[dict[str, Any]]

KEPT = {"pending", "uploaded", "skipped", "failed"}
"""States of files that a folder holds and that are to be in the store."""


def read(dsn: str, sql: str) -> Rows:
    connection = psycopg2.connect(dsn, options="-c timezone=UTC")
    try:
        with connection, connection.cursor(cursor_factory=psycopg2.extras.DictCursor) as cursor:
            cursor.execute(sql)
            return [dict(row) for row in cursor.fetchall()]
    finally:
        connection.close()


def told(dsn: str, view: str) -> set[tuple[Any, ...]]:
    """Give what a view says, its floats rounded."""
    rows = [
        tuple(_even(v) for v in row.values()) for row in read(dsn, f"SELECT * FROM grafana.{view}")
    ]
    assert len(rows) == len(set(rows)), f"{view} says the same twice"
    return set(rows)


def _even(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value


class Recount:
    """All that is in a ledger, read once."""

    def __init__(self, dsn: str) -> None:
        by_id = {
            table: {row["id"]: row for row in read(dsn, f"SELECT * FROM {table}")}
            for table in (
                "clients", "projects", "cycles", "sensors", "destinations", "deliveries",
            )
        }  # fmt: skip
        self.deliveries = by_id["deliveries"]
        for delivery in self.deliveries.values():
            delivery["client"] = by_id["clients"][delivery["client_id"]]["name"]
            delivery["project"] = by_id["projects"][delivery["project_id"]]["name"]
            delivery["cycle"] = by_id["cycles"][delivery["cycle_id"]]["name"]
            delivery["bucket"] = by_id["destinations"][delivery["destination_id"]]["bucket_name"]
        claimed = {
            row["upload_id"]
            for row in read(dsn, "SELECT * FROM upload_queue")
            if row["claimed_by"] is not None
        }
        self.files = read(dsn, "SELECT * FROM file_uploads")
        for file in self.files:
            file.update(
                {k: self.deliveries[file["delivery_id"]][k]
                 for k in ("client", "project", "cycle", "bucket")},
                delivery=self.deliveries[file["delivery_id"]]["name"],
                sensor=by_id["sensors"][file["sensor_id"]]["serial"],
                status="uploading" if file["id"] in claimed else file["state"],
                day=captured_day(file["path"], file["mtime_ns"]),
                was=file["superseded_from"] or file["state"],
            )  # fmt: skip
        self.sessions = read(dsn, "SELECT * FROM sync_sessions")
        self.failures = read(dsn, "SELECT * FROM upload_failures ORDER BY id")

    def kept(self) -> Rows:
        return [file for file in self.files if file["state"] in KEPT]

    def _by(self, rows: Rows, *names: str) -> dict[tuple[Any, ...], Rows]:
        groups: dict[tuple[Any, ...], Rows] = defaultdict(list)
        for row in rows:
            groups[tuple(row[name] for name in names)].append(row)
        return groups

    def _files_and_bytes(self, rows: Rows, *names: str) -> set[tuple[Any, ...]]:
        return {
            (*key, len(files), sum(f["size_bytes"] for f in files))
            for key, files in self._by(rows, *names).items()
        }

    def files_per_project(self) -> set[tuple[Any, ...]]:
        return self._files_and_bytes(self.kept(), "client", "project", "bucket")

    def upload_status_per_project(self) -> set[tuple[Any, ...]]:
        return self._files_and_bytes(self.files, "client", "project", "bucket", "status")

    def cycle_comparison(self) -> set[tuple[Any, ...]]:
        return self._files_and_bytes(self.kept(), "client", "project", "bucket", "cycle", "kind")

    def file_types(self) -> set[tuple[Any, ...]]:
        return self._files_and_bytes(self.kept(), "client", "project", "kind")

    def file_status(self) -> set[tuple[Any, ...]]:
        totals = {key: len(rows) for key, rows in self._by(self.files, "client", "project").items()}
        return {
            (*row, _even(row[3] / totals[row[:2]]))
            for row in self._files_and_bytes(self.files, "client", "project", "status")
        }

    def sensor_days(self) -> set[tuple[Any, ...]]:
        return {
            (*key, len(files), sum(f["size_bytes"] for f in files),
             sum(f["state"] == "failed" for f in files))
            for key, files in self._by(
                self.kept(), "client", "project", "cycle", "sensor", "day").items()
        }  # fmt: skip

    def sensor_coverage(self) -> set[tuple[Any, ...]]:
        seen = self._by(self.files, "client", "project", "cycle", "sensor")
        return {
            (*key, len(files), sum(f["size_bytes"] for f in files), min(f["day"] for f in files),
             max(f["day"] for f in files), sum(f["state"] == "failed" for f in files),
             max(f["enrolled_at"] for f in seen[key]))
            for key, files in self._by(
                self.kept(), "client", "project", "cycle", "sensor").items()
        }  # fmt: skip

    def success_rate_daily(self) -> set[tuple[Any, ...]]:
        happened: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
        for file in self.files:
            if file["finished_at"] is not None and file["was"] == "uploaded":
                happened[file["client"], file["project"], _day(file["finished_at"])][0] += 1
        for failure in self.failures:
            if failure["final"]:
                delivery = self.deliveries[failure["delivery_id"]]
                day = _day(failure["failed_at"])
                happened[delivery["client"], delivery["project"], day][1] += 1
        return {
            (*key, uploaded, failed, _even(uploaded / (uploaded + failed)))
            for key, (uploaded, failed) in happened.items()
        }

    def upload_hours(self) -> set[tuple[Any, ...]]:
        """Give upload_speed_hourly but for the speed."""
        done = [
            {**file, "hour": file["finished_at"].replace(minute=0, second=0, microsecond=0)}
            for file in self.files
            if file["finished_at"] is not None and file["was"] == "uploaded"
        ]
        return self._files_and_bytes(done, "client", "project", "hour")

    def session_progress(self) -> set[tuple[Any, ...]]:
        """Give session_progress but for speed and eta.

        An ended session keeps the states in which its files were: those that changed in a later
        one count as what they were until then.
        """
        found = set()
        successors = {f["predecessor_id"]: f for f in self.files if f["predecessor_id"]}
        for session in self.sessions:
            files = [file for file in self.files if file["session_id"] == session["id"]]
            delivery = self.deliveries[session["delivery_id"]]
            later = {
                file["id"]
                for file in files
                if file["id"] in successors
                and successors[file["id"]]["session_id"] != session["id"]
            }
            states = [file["was"] if file["id"] in later else file["state"] for file in files]
            found.add(
                (delivery["client"], delivery["project"], session["id"], delivery["name"],
                 session["state"], len(files), states.count("uploaded"), states.count("skipped"),
                 states.count("failed"), sum(file["size_bytes"] for file in files))
            )  # fmt: skip
        return found

    def recent_failures(self) -> set[tuple[Any, ...]]:
        last = {f["upload_id"]: f for f in self.failures if f["final"]}
        return {
            (file["client"], file["project"], file["delivery"], file["sensor"], file["path"],
             last[file["id"]]["error_class"], last[file["id"]]["message"],
             last[file["id"]]["attempts"], last[file["id"]]["failed_at"])
            for file in self.files if file["state"] == "failed"
        }  # fmt: skip

    def assert_told(self, dsn: str) -> None:
        """Assert that every view that counts says what the rows say."""
        for view in (
            "files_per_project", "upload_status_per_project", "cycle_comparison", "file_types",
            "file_status", "sensor_days", "success_rate_daily",
            "recent_failures",
        ):  # fmt: skip
            assert told(dsn, view) == getattr(self, view)(), view
        self._assert_coverage_told(dsn)
        assert {row[:5] for row in told(dsn, "upload_speed_hourly")} == self.upload_hours()
        assert {row[:10] for row in told(dsn, "session_progress")} == self.session_progress()

    def _assert_coverage_told(self, dsn: str) -> None:
        # Versions that turned out to be their predecessors leave the books; they were seen.
        mine = {row[:4]: row[4:] for row in self.sensor_coverage()}
        theirs = {row[:4]: row[4:] for row in told(dsn, "sensor_coverage")}
        assert {k: v[:-1] for k, v in theirs.items()} == {k: v[:-1] for k, v in mine.items()}
        assert all(theirs[key][-1] >= mine[key][-1] for key in mine)


def _day(at: datetime) -> date:
    assert at.utcoffset() == timedelta(0)
    return at.astimezone(UTC).date()
