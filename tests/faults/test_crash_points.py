"""kill -9 at every step of a file's life, one after the other, and then all is as if nothing had been.

Random instants are in tests/e2e/test_crashes.py; here each narrow gap is met for certain.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from daemon import SOURCES, Station, age, drop_files, under_prefix

HOOK = Path(__file__).parent / "crash_hook"
MIB = 1024 * 1024
LARGE_BYTES = 5 * MIB + 1
"""Goes in parts here."""
STORED = "SET state = o.state, finished_at"
S3 = "sensordrop.adapters.s3"

POINTS = [
    # The ledger's tables, and this program's own row.
    "sql:after execute:CREATE TABLE file_uploads",
    "sql:before commit:CREATE TABLE file_uploads",
    "sql:after commit:CREATE TABLE file_uploads",
    "sql:before commit:INSERT INTO daemons",
    "sql:after commit:INSERT INTO daemons",
    # Onto the books.
    "sql:before commit:INSERT INTO file_uploads",
    "sql:after commit:INSERT INTO file_uploads",
    # The claim.
    "sql:before commit:FOR UPDATE SKIP LOCKED",
    "sql:after commit:FOR UPDATE SKIP LOCKED",
    # The attempt: opened, on its way, answered.
    "call:after:sensordrop.engine.attempt:Attempt.begin",
    f"call:after:{S3}.curl:CurlLane.start",
    f"call:before:{S3}.quick:verify",
    f"call:after:{S3}.quick:verify",
    # Written down: with the bytes in the store, and not yet or already in the ledger.
    f"sql:before execute:{STORED}",
    f"sql:before commit:{STORED}",
    f"sql:after commit:{STORED}",
    # In parts: asked for, begun, a part there, about to be one object, one object.
    "sql:after commit:INSERT INTO multipart_uploads",
    f"call:after:{S3}.bucket:Bucket.create_upload",
    f"call:after:{S3}.multipart:InParts._landed",
    "sql:after commit:INSERT INTO multipart_parts",
    f"call:before:{S3}.multipart:InParts._complete",
    f"call:after:{S3}.multipart:InParts._complete",
    "sql:before commit:DELETE FROM multipart_uploads",
    # The session's end.
    "sql:before commit:UPDATE sync_sessions AS s\nSET state = 'ended'",
    "sql:after commit:UPDATE sync_sessions AS s\nSET state = 'ended'",
]


def kill_at(station: Station, point: str) -> None:
    """Run a daemon until it reaches the point, which kills it."""
    mark = station.folder / "killed"
    mark.unlink(missing_ok=True)
    environment = dict(station.environment)
    station.environment.update(
        PYTHONPATH=f"{HOOK}:{SOURCES}",
        CRASH_AT=point,
        CRASH_MARK=str(mark),
    )
    daemon = station.new_daemon()
    station.environment.clear()
    station.environment.update(environment)
    daemon.launch()
    code = daemon.wait_for_end(120)
    assert mark.exists(), f"it never came to {point}: {daemon.story()}"
    assert code == -signal.SIGKILL


def unfinished_uploads(station: Station) -> list[str]:
    client = station.server.client()
    try:
        answer = client.list_multipart_uploads(Bucket=station.bucket.name)
    except client.exceptions.NoSuchUpload:
        return []  # rclone's word for an empty list
    return [each["Key"] for each in answer.get("Uploads", [])]


@pytest.mark.timeout(900)
def test_killed_at_every_step_of_a_files_life(make_station, rclone):
    station: Station = make_station(rclone)
    station.configure()
    station.delivery(multipart_threshold_bytes=5 * MIB)
    chance = random.Random(7)
    digests: dict[str, str] = {}
    for number, point in enumerate(POINTS):
        in_parts = "multipart" in point or point.endswith("create_upload")
        size = LARGE_BYTES if in_parts else 2000
        card = station.folder / f"card{number}"
        files = {
            f"{number:02}/a.wav": chance.randbytes(size),
            f"{number:02}/b.wav": b"b%d" % number,
        }
        digests |= drop_files(card, files)
        age(card)
        (card / f"{number:02}").rename(station.drop / f"{number:02}")
        kill_at(station, point)
        # Whatever is said to be stored is stored, at any time.
        if station.ledger.exists():
            station.assert_sound()

    station.start()
    station.wait_for(
        lambda: (
            station.ledger.states().keys() == digests.keys()
            and {*station.ledger.states().values()} <= {"uploaded", "skipped"}
        ),
        what="all is stored",
    )
    station.wait_for(
        lambda: all(s["state"] == "ended" for s in station.ledger.sessions()), what="sessions ended"
    )
    station.wait_for(
        lambda: not station.ledger.rows("SELECT 1 FROM multipart_uploads"), what="no leftovers"
    )
    assert station.daemon.stop() == 0
    rows = station.ledger.uploads()
    assert {row["path"]: row["digest"] for row in rows} == digests
    assert len(rows) == len(digests), "a file is on the books twice"
    assert not [row["path"] for row in rows if row["conflict"] or row["attempts"]]
    assert station.bucket.digests() == under_prefix(digests), "one object for each file"
    assert unfinished_uploads(station) == []
    station.assert_sound()
    sessions = station.ledger.sessions()
    assert sum(s["files_total"] for s in sessions) == len(digests)
    assert all(s["files_total"] > 0 for s in sessions)
