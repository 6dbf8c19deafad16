"""The views for dashboards, held against a recount of the rows, and the role that reads them."""

from __future__ import annotations

import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psycopg2
import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recount import Recount, read, told
from test_ledger import (
    ANY,
    INSTANCE,
    NOW,
    OLD,
    ask,
    binding,
    receipt,
    register,
    row,
    sweep,
)

from postgres_versions import MAJORS
from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.ledger.migrate import migrate, migrations
from sensordrop.adapters.ledger.views import (
    NO_READER,
    READER,
    apply_views,
    reader_is_missing,
    views,
)
from sensordrop.core.captured import captured_day
from sensordrop.core.failure import (
    Failure,
    FailureScope,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from sensordrop.core.lifecycle import (
    Quarantine,
    RecordSkipped,
    RecordUploaded,
    RestorePredecessor,
    Retry,
    Wait,
)
from sensordrop.core.model import Fingerprint, Receipt
from sensordrop.ports.records import Commit
from sensordrop.ports.telling import RetryOrder

COLUMNS = {
    "files_per_project": "bucket files bytes",
    "upload_status_per_project": "bucket status files bytes",
    "cycle_comparison": "bucket cycle file_type files bytes",
    "file_status": "status files bytes share",
    "session_progress": "session delivery state total uploaded skipped failed bytes"
    " files_per_second eta",
    "success_rate_daily": "day uploaded failed rate",
    "file_types": "file_type files bytes",
    "sensor_coverage": "cycle sensor files bytes first_file last_file failed last_seen",
    "recent_failures": "delivery sensor path error_class error attempts failed_at",
    "stalled_deliveries": "delivery reason pending oldest_pending_at last_success_at",
    "upload_speed_hourly": "hour files bytes files_per_second",
}
"""What dashboards elsewhere are built on."""

BROKEN = Failure(
    scope=FailureScope.FILE, error_class="unreadable", message="it can't be read", hint="look"
)
TWO_CLIENTS = (
    binding("acme-c1", project="forest", cycle="C1", s3_prefix="C1", bucket_name="acme-forest"),
    binding("acme-c2", project="forest", cycle="C2", s3_prefix="C2", bucket_name="acme-forest"),
    binding(
        "zeta-c1", client="zeta", project="forest", cycle="C1", s3_prefix="C1", bucket_name="z"
    ),
)
"""Two companies whose projects, cycles and sensors have the same names."""


def card(n: int, *, size: int = 10, mtime: int = OLD) -> list[bytes]:
    """Give a card's files: recordings of some days, pictures, a sidecar, and junk."""
    return [
        *(row(b"S%d/202509%02d_%02d0000.WAV" % (n, 1 + i // 4, i), size + i) for i in range(12)),
        *(row(b"S%d/DCIM/IMG_%04d.JPG" % (n, i), 100, mtime=mtime - i * 10**14) for i in range(3)),
        row(b"S%d/CONFIG.TXT" % n, 7),
        row(b"S%d/.DS_Store" % n, 3),
    ]


def finish(
    ledger: PostgresLedger, daemon: int, delivery: int, actions: list, most: int = 10
) -> int:
    """Claim files and write down one action for each, in turns; give how many there were."""
    claims = ledger.claim(daemon, delivery, most)
    commits = [
        Commit(claim=claim, action=actions[i % len(actions)](claim))
        for i, claim in enumerate(claims)
    ]
    ledger.commit(daemon, commits, NOW)
    return len(claims)


def stored(claim) -> RecordUploaded:
    return RecordUploaded(receipt=receipt(f"C1/{claim.path_text}"))


def beside(claim) -> RecordUploaded:
    return RecordUploaded(
        receipt=Receipt(object_key=f"C1/{claim.path_text}~", sha256=b"y" * 32, conflict=True)
    )


def found(claim) -> RecordSkipped:
    return RecordSkipped(receipt=receipt(f"C1/{claim.path_text}"), evidence="metadata")


def broken(_claim) -> Quarantine:
    return Quarantine(failure=BROKEN)


def again(_claim) -> Retry:
    return Retry(failure=BROKEN, until=NOW - timedelta(seconds=1))


def still_written(claim) -> Wait:
    seen = claim.fingerprint
    grown = Fingerprint(
        size_bytes=seen.size_bytes + 5, mtime_ns=seen.mtime_ns + 2 * 86_400 * 10**9,
        ctime_ns=seen.ctime_ns,
    )  # fmt: skip
    return Wait(fingerprint=grown, until=NOW)


def lose(ledger: PostgresLedger, delivery: int, *there: bytes) -> None:
    """Let all waiting files vanish that are not among these."""
    began = ledger.begin_sweep()
    sweep(ledger, delivery, *there)
    ledger.mark_gone(delivery, lambda _: None, sweep_began=began, rule=ANY)


def same_bytes(_claim) -> RestorePredecessor:
    return RestorePredecessor()


def live_through_a_season(ledger: PostgresLedger, database: str, *, fold: bool) -> None:
    """Let all happen that happens to files: each way of ending, changes, retries, another place."""
    place = register(ledger, *TWO_CLIENTS)
    daemon = place.daemon_id
    for name, delivery in place.delivery_ids.items():
        # The same names everywhere: only client, project and cycle tell them apart.
        cards = [line for n in (1, 2) for line in card(n, size=10 if name < "z" else 1000)]
        sweep(ledger, delivery, *cards)
        finish(ledger, daemon, delivery, [stored, found, beside, again, broken, still_written])
        if fold:
            ledger.fold_counters()
        lose(ledger, delivery, *(line for line in cards if b"DCIM" not in line))
        while finish(ledger, daemon, delivery, [stored, stored, found, stored, broken], most=7):
            pass
        ledger.finish_session(delivery)
        # Some changed, some only in their times, some that had vanished are back, some are new.
        changed = [
            row(path, size + 1, mtime=OLD + 3 * 86_400 * 10**9)
            for path, size in _some_files(database, delivery, 12)
        ]
        sweep(ledger, delivery, *changed, row(b"S3/20241224_180000.WAV", 77))
        finish(ledger, daemon, delivery, [same_bytes, stored, again, broken], most=8)
        if fold:
            ledger.fold_counters()
    ask(database, "UPDATE file_uploads SET finished_at = finished_at - interval '3 days 2 hours'"
                  " WHERE id % 5 = 0 AND finished_at IS NOT NULL")  # fmt: skip
    # One delivery is pointed elsewhere while files of it wait, and one claim is open at the end.
    moved = binding("acme-c2", project="forest", cycle="C2", s3_prefix="C2", bucket_name="new")
    again_there = register(ledger, TWO_CLIENTS[0], moved, TWO_CLIENTS[2], instance=INSTANCE)
    sweep(ledger, again_there.delivery_ids["acme-c2"], *card(1))
    assert ledger.claim(again_there.daemon_id, again_there.delivery_ids["acme-c2"], 2)
    if fold:
        assert ledger.fold_counters() > 0
        assert ledger.fold_counters() == 0


def _some_files(database: str, delivery: int, most: int) -> list[tuple[bytes, int]]:
    rows = ask(
        database,
        "SELECT path_bytes, size_bytes FROM file_uploads WHERE delivery_id = %s AND is_current"
        " ORDER BY state, id DESC LIMIT %s",
        delivery,
        most,
    )
    return [(bytes(path), size) for path, size in rows]


# --- what they say ------------------------------------------------------------------------


@pytest.mark.parametrize("postgres_major", MAJORS)
@pytest.mark.parametrize("fold", [True, False], ids=["folded", "not folded"])
def test_every_view_says_what_a_recount_of_all_rows_says(ledger, database, fold):
    live_through_a_season(ledger, database, fold=fold)
    recount = Recount(database)
    states = {file["status"] for file in recount.files}
    assert states == {
        "pending", "uploading", "uploaded", "skipped", "failed", "superseded", "vanished"
    }  # fmt: skip
    assert any(file["conflict"] for file in recount.files)
    assert {(file["client"], file["project"]) for file in recount.files} == {
        ("acme", "forest"), ("zeta", "forest")
    }  # fmt: skip
    recount.assert_told(database)


@pytest.mark.parametrize("postgres_major", MAJORS)
def test_what_an_older_ledger_holds_is_carried_over(database):
    older = PostgresLedger(lambda: database)
    migrate(older._connections)
    ask(database, "ALTER TABLE file_uploads DISABLE TRIGGER file_uploads_inserted_rollups")
    ask(database, "ALTER TABLE file_uploads DISABLE TRIGGER file_uploads_updated_rollups")
    ask(database, "ALTER TABLE file_uploads DISABLE TRIGGER file_uploads_deleted_rollups")
    ask(database, "ALTER TABLE upload_failures DISABLE TRIGGER upload_failures_rollups")
    live_through_a_season(older, database, fold=True)
    sweep(older, register(older, *TWO_CLIENTS).delivery_ids["zeta-c1"], *card(9))  # not folded yet
    (carrying,) = [m for m in migrations() if m.name == "rollups"]
    begin = carrying.sql.index("-- What is in the ledger already is carried over.")
    statements = carrying.sql[begin : carrying.sql.index("CREATE VIEW claimed_counts")]
    ask(database, "TRUNCATE delivery_counts, sensor_days, sensor_sums, hourly_rates, minute_rates")
    ask(database, "TRUNCATE coverage_deltas, rate_deltas")
    ask(database, statements)
    apply_views(older._connections)
    Recount(database).assert_told(database)
    older.close()


@pytest.mark.usefixtures("ledger")
def test_every_view_has_the_columns_that_dashboards_are_built_on(database):
    rows = read(
        database,
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'grafana' ORDER BY table_name, ordinal_position",
    )
    there: dict[str, list[str]] = {}
    for each in rows:
        there.setdefault(each["table_name"], []).append(each["column_name"])
    for view, columns in COLUMNS.items():
        assert there[view] == ["client", "project", *columns.split()], view
    assert all(columns[:2] == ["client", "project"] for columns in there.values())
    assert list(there) == list(views())


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "not folded"])
def test_a_file_that_is_retried_by_hand_failed_once_and_is_stored_now(ledger, database, fold):
    place = register(ledger, binding())
    (delivery,) = place.delivery_ids.values()
    sweep(ledger, delivery, row(b"S1/20250901_000000.WAV"), row(b"S1/20250902_000000.WAV"))
    finish(ledger, place.daemon_id, delivery, [broken])
    if fold:
        ledger.fold_counters()
    (coverage,) = read(database, "SELECT * FROM grafana.sensor_coverage")
    assert (coverage["files"], coverage["failed"]) == (2, 2)
    assert len(told(database, "recent_failures")) == 2
    order = RetryOrder(delivery_id=delivery, asked_by="somebody", at_once=True, what="all")
    assert ledger.retry(order).retried == 2
    assert told(database, "recent_failures") == set()
    finish(ledger, place.daemon_id, delivery, [stored])
    if fold:
        ledger.fold_counters()
    (coverage,) = read(database, "SELECT * FROM grafana.sensor_coverage")
    assert (coverage["files"], coverage["failed"]) == (2, 0)
    (rates,) = read(
        database,
        "SELECT sum(uploaded) AS uploaded, sum(failed) AS failed FROM grafana.success_rate_daily",
    )
    assert rates == {"uploaded": 2, "failed": 2}
    assert {row[3:5] for row in told(database, "upload_status_per_project")} == {("uploaded", 2)}


def test_speed_and_eta_are_those_of_the_last_minutes(ledger, database):
    place = register(ledger, binding())
    (delivery,) = place.delivery_ids.values()
    sweep(ledger, delivery, *(row(b"S/%d.wav" % n, 1000) for n in range(400)))
    ask(database, "UPDATE sync_sessions SET started_at = now() - interval '1 day'")
    assert [(r["files_per_second"], r["eta"]) for r in read(
        database, "SELECT * FROM grafana.session_progress")] == [(0.0, None)]  # fmt: skip
    finish(ledger, place.daemon_id, delivery, [stored, found], most=100)
    for fold in (False, True):
        if fold:
            ledger.fold_counters()
        (progress,) = read(
            database,
            "SELECT *, extract(epoch FROM eta - now())::float8 AS left,"
            " extract(epoch FROM now() - date_bin('1 minute', now(), 'epoch'))::float8 AS within"
            " FROM grafana.session_progress",
        )
        window = 240 + progress["within"]
        assert progress["files_per_second"] == pytest.approx(100 / window, rel=0.3)
        assert progress["left"] == pytest.approx(300 / progress["files_per_second"], rel=0.01)
        assert (progress["total"], progress["uploaded"], progress["skipped"]) == (400, 50, 50)


def test_an_ended_session_has_its_mean_speed_and_no_eta(ledger, database):
    place = register(ledger, binding())
    (delivery,) = place.delivery_ids.values()
    sweep(ledger, delivery, *(row(b"S/%d.wav" % n) for n in range(30)))
    finish(ledger, place.daemon_id, delivery, [stored], most=100)
    ledger.finish_session(delivery)
    ask(database, "UPDATE sync_sessions SET started_at = ended_at - interval '15 seconds'")
    (progress,) = read(database, "SELECT * FROM grafana.session_progress")
    assert (progress["state"], progress["files_per_second"], progress["eta"]) == ("ended", 2, None)


# --- what stands still --------------------------------------------------------------------


def stalled(database: str) -> dict[str, dict]:
    return {r["delivery"]: r for r in read(database, "SELECT * FROM grafana.stalled_deliveries")}


def test_a_delivery_is_stalled_when_its_files_wait_and_nobody_or_nothing_works(ledger, database):
    place = register(ledger, *TWO_CLIENTS)
    c1, c2, zeta = (place.delivery_ids[name] for name in ("acme-c1", "acme-c2", "zeta-c1"))
    assert stalled(database) == {}, "nothing waits"
    for delivery in (c1, c2, zeta):
        sweep(ledger, delivery, *card(1))
    assert stalled(database) == {}, "all of it is new"
    ask(database, "UPDATE delivery_status SET state = 'x'")
    ask(database, "INSERT INTO delivery_status (delivery_id, state, reason)"
                  " VALUES (%s, 'blocked', 'the bucket is missing')", c2)  # fmt: skip
    ask(database, "UPDATE file_uploads SET enrolled_at = now() - interval '2 hours'"
                  " WHERE delivery_id = %s", zeta)  # fmt: skip
    seen = stalled(database)
    assert {name: each["reason"] for name, each in seen.items()} == {
        "acme-c2": "blocked: the bucket is missing",
        "zeta-c1": "nothing was stored for 120 minutes",
    }
    assert seen["zeta-c1"]["pending"] == 16
    ((oldest,),) = ask(database, "SELECT min(enrolled_at) FROM file_uploads"
                                 " WHERE delivery_id = %s", zeta)  # fmt: skip
    assert seen["zeta-c1"]["oldest_pending_at"] == oldest
    assert seen["zeta-c1"]["last_success_at"] is None
    finish(ledger, place.daemon_id, zeta, [stored], most=1)
    assert set(stalled(database)) == {"acme-c2"}, "something was stored just now"
    ledger.fold_counters()
    assert set(stalled(database)) == {"acme-c2"}
    ask(database, "UPDATE daemons SET heartbeat_at = now() - interval '1 hour'")
    assert {name: each["reason"] for name, each in stalled(database).items()} == dict.fromkeys(
        ("acme-c1", "acme-c2", "zeta-c1"), "sensordropd is not running"
    )
    assert stalled(database)["zeta-c1"]["last_success_at"] is not None


@pytest.mark.parametrize("waits", ["epoch", "-infinity", "infinity", "2020-01-01"])
def test_the_oldest_waiting_file_is_found_however_it_waits(ledger, database, waits):
    delivery = register(ledger, binding()).delivery_ids["north"]
    sweep(ledger, delivery, *card(1))
    ask(database, "UPDATE upload_queue SET next_at = %s WHERE upload_id %% 2 = 0", "2030-01-01")
    ask(database, "UPDATE file_uploads SET enrolled_at = now() - make_interval(days => 20)"
                  " WHERE id = (SELECT min(upload_id) FROM upload_queue)")  # fmt: skip
    ask(database, "UPDATE upload_queue SET next_at = %s"
                  " WHERE upload_id = (SELECT min(upload_id) FROM upload_queue)", waits)  # fmt: skip
    oldest = stalled(database)["north"]["oldest_pending_at"]
    assert datetime.now(UTC) - oldest > timedelta(days=19)


# --- the ledger's day is the core's -------------------------------------------------------

PIECES = st.sampled_from(
    ["2025", "19", "20", "2024", "02", "29", "30", "12", "13", "0", "9", "235959", "0911", "56",
     "_", "-", ".", ":", " ", "T", "$", "/", "\n", "\\", "WAV", ".wav", "5B07C752", "0000ABCD",
     "IMG_", "\u0662", "ü", "123"]
)  # fmt: skip


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.lists(PIECES, max_size=12).map("".join)
        | st.from_regex(r"[a-z/]{0,3}[12][0-9]{3}[-_]?[01][0-9][-_]?[0-3][0-9]_[0-9]{6}\.WAV",
                        fullmatch=True)
        | st.from_regex(r"[0-9A-Fa-f]{8}\.wav", fullmatch=True),
        min_size=100, max_size=200,
    ),
    mtime_ns=st.integers(-(2**63), 2**63 - 1),
)  # fmt: skip
def test_the_ledger_finds_the_same_day_as_the_core(day_ledger, names, mtime_ns):
    with day_ledger.cursor() as cursor:
        cursor.execute(
            "SELECT captured_day(name, %s) FROM unnest(%s::text[]) WITH ORDINALITY AS n (name, at)"
            " ORDER BY at",
            (mtime_ns, names),
        )
        days = [day for (day,) in cursor.fetchall()]
    assert days == [captured_day(name, mtime_ns) for name in names]


@pytest.fixture
def day_ledger(ledger):
    """Give a connection to a ledger."""
    with ledger._connections.transaction() as cursor:
        yield cursor.connection


DIGITS = ["19990815", "20240815", "20240830", "20240230", "1999", "08", "10102408", "2024", "15"]
TAILS = ["_091156.WAV", "_091157.WAV", "_999999.wav", "_091156123.WAV", "_0911561.WAV", ".WAV",
         "_091156.flac", "T091156.982.wav", "_091156.mp3", ".TXT"]  # fmt: skip


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_files_that_go_on_the_books_together_keep_their_own_days(ledger, database, seed):
    dice = random.Random(seed)
    heads = ["", "SITE_", "950349_", "S/", "20240101_000000_", "2024-", "x1"]
    rows = {
        f"A/{dice.choice(heads)}{dice.choice(['', dice.choice(DIGITS) + dice.choice('_-. ')])}"
        f"{dice.choice(DIGITS)}{dice.choice(TAILS)}".encode(): dice.choice([OLD, OLD - 3 * 10**16])
        for _ in range(600)
    }
    delivery = register(ledger, binding()).delivery_ids["north"]
    sweep(ledger, delivery, *(row(path, mtime=mtime) for path, mtime in rows.items()))
    ledger.fold_counters()
    Recount(database).assert_told(database)


# --- many at once -------------------------------------------------------------------------

WAYS = [stored, found, beside, broken, again, still_written, same_bytes]


class SuddenEndError(Exception):
    """A program that ends in the midst of a transaction."""


def worker(database: str, seed: int, deliveries: dict[str, int], daemon: int) -> None:
    """Enrol, change, claim and finish files at random; some transactions are cut off."""
    dice = random.Random(seed)
    ledger = PostgresLedger(lambda: database)
    try:
        for _ in range(12):
            # A deadlock undoes its transaction whole, and the product tries it again.
            with suppress(LedgerUnavailableError):
                delivery = dice.choice(list(deliveries.values()))
                match dice.randrange(5):
                    case 0:
                        files = dice.sample(card(dice.randrange(3), mtime=OLD), 8)
                        sweep(ledger, delivery, *files)
                    case 1:
                        sizes = [
                            row(b"S1/20250901_%02d0000.WAV" % dice.randrange(9), dice.randrange(99),
                                mtime=OLD - dice.randrange(5) * 10**14)
                        ]  # fmt: skip
                        sweep(ledger, delivery, *sizes)
                    case 2:
                        finish(ledger, daemon, delivery, dice.sample(WAYS, len(WAYS)), most=6)
                    case 3:
                        lose(ledger, delivery, *dice.sample(card(1), 9))
                    case 4:
                        try:
                            with ledger._connections.transaction() as cursor:
                                cursor.execute(
                                    "UPDATE file_uploads SET state = 'failed', finished_at = now()"
                                    " WHERE delivery_id = %s AND id %% 3 = 0 AND state = 'pending'"
                                    " AND NOT EXISTS (SELECT 1 FROM upload_queue"
                                    "  WHERE upload_id = file_uploads.id AND claimed_by IS NOT NULL)",
                                    (delivery,),
                                )
                                raise SuddenEndError
                        except SuddenEndError:
                            pass
                if dice.randrange(3) == 0:
                    ledger.finish_session(delivery)
    finally:
        ledger.close()


@settings(
    max_examples=4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seeds=st.lists(st.integers(0, 2**32), min_size=3, max_size=3, unique=True))
def test_counts_stay_right_whoever_works_at_the_same_time(ledger, database, seeds):
    place = register(ledger, *TWO_CLIENTS)
    over = threading.Event()

    def fold() -> None:
        while not over.is_set():
            with suppress(LedgerUnavailableError):
                ledger.fold_counters()
        ledger.close_own()

    with ThreadPoolExecutor() as pool:
        folding = pool.submit(fold)
        working = [
            pool.submit(worker, database, seed, place.delivery_ids, place.daemon_id)
            for seed in seeds
        ]
        wait(working)
        over.set()
        for each in (folding, *working):
            each.result()  # raises what went wrong in it
    recount = Recount(database)
    ledger.fold_counters()
    recount.assert_told(database)


# --- who may read, and how they are replaced ----------------------------------------------


REFUSED = (
    psycopg2.errors.InsufficientPrivilege,
    psycopg2.errors.WrongObjectType,  # a view is not truncated
    psycopg2.errors.ObjectNotInPrerequisiteState,  # nor are rows of such a view deleted
)


@pytest.mark.parametrize("postgres_major", MAJORS)
def test_the_reader_reads_the_views_and_nothing_else(ledger, database):
    sweep(ledger, register(ledger).delivery_ids["north"], *card(1))
    assert ledger.reader_advice() is None
    ((can_log_in, password),) = ask(
        database, "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = %s", READER
    )
    assert (can_log_in, password) == (False, None), "a role that nobody gave a password to"
    connection = psycopg2.connect(database)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(
        "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n"
        " ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'grafana')"
        " AND c.relkind IN ('r', 'v', 'm', 'S')"
    )
    relations = cursor.fetchall()
    assert len(relations) > 30
    cursor.execute(f"SET ROLE {READER}")
    for schema, name in relations:
        if schema == "grafana":
            cursor.execute(f"SELECT * FROM grafana.{name}")
        else:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(f"SELECT * FROM public.{name}")
        for change in (f"DELETE FROM {schema}.{name}", f"TRUNCATE {schema}.{name}"):
            with pytest.raises(REFUSED):
                cursor.execute(change)
    for attempt in (
        "CREATE TABLE grafana.mine (n int)",
        "CREATE TABLE public.mine (n int)",
        "CREATE ROLE another",
        f"ALTER ROLE {READER} SUPERUSER",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(attempt)
    cursor.execute("SELECT count(*) FROM grafana.files_per_project")
    assert cursor.fetchone() == (1,)
    connection.close()


class AsOwner(Connections):
    """Connections of a role that owns its database and may make no roles."""

    def _connect(self):
        made = super()._connect()
        with made, made.cursor() as cursor:
            cursor.execute("SET ROLE plain_owner")
        return made


@pytest.fixture
def plain_owner(database):
    """Give connections of such a role, on a server that has no reader yet."""
    name = psycopg2.extensions.parse_dsn(database)["dbname"]
    there = ask(database, "SELECT 1 FROM pg_roles WHERE rolname = %s", READER)
    if there:  # other tests' databases hang on it
        ask(database, f"ALTER ROLE {READER} RENAME TO put_aside")
    ask(database, "CREATE ROLE plain_owner")
    ask(database, f"ALTER DATABASE {name} OWNER TO plain_owner")
    ask(database, "ALTER SCHEMA public OWNER TO plain_owner")
    connections = AsOwner(lambda: database)
    yield connections
    connections.close()
    ask(database, f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
    ask(database, "DROP OWNED BY plain_owner")
    ask(database, "DROP ROLE plain_owner")
    ask(database, f"DROP ROLE IF EXISTS {READER}")
    if there:
        ask(database, f"ALTER ROLE put_aside RENAME TO {READER}")


def test_a_ledger_that_may_make_no_roles_works_and_lets_a_reader_read_who_comes_later(
    plain_owner, database
):
    migrate(plain_owner)
    assert apply_views(plain_owner)
    assert reader_is_missing(plain_owner)
    assert told(database, "files_per_project") == set()
    (by_hand,) = re.findall(r"CREATE ROLE [^;]*;", NO_READER)
    ask(database, by_hand)
    assert not apply_views(plain_owner), "the views are as they were"
    assert not reader_is_missing(plain_owner)
    assert ask(database, f"SET ROLE {READER}; SELECT * FROM grafana.file_types") == []


def test_a_view_whose_text_changed_is_made_anew_and_one_that_is_gone_goes(ledger, database):
    known = views()
    connections = ledger._connections
    assert not apply_views(connections), "all is as it should be"
    more = {**known, "one": "CREATE VIEW grafana.one AS SELECT 1 AS a"}
    assert apply_views(connections, more)
    assert apply_views(connections, {**more, "one": "CREATE VIEW grafana.one AS SELECT 2 AS b"})
    assert read(database, "SELECT * FROM grafana.one") == [{"b": 2}]
    ask(database, f"SET ROLE {READER}; SELECT * FROM grafana.one")
    assert apply_views(connections, known)
    with pytest.raises(psycopg2.errors.UndefinedTable):
        read(database, "SELECT * FROM grafana.one")
    assert not apply_views(connections, known)


def test_what_somebody_built_on_a_view_is_not_torn_down(ledger, database):
    ask(database, "CREATE VIEW mine AS SELECT files FROM grafana.file_types")
    changed = {**views(), "one": "CREATE VIEW grafana.one AS SELECT 1 AS a"}
    with pytest.raises(LedgerRefusedError, match="mine"):
        apply_views(ledger._connections, changed)
    assert read(database, "SELECT * FROM mine") == []
