"""The rows about the dashboards' views, and about what keeping their sums costs."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from costs import cpu_seconds
from figures import Better, Goal, Row, make_row, per_thousand
from plan import Bench
from sensordrop.adapters.ledger.embedded import EmbeddedPostgres
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.ledger.views import views as known_views
from sensordrop.core.lifecycle import RecordUploaded
from sensordrop.core.model import Receipt
from sensordrop.core.selection import Selection
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.records import Commit, DeliveryBinding, EnrollRules, Registration
from sensordrop.ports.telling import FileFilter

ANSWER = Goal(better=Better.LESS, must=50, reach=10, of="ours", unit="ms")
KEEPING = Goal(better=Better.LESS, must=1.1, reach=1.05)
DELIVERIES = 200
SEED_DELIVERIES = 20
"""Deliveries whose files go in with one statement."""
OF_A_PROJECT = {"sensor_days": " WHERE client = 'client3' AND project = 'project7'"}
"""Views that dashboards ask for one project of, because all of them are too many to show."""
CLAIMED = 256
PAGE_FILES = 101
"""A page, and the one more that tells whether there is another."""
FOLD_FILES = 2_000
"""How many files are stored between two foldings: a second's worth."""
WALL_NS = 1_760_000_000 * 10**9


def views(bench: Bench) -> list[Row]:
    """Measure what each view takes on a large ledger, and what keeping the sums takes."""
    folder = bench.work / "views"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with _ledger(folder / "postgresql") as (ledger, cursor, _):
            _seed(ledger, cursor, bench.sizes.ledger_rows // DELIVERIES)
            rows = [
                _view(cursor, name, rows=bench.sizes.ledger_rows, times=2 + bench.sizes.rounds)
                for name in known_views()
            ]
            rows += _lists(bench, ledger, cursor)
        return [*rows, *(_keeping(bench, folder, name) for name in CARDS)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ledger(folder: Path) -> Iterator[tuple[PostgresLedger, Cursor, int]]:
    """Open a ledger of its own: with a cursor, and the process that is its server."""
    folder.mkdir()
    with (
        EmbeddedPostgres(folder) as server,
        closing(PostgresLedger(lambda: server.dsn)) as ledger,
        closing(psycopg2.connect(server.dsn)) as connection,
    ):
        connection.autocommit = True
        ledger.migrate()
        pid = int((folder / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])
        with connection.cursor() as cursor:
            yield ledger, cursor, pid


def _seed(ledger: PostgresLedger, cursor: Cursor, each: int) -> None:
    print(f"    seeding {DELIVERIES * each:,} rows", flush=True)
    text = (Path(__file__).parent / "views.sql").read_text(encoding="utf-8")
    places, sessions, files, work, counts = text.split("\n----\n")
    cursor.execute(places, {})
    cursor.execute(sessions, {"each": each})
    for table in ("file_uploads", "upload_failures"):
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    for first in range(1, DELIVERIES + 1, SEED_DELIVERIES):
        cursor.execute(files, {"each": each, "first": first, "last": first + SEED_DELIVERIES - 1})
    cursor.execute(work, {})
    cursor.execute(counts, {})
    ledger.fold_counters()
    for table in ("file_uploads", "upload_failures"):
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    cursor.execute("VACUUM ANALYZE")
    cursor.execute("CHECKPOINT")
    # A second of work that is not folded yet, as there always is.
    cursor.execute("UPDATE file_uploads SET state = 'uploaded', finished_at = now() WHERE id IN"
                   " (SELECT upload_id FROM upload_queue WHERE claimed_by IS NOT NULL)")  # fmt: skip
    cursor.execute("DELETE FROM upload_queue WHERE claimed_by IS NOT NULL AND upload_id % 2 = 0")


def _view(cursor: Cursor, name: str, *, rows: int, times: int) -> Row:
    question = f"SELECT * FROM grafana.{name}{OF_A_PROJECT.get(name, '')}"  # noqa: S608 — our own
    took, plan = [], {}
    for _ in range(times):
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {question}")
        (((plan,),),) = cursor.fetchall()
        took.append(plan["Planning Time"] + plan["Execution Time"])
    found = plan["Plan"]["Actual Rows"]
    print(f"    {name}: {found:,.0f} rows, {' '.join(f'{ms:.1f}' for ms in took)} ms;"
          f" {_scans(plan['Plan'])}", flush=True)  # fmt: skip
    return make_row(
        measure=f"view {name} of {rows:,} files, {found:,.0f} rows", group="views", unit="ms",
        ours=took[2:], goal=ANSWER,
        note="asked for one project" if name in OF_A_PROJECT else "",
        settings={"plan": _scans(plan["Plan"])},
    )  # fmt: skip


def _lists(bench: Bench, ledger: PostgresLedger, cursor: Cursor) -> list[Row]:
    """Measure a page of files, as `sensordrop files` and the control socket ask for it."""
    cursor.execute("SELECT id FROM deliveries ORDER BY id")
    ids = [delivery_id for (delivery_id,) in cursor.fetchall()]
    cursor.execute(
        "SELECT s.serial FROM sensors AS s JOIN deliveries AS d ON d.project_id = s.project_id"
        " WHERE d.id = %s ORDER BY s.id LIMIT 1",
        (ids[0],),
    )
    ((sensor,),) = cursor.fetchall()
    asked = {
        "of all deliveries": FileFilter(delivery_ids=ids),
        "of all deliveries, failed": FileFilter(delivery_ids=ids, state="failed"),
        "of the oldest delivery": FileFilter(delivery_ids=ids[:1]),
        "of the oldest delivery, failed": FileFilter(delivery_ids=ids[:1], state="failed"),
        "of the oldest delivery, pending": FileFilter(delivery_ids=ids[:1], state="pending"),
        "of one sensor": FileFilter(delivery_ids=ids[:1], sensor=sensor),
    }
    return [_list(bench, ledger, name, wanted) for name, wanted in asked.items()]


def _list(bench: Bench, ledger: PostgresLedger, name: str, wanted: FileFilter) -> Row:
    took, found = [], 0
    for _ in range(2 + bench.sizes.rounds):
        began = time.perf_counter()
        found = len(ledger.list_files(wanted, before=None, most=PAGE_FILES))
        took.append(1000 * (time.perf_counter() - began))
    print(f"    a page of files {name}: {found} rows,"
          f" {' '.join(f'{ms:.1f}' for ms in took)} ms", flush=True)  # fmt: skip
    return make_row(
        measure=f"a page of {found} files {name}, of {bench.sizes.ledger_rows:,}", group="views",
        unit="ms", ours=took[2:],
    )  # fmt: skip


def _scans(node: dict[str, Any]) -> str:
    """Say what a plan reads: each table, how, and how many rows of it."""
    found = [
        f"{each['Node Type']} {each['Relation Name']}"
        f" ({each['Actual Rows'] * each['Actual Loops']:,.0f})"
        for each in _nodes(node)
        if "Relation Name" in each and each["Actual Loops"]
    ]
    return ", ".join(dict.fromkeys(found))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


# --- what keeping the sums costs ----------------------------------------------------------


def _keeping(bench: Bench, folder: Path, cards: str) -> Row:
    """Let files go through a ledger that keeps days and rates, and through one that does not."""
    files = bench.sizes.small_files
    with_sums: list[float] = []
    without: list[float] = []
    with (
        _ledger(folder / f"{cards}-with") as (kept, _, kept_pid),
        _ledger(folder / f"{cards}-without") as (plain, cursor, plain_pid),
    ):
        for event in ("inserted", "updated", "deleted"):
            cursor.execute(f"ALTER TABLE file_uploads DISABLE TRIGGER file_uploads_{event}_rollups")
        cursor.execute("ALTER TABLE upload_failures DISABLE TRIGGER upload_failures_rollups")
        for number in range(bench.sizes.rounds + 1):
            card = [
                b"f\t65536\t%d.0\t%d.0\t%d-%s\t\n" % (mtime, mtime, number, path)
                for path, mtime in CARDS[cards](number, files)
            ]
            with_sums.append(_through(kept, kept_pid, card))
            without.append(_through(plain, plain_pid, card))
            print(f"    {cards}, round {number}: {with_sums[-1]:.4f} and {without[-1]:.4f}"
                  " CPU s per 1,000", flush=True)  # fmt: skip
    return make_row(
        measure=f"{files:,} files of {cards} through the ledger, keeping days and rates",
        group="views", unit="CPU s / 1,000 files", ours=with_sums[1:], peer=without[1:],
        peer_name="without them", goal=KEEPING,
        note="PostgreSQL's time alone, from enrolling to the folded counts; nothing is uploaded",
    )  # fmt: skip


def _recorders(number: int, files: int) -> Iterator[tuple[bytes, int]]:
    """Give the paths and times of a card's files: ten recorders, one file each ten minutes."""
    for n in range(files):
        at = n // 10
        yield b"%d/202509%02d_%02d%02d%02d.WAV" % (
            n % 10, 1 + at // 144 % 30, at // 6 % 24, at % 6 * 10, number
        ), 1_756_684_800  # fmt: skip


def _cameras(number: int, files: int) -> Iterator[tuple[bytes, int]]:
    """The same of ten cameras, whose names tell no day: a picture each ten minutes."""
    for n in range(files):
        at = n // 10
        folder = 100 + 10 * number + at // 1000
        path = b"%d/DCIM/%dRECNX/IMG_%04d.JPG" % (n % 10, folder, at % 1000)
        yield path, 1_756_684_800 + 600 * at


CARDS: dict[str, Callable[[int, int], Iterator[tuple[bytes, int]]]] = {
    "recorders": _recorders,
    "cameras": _cameras,
}
"""What is on the cards whose files go through the ledger."""


def _through(ledger: PostgresLedger, pid: int, card: Sequence[bytes]) -> float:
    """Let a card's files be enrolled, claimed, stored and counted; give the server's CPU time."""
    place = _register(ledger)
    (delivery_id,) = place.delivery_ids.values()
    rules = EnrollRules(selection=Selection(), sensor_level=1, quiet_seconds=1.0)
    before = cpu_seconds(pid)
    ledger.enroll_listing(
        delivery_id, [ListingChunk(rows=b"".join(card), entries=len(card))], rules,
        wall_ns=WALL_NS, most_unsettled=1,
    )  # fmt: skip
    ledger.fold_counters()
    done = 0
    now = datetime.now(UTC)
    while claims := ledger.claim(place.daemon_id, delivery_id, CLAIMED):
        receipt = Receipt(object_key="C1/key", sha256=b"x" * 32, etag="etag")
        action = RecordUploaded(receipt=receipt)
        ledger.commit(place.daemon_id, [Commit(claim=c, action=action) for c in claims], now)
        if done // FOLD_FILES != (done + len(claims)) // FOLD_FILES:
            ledger.fold_counters()
        done += len(claims)
    ledger.fold_counters()
    ledger.finish_session(delivery_id)
    assert done == len(card)
    return per_thousand(cpu_seconds(pid) - before, done)


def _register(ledger: PostgresLedger) -> Registration:
    binding = DeliveryBinding(
        name="card", client="bench", project="bench", cycle="C1", local_directory="/drop",
        bucket_name="bench", s3_prefix="C1", endpoint_url=None, aws_region=None, sensor_level=1,
        shared=False, enabled=True, selection={}, configuration={},
    )  # fmt: skip
    return ledger.register(
        station="bench", instance=uuid.UUID(int=1), origin="daemon", version="bench",
        bindings=[binding], daemon_configuration={}, crashed=False,
    )  # fmt: skip
