"""The ledger's contract, on a real PostgreSQL."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from postgres_versions import MAJORS
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.ledger.migrate import Migration, migrate, migrations
from sensordrop.adapters.ledger.registry import CRASH_LIMIT, SUSPECT_CRASHES
from sensordrop.core.failure import (
    Failure,
    FailureScope,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from sensordrop.core.guard import VanishRule
from sensordrop.core.lifecycle import (
    GiveBack,
    Quarantine,
    RecordSkipped,
    RecordUploaded,
    RestorePredecessor,
    Retry,
    Wait,
)
from sensordrop.core.model import EntryType, Fingerprint, Receipt, Sighting
from sensordrop.core.selection import Selection
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.records import (
    Commit,
    DeliveryBinding,
    EnrollRules,
    GoneResult,
    Registration,
    SettledSighting,
)

pytestmark = pytest.mark.parametrize("postgres_major", MAJORS)
"""The contract holds on every version of PostgreSQL that is on this machine."""

ANY = VanishRule(share=1.0)
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
WALL_NS = int(NOW.timestamp()) * 10**9
OLD = WALL_NS - 3600 * 10**9
RULES = EnrollRules(selection=Selection(), sensor_level=1, quiet_seconds=10.0)
INSTANCE = uuid.UUID(int=1)


def binding(name: str = "north", **changes: object) -> DeliveryBinding:
    settings: dict[str, object] = {
        "name": name,
        "client": "acme",
        "project": "birds",
        "cycle": "C1",
        "local_directory": f"/drop/{name}",
        "bucket_name": "birds",
        "s3_prefix": "C1",
        "endpoint_url": None,
        "aws_region": None,
        "sensor_level": 1,
        "shared": False,
        "enabled": True,
        "selection": {},
        "configuration": {"name": name},
    }
    return DeliveryBinding(**{**settings, **changes})  # type: ignore[arg-type]


def register(ledger: PostgresLedger, *bindings: DeliveryBinding, **changes: object) -> Registration:
    settings: dict[str, object] = {
        "station": "hut",
        "instance": INSTANCE,
        "origin": "daemon",
        "version": "0",
        "daemon_configuration": {},
        "crashed": False,
    }
    return ledger.register(bindings=bindings or (binding(),), **{**settings, **changes})  # type: ignore[arg-type]


def row(
    path: bytes, size: int = 10, *, mtime: int = OLD, ctime: int = OLD, kind: str = "f"
) -> bytes:
    escaped = path.replace(b"\\", b"\\\\\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")
    times = b"%d.%09d\t%d.%09d" % (*divmod(mtime, 10**9), *divmod(ctime, 10**9))
    return b"%s\t%d\t%s\t%s\t\n" % (kind.encode(), size, times, escaped)


def listing(*rows: bytes) -> list[ListingChunk]:
    return [ListingChunk(rows=r, entries=1) for r in rows]


def sweep(ledger: PostgresLedger, delivery_id: int, *rows: bytes, rules: EnrollRules = RULES):
    return ledger.enroll_listing(
        delivery_id, listing(*rows), rules, wall_ns=WALL_NS, most_unsettled=100
    )


def receipt(key: str = "C1/k", content: bytes = b"x" * 32) -> Receipt:
    return Receipt(object_key=key, sha256=content, etag="e")


def ask(dsn: str, sql: str, *parameters: object) -> list[tuple]:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def states(dsn: str) -> dict[str, str]:
    return dict(ask(dsn, "SELECT path, state FROM file_uploads WHERE is_current"))


def counts_from_rows(dsn: str) -> dict[tuple, tuple]:
    rows = ask(
        dsn,
        "SELECT delivery_id, sensor_id, kind::text, state::text, count(*), sum(size_bytes)"
        " FROM file_uploads GROUP BY 1, 2, 3, 4"
        " UNION ALL SELECT delivery_id, 0, 'other', 'ignored', count(*), sum(size_bytes)"
        " FROM ignored_files GROUP BY 1",
    )
    return {r[:4]: (int(r[4]), int(r[5])) for r in rows}


def counts_kept(dsn: str) -> dict[tuple, tuple]:
    rows = ask(
        dsn,
        "SELECT delivery_id, sensor_id, kind::text, state, sum(files), sum(bytes) FROM ("
        " SELECT delivery_id, sensor_id, kind, state, files, bytes FROM file_counts UNION ALL"
        " SELECT delivery_id, sensor_id, kind, state, files, bytes FROM counter_deltas) AS c"
        " GROUP BY 1, 2, 3, 4 HAVING sum(files) <> 0 OR sum(bytes) <> 0",
    )
    return {r[:4]: (int(r[4]), int(r[5])) for r in rows}


def test_a_second_start_applies_no_migration(ledger):
    assert ledger.migrate() == []


def test_programs_that_start_together_migrate_once(database):
    applied: list[list[str]] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        mine = PostgresLedger(lambda: database)
        barrier.wait()
        applied.append(mine.migrate())
        mine.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [name for names in applied for name in names]
    assert sorted(done) == [f"{m.version:04d}_{m.name}" for m in migrations()]


def test_a_newer_ledger_is_refused_in_words(ledger, database):
    ask(database, "INSERT INTO schema_migrations (version, name) VALUES (9999, 'future')")
    with pytest.raises(LedgerRefusedError, match=r"newer than this program.*9999"):
        ledger.migrate()


def test_looking_at_a_ledger_changes_nothing_and_says_what_is_missing(database):
    fresh = PostgresLedger(lambda: database)
    with pytest.raises(LedgerRefusedError, match=r"no tables yet.*init-db"):
        fresh.check()
    assert ask(database, "SELECT to_regclass('schema_migrations')") == [(None,)]
    fresh.migrate()
    fresh.check()
    ask(database, "INSERT INTO schema_migrations (version, name) VALUES (9999, 'future')")
    with pytest.raises(LedgerRefusedError, match="newer"):
        fresh.check()
    fresh.close()


def test_a_failing_migration_leaves_nothing(ledger, database):
    broken = Migration(
        version=len(migrations()) + 1, name="broken", sql="CREATE TABLE half (); SELECT 1/0"
    )
    with pytest.raises(psycopg2.Error):
        migrate(ledger._connections, (*migrations(), broken))
    assert ask(database, "SELECT to_regclass('half')") == [(None,)]


@pytest.mark.usefixtures("postgres_major")
def test_an_unreachable_ledger_says_so():
    lost = PostgresLedger(lambda: "host=127.0.0.1 port=1 dbname=none")
    with pytest.raises(LedgerUnavailableError, match="not available"):
        lost.migrate()


def test_a_sweep_puts_new_files_on_the_books_and_a_second_finds_nothing(ledger, database):
    delivery = register(ledger).delivery_ids["north"]
    rows = [row(b"S1/a.WAV"), row(b"S1/b.wav", 20), row(b"S2/c.jpg"), row(b"root.txt")]
    result = sweep(ledger, delivery, *rows)
    assert (result.new, result.changed, result.ignored) == (4, 0, 0)
    assert result.session_opened is not None
    again = sweep(ledger, delivery, *rows)
    assert (again.new, again.changed, again.session_opened) == (0, 0, None)
    assert ask(
        database,
        "SELECT f.path, s.serial, f.kind::text FROM file_uploads f"
        " JOIN sensors s ON s.id = f.sensor_id ORDER BY 1",
    ) == [
        ("S1/a.WAV", "S1", "audio"),
        ("S1/b.wav", "S1", "audio"),
        ("S2/c.jpg", "S2", "image"),
        ("root.txt", "", "sidecar"),
    ]


def test_odd_names_keep_their_exact_bytes(ledger, database):
    delivery = register(ledger).delivery_ids["north"]
    plain = [
        b"S/ sp ace",
        "S/ü𝄞".encode(),
        b"S/tab\there",
        b"S/new\nline",
        b"S/back\\slash",
        b"S/%25+",
    ]
    special = b"f\t10\t%d.0\t%d.0\tS/\\\\\\\\xff\xfe\tS/\\\\x5cxff\\\\xfe\n" % (
        OLD // 10**9,
        OLD // 10**9,
    )
    assert sweep(ledger, delivery, *map(row, plain), special).new == 7
    found = {bytes(b): t for t, b in ask(database, "SELECT path, path_bytes FROM file_uploads")}
    assert found == {p: p.decode() for p in plain} | {b"S/\\xff\xfe": "S/\\x5cxff\\xfe"}
    assert sweep(ledger, delivery, *map(row, plain), special).new == 0


def test_paths_longer_than_an_index_can_hold_go_on_the_books(ledger):
    delivery = register(ledger).delivery_ids["north"]
    deep = b"/".join([b"d" * 250] * 16) + b"/f.wav"
    assert sweep(ledger, delivery, row(deep), row(b"a.wav")).new == 2
    assert len(ledger.claim(register(ledger).daemon_id, delivery, 10)) == 2


def test_junk_is_listed_once_and_links_are_not_uploaded(ledger, database):
    delivery = register(ledger).delivery_ids["north"]
    rows = [row(b"S/.DS_Store"), row(b"S/._a.wav"), row(b"S/l", kind="l"), row(b"S/a.wav")]
    result = sweep(ledger, delivery, *rows)
    assert (result.new, result.ignored) == (1, 3)
    assert sweep(ledger, delivery, *rows).ignored == 0
    assert dict(ask(database, "SELECT path, reason FROM ignored_files")) == {
        "S/.DS_Store": "junk",
        "S/._a.wav": "junk",
        "S/l": "symbolic link",
    }
    assert sweep(ledger, delivery, row(b"S/l")).new == 1  # the link is a file now
    assert ledger.status()[0].counts["ignored"][0] == 2


def test_changed_rules_judge_ignored_files_anew(ledger):
    first = register(ledger, binding(selection={"exclude": ["*.wav"]})).delivery_ids["north"]
    rules = EnrollRules(selection=Selection(exclude=("*.wav",)), sensor_level=1, quiet_seconds=10)
    assert sweep(ledger, first, row(b"a.wav"), rules=rules).ignored == 1
    again = register(ledger, binding(selection={})).delivery_ids["north"]
    assert again == first
    assert sweep(ledger, first, row(b"a.wav")).new == 1
    assert ledger.status()[0].counts.get("ignored", [0])[0] == 0


def test_files_that_were_just_written_come_back_to_settle(ledger):
    delivery = register(ledger).delivery_ids["north"]
    young = WALL_NS - 2 * 10**9
    future = WALL_NS + 10**12
    result = sweep(
        ledger,
        delivery,
        row(b"by-mtime", mtime=young),
        row(b"by-ctime", ctime=young),
        row(b"wrong-clock", mtime=future),
        row(b"settled"),
    )
    assert {s.path for s in result.unsettled} == {b"by-mtime", b"by-ctime"}
    assert result.new == 2


def test_more_unsettled_files_than_asked_for_are_counted(ledger):
    delivery = register(ledger).delivery_ids["north"]
    rows = [row(b"f%d" % n, ctime=WALL_NS) for n in range(10)]
    result = ledger.enroll_listing(
        delivery, listing(*rows), RULES, wall_ns=WALL_NS, most_unsettled=4
    )
    assert (len(result.unsettled), result.unsettled_left, result.new) == (4, 6, 0)


def seen(path: bytes, size: int = 10, mtime: int = OLD, *, eager: bool) -> SettledSighting:
    fingerprint = Fingerprint(size_bytes=size, mtime_ns=mtime, ctime_ns=mtime)
    return SettledSighting(
        sighting=Sighting(path=path, fingerprint=fingerprint, entry_type=EntryType.FILE),
        eager=eager,
    )


def test_the_first_close_goes_on_the_books_and_a_later_one_must_settle(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    first = ledger.enroll_sightings(delivery, [seen(b"S/a", eager=True)], RULES, wall_ns=WALL_NS)
    assert first.new == 1
    claim = ledger.claim(place.daemon_id, delivery, 5)[0]
    stored = Commit(claim=claim, action=RecordUploaded(receipt=receipt()))
    ledger.commit(place.daemon_id, [stored], NOW)
    grown = seen(b"S/a", 20, OLD + 5, eager=True)
    second = ledger.enroll_sightings(delivery, [grown], RULES, wall_ns=WALL_NS)
    assert (second.changed, [s.path for s in second.unsettled]) == (0, [b"S/a"])
    quiet = seen(b"S/a", 20, OLD + 5, eager=False)
    third = ledger.enroll_sightings(delivery, [quiet], RULES, wall_ns=WALL_NS)
    assert (third.changed, third.unsettled) == (1, ())
    assert Counter(r[0] for r in ask(database, "SELECT state::text FROM file_uploads")) == {
        "superseded": 1,
        "pending": 1,
    }
    claim = ledger.claim(place.daemon_id, delivery, 5)[0]
    assert claim.predecessor_sha256 == b"x" * 32
    assert claim.fingerprint.size_bytes == 20


def test_new_times_with_the_same_bytes_leave_no_second_version(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"))
    claim = ledger.claim(place.daemon_id, delivery, 5)[0]
    ledger.commit(
        place.daemon_id, [Commit(claim=claim, action=RecordUploaded(receipt=receipt()))], NOW
    )
    ledger.finish_session(delivery)
    assert sweep(ledger, delivery, row(b"S/a", mtime=OLD + 7)).changed == 1
    claim = ledger.claim(place.daemon_id, delivery, 5)[0]
    assert (
        ledger.commit(place.daemon_id, [Commit(claim=claim, action=RestorePredecessor())], NOW) == 1
    )
    assert ask(database, "SELECT state::text, is_current, mtime_ns FROM file_uploads") == [
        ("uploaded", True, OLD + 7)
    ]
    assert counts_kept(database) == counts_from_rows(database)
    summary = ledger.finish_session(delivery)
    assert summary is not None
    assert summary.files == 0
    assert ask(database, "SELECT count(*) FROM sync_sessions") == [(1,)]


def test_a_claim_is_given_to_one_only_and_a_lost_one_never_commits(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, *[row(b"S/%d" % n) for n in range(10)])
    mine = ledger.claim(place.daemon_id, delivery, 6)
    rest = ledger.claim(place.daemon_id, delivery, 6)
    assert (len(mine), len(rest)) == (6, 4)
    assert not {c.upload_id for c in mine} & {c.upload_id for c in rest}
    successor = register(ledger)
    assert successor.claims_taken_back == 10
    late = [Commit(claim=c, action=RecordUploaded(receipt=receipt())) for c in mine]
    assert ledger.commit(place.daemon_id, late, NOW) == 0
    again = ledger.claim(successor.daemon_id, delivery, 10)
    assert min(c.claim_number for c in again) == 2
    current = [Commit(claim=c, action=RecordUploaded(receipt=receipt())) for c in again]
    assert ledger.commit(successor.daemon_id, current, NOW) == 10
    assert ledger.commit(successor.daemon_id, current, NOW) == 0  # an unknown commit, repeated
    assert set(states(database).values()) == {"uploaded"}


def test_every_action_is_written_down_as_it_says(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    names = ["uploaded", "skipped", "failed", "retry", "given-back", "wait"]
    sweep(ledger, delivery, *[row(f"S/{n}".encode()) for n in names])
    claims = {c.path_text[2:]: c for c in ledger.claim(place.daemon_id, delivery, 10)}
    failure = Failure(
        scope=FailureScope.FILE, error_class="odd", message="it broke", hint="mend it"
    )
    later = NOW + timedelta(hours=1)
    moved = Fingerprint(size_bytes=99, mtime_ns=OLD + 1, ctime_ns=OLD + 2)
    actions = {
        "uploaded": RecordUploaded(receipt=receipt("C1/S/uploaded")),
        "skipped": RecordSkipped(receipt=receipt("C1/S/skipped"), evidence="same ETag"),
        "failed": Quarantine(failure=failure),
        "retry": Retry(failure=failure, until=later),
        "given-back": GiveBack(until=None),
        "wait": Wait(fingerprint=moved, until=later),
    }
    commits = [Commit(claim=claims[n], action=a) for n, a in actions.items()]
    assert ledger.commit(place.daemon_id, commits, NOW) == len(names)
    assert states(database) == {
        "S/uploaded": "uploaded",
        "S/skipped": "skipped",
        "S/failed": "failed",
        "S/retry": "pending",
        "S/given-back": "pending",
        "S/wait": "pending",
    }
    assert [c.path_text for c in ledger.claim(place.daemon_id, delivery, 10)] == ["S/given-back"]
    assert ask(
        database,
        "SELECT f.path, q.attempts, q.next_at > now() + interval '50 minutes', f.size_bytes"
        " FROM upload_queue q JOIN file_uploads f ON f.id = q.upload_id"
        " WHERE q.claimed_by IS NULL ORDER BY 1",
    ) == [("S/retry", 1, True, 10), ("S/wait", 0, True, 99)]
    assert ask(
        database, "SELECT error_class, message, hint, final FROM upload_failures ORDER BY final"
    ) == [("odd", "it broke", "mend it", False), ("odd", "it broke", "mend it", True)]
    assert counts_kept(database) == counts_from_rows(database)


def test_gone_files_vanish_only_when_they_are_really_gone_and_may_come_back(ledger, database):
    delivery = register(ledger).delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/stays"), row(b"S/hides"), row(b"S/goes"))
    began = ledger.begin_sweep()
    sweep(ledger, delivery, row(b"S/stays"))
    there = Fingerprint(size_bytes=1, mtime_ns=1, ctime_ns=1)
    probe = {b"S/hides": there, b"S/goes": None}.__getitem__
    assert ledger.mark_gone(delivery, probe, sweep_began=began, rule=ANY).gone == 1
    assert states(database)["S/goes"] == "vanished"
    assert sweep(ledger, delivery, row(b"S/goes")).changed == 1
    assert states(database)["S/goes"] == "pending"
    assert counts_kept(database) == counts_from_rows(database)


def test_files_enrolled_during_a_listing_are_not_gone(ledger):
    delivery = register(ledger).delivery_ids["north"]
    began = ledger.begin_sweep()
    ledger.enroll_sightings(delivery, [seen(b"S/new", eager=True)], RULES, wall_ns=WALL_NS)
    sweep(ledger, delivery, row(b"S/other"))
    assert ledger.mark_gone(delivery, lambda _: None, sweep_began=began, rule=ANY).gone == 0


def gone_after(ledger, delivery, *there: bytes, rule: VanishRule) -> GoneResult:
    """List what is there, and judge what is missing by a rule."""
    began = ledger.begin_sweep()
    sweep(ledger, delivery, *[row(path) for path in there])
    return ledger.mark_gone(delivery, lambda _: None, sweep_began=began, rule=rule)


def test_many_missing_files_are_held_until_they_are_back_or_somebody_confirms(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    names = [b"S/%03d" % n for n in range(100)]
    half = VanishRule(share=0.5)
    sweep(ledger, delivery, *[row(name) for name in names])
    assert gone_after(ledger, delivery, *names[:40], rule=half) == GoneResult(held=60)
    assert set(states(database).values()) == {"pending"}
    # They are not tried, and neither is a timer's sweep a confirmation.
    claimed = ledger.claim(place.daemon_id, delivery, 200)
    assert {c.path for c in claimed} == {*names[:40]}
    ledger.commit(
        place.daemon_id, [Commit(claim=c, action=GiveBack(until=None)) for c in claimed], NOW
    )
    assert gone_after(ledger, delivery, *names[:40], rule=half) == GoneResult(held=60)
    # Ten are back; a few more go. They may be of the same mishap: they are asked about with it.
    there = [*names[:35], *names[90:]]
    assert gone_after(ledger, delivery, *there, rule=half) == GoneResult(held=55)
    assert len(ledger.claim(place.daemon_id, delivery, 200)) == 45
    ledger.end(place.daemon_id)
    assert "vanished" not in states(database).values()
    # Somebody confirms.
    confirmed = VanishRule(share=0.5, confirmed=True)
    assert gone_after(ledger, delivery, *there, rule=confirmed) == GoneResult(gone=55, held=0)
    assert sum(state == "pending" for state in states(database).values()) == 45
    assert counts_kept(database) == counts_from_rows(database)


def test_what_an_uploader_has_in_hand_is_missing_too_where_many_left_at_once(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, *[row(b"S/%03d" % n) for n in range(40)])
    assert len(ledger.claim(place.daemon_id, delivery, 22)) == 22
    # 18 would be few. The 22 are not touched: whoever has them finds out.
    assert gone_after(ledger, delivery, rule=VanishRule(share=0.5)) == GoneResult(held=18)
    assert set(states(database).values()) == {"pending"}
    assert ask(
        database, "SELECT count(*) FROM upload_queue WHERE next_at = '9999-01-01 00:00+00'"
    ) == [(18,)]


def test_where_another_disk_is_in_the_folder_a_single_missing_file_is_held(ledger, database):
    delivery = register(ledger).delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/first card"))
    exchanged = VanishRule(share=1.0, exchanged=True)
    assert gone_after(ledger, delivery, b"S/second card", rule=exchanged) == GoneResult(held=1)
    assert gone_after(ledger, delivery, b"S/second card", rule=ANY) == GoneResult(held=1)
    assert gone_after(ledger, delivery, b"S/first card", rule=exchanged) == GoneResult(held=1)
    assert set(states(database).values()) == {"pending"}


def test_where_a_folder_was_last_swept_is_remembered_for_each_station(ledger):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    assert ledger.known_roots(place.daemon_id, [delivery]) == {}
    for name in ("vfat 1234-ABCD", "ext4 odd \udcff name"):
        ledger.remember_root(place.daemon_id, delivery, name)
    (kept,) = ledger.known_roots(register(ledger).daemon_id, [delivery]).values()
    assert kept.startswith("ext4 odd ")


def test_a_session_ends_with_counts_that_add_up(ledger):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, *[row(b"S/%d" % n, 100 + n) for n in range(5)])
    assert ledger.finish_session(delivery) is None
    claims = ledger.claim(place.daemon_id, delivery, 10)
    assert ledger.finish_session(delivery) is None
    failure = Failure(scope=FailureScope.FILE, error_class="odd", message="broke")
    actions = [RecordUploaded(receipt=receipt())] * 3 + [
        Quarantine(failure=failure),
        GiveBack(until=None),
    ]
    commits = [Commit(claim=c, action=a) for c, a in zip(claims, actions, strict=True)]
    ledger.commit(place.daemon_id, commits, NOW)
    began = ledger.begin_sweep()
    sweep(ledger, delivery, *[row(b"S/%d" % n, 100 + n) for n in range(4)])
    assert ledger.mark_gone(delivery, lambda _: None, sweep_began=began, rule=ANY).gone == 1
    session = ledger.open_sessions([delivery])[delivery]
    summary = ledger.finish_session(delivery)
    assert summary is not None
    assert (summary.session_id, summary.files, summary.uploaded) == (session, 5, 3)
    assert (summary.failed, summary.vanished, summary.bytes_uploaded) == (1, 1, 303)
    assert ledger.open_sessions([delivery]) == {}
    assert ledger.finish_session(delivery) is None


def test_an_unshown_crash_charges_nobody_and_a_shown_one_isolates_and_quarantines(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/poison"), row(b"S/neighbour"))
    for _ in range(20):  # killed from outside, again and again
        ledger.claim(place.daemon_id, delivery, 10)
        place = register(ledger)
    assert ask(database, "SELECT max(crashes) FROM upload_queue") == [(0,)]
    for _ in range(SUSPECT_CRASHES):
        assert len(ledger.claim(place.daemon_id, delivery, 10)) == 2
        place = register(ledger, crashed=True)
    assert ledger.claim(place.daemon_id, delivery, 10) == []
    for _ in range(CRASH_LIMIT - SUSPECT_CRASHES):
        alone = ledger.claim_suspect(place.daemon_id, [delivery])
        assert alone is not None
        assert alone.path == b"S/poison"
        place = register(ledger, crashed=True)
    neighbour = ledger.claim_suspect(place.daemon_id, [delivery])
    assert neighbour is not None
    assert neighbour.path == b"S/neighbour"
    assert ledger.claim_suspect(place.daemon_id, [delivery]) is None
    assert states(database) == {"S/poison": "failed", "S/neighbour": "pending"}


def test_a_delivery_that_is_pointed_elsewhere_begins_anew(ledger, database):
    first = register(ledger)
    old = first.delivery_ids["north"]
    sweep(ledger, old, row(b"S/a"), row(b"S/b"))
    claim = ledger.claim(first.daemon_id, old, 1)[0]
    ledger.commit(
        first.daemon_id, [Commit(claim=claim, action=RecordUploaded(receipt=receipt()))], NOW
    )
    second = register(ledger, binding(cycle="C2", s3_prefix="C2"))
    new = second.delivery_ids["north"]
    assert new != old
    assert sweep(ledger, new, row(b"S/a"), row(b"S/b")).new == 2
    assert Counter(r[0] for r in ask(database, "SELECT state::text FROM file_uploads")) == {
        "uploaded": 1,
        "superseded": 1,
        "pending": 2,
    }
    assert [d.cycle for d in ledger.status()] == ["C2"]
    assert counts_kept(database) == counts_from_rows(database)
    assert register(ledger, binding(cycle="C2", s3_prefix="C2")).delivery_ids["north"] == new


def test_two_stations_have_a_delivery_of_one_name_each_unless_they_share_it(ledger):
    mine = register(ledger, binding(), binding("common", shared=True))
    other = register(
        ledger, binding(), binding("common", shared=True), station="hill", instance=uuid.uuid4()
    )
    assert mine.delivery_ids["north"] != other.delivery_ids["north"]
    assert mine.delivery_ids["common"] == other.delivery_ids["common"]


def test_configurations_are_kept_when_they_change(ledger, database):
    register(ledger)
    register(ledger)
    register(ledger, binding(configuration={"max_workers": 3}))
    kept = ask(
        database,
        "SELECT configuration FROM config_history WHERE delivery_id IS NOT NULL ORDER BY id",
    )
    assert [row[0] for row in kept] == [{"name": "north"}, {"max_workers": 3}]


def test_a_daemon_that_fell_silent_loses_its_claims(ledger, database):
    silent = register(ledger)
    delivery = silent.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"))
    ledger.claim(silent.daemon_id, delivery, 1)
    assert ledger.take_back_dead() == 0
    ask(database, "UPDATE daemons SET heartbeat_at = now() - interval '5 minutes'")
    assert ledger.take_back_dead() == 1
    assert ledger.heartbeat(silent.daemon_id) is False


def test_counters_fold_to_the_same_sums(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, *[row(b"S%d/%d.wav" % (n % 3, n)) for n in range(50)])
    assert ledger.fold_counters() > 0
    for claim in ledger.claim(place.daemon_id, delivery, 20):
        done = Commit(claim=claim, action=RecordUploaded(receipt=receipt()))
        ledger.commit(place.daemon_id, [done], NOW)
    assert counts_kept(database) == counts_from_rows(database)
    ledger.fold_counters()
    assert ask(database, "SELECT count(*) FROM counter_deltas") == [(0,)]
    assert counts_kept(database) == counts_from_rows(database)
    status = ledger.status()[0]
    assert status.counts == {"pending": [30, 300], "uploaded": [20, 200]}


def test_due_times_tell_ready_waiting_and_claimed_apart(ledger):
    place = register(ledger, binding(), binding("south"), binding("west"))
    ids = place.delivery_ids
    for name in ("north", "south"):
        sweep(ledger, ids[name], row(b"S/a"))
    claim = ledger.claim(place.daemon_id, ids["south"], 1)[0]
    later = Retry(
        failure=Failure(scope=FailureScope.FILE, error_class="odd", message="broke"),
        until=NOW + timedelta(seconds=100),
    )
    ledger.commit(place.daemon_id, [Commit(claim=claim, action=later)], NOW)
    due = ledger.due_in_seconds(list(ids.values()))
    assert due[ids["north"]] < 0
    assert 90 < due[ids["south"]] <= 100
    assert ids["west"] not in due
    ledger.claim(place.daemon_id, ids["north"], 1)
    assert ledger.due_in_seconds([ids["north"]])[ids["north"]] == float("inf")


def test_a_cut_connection_is_told_and_the_next_call_works(ledger, database):
    delivery = register(ledger).delivery_ids["north"]
    ask(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    with pytest.raises(LedgerUnavailableError):
        ledger.has_queued(delivery)
    assert ledger.has_queued(delivery) is False


def test_many_enrollers_and_committers_keep_the_counters_right(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    problems: list[BaseException] = []
    enrolled = threading.Event()

    def enroll(part: int) -> None:
        for step in range(10):
            rows = [row(b"S%d/%d-%d" % (n % 4, step, n)) for n in range(0, 60, part)]
            again = True
            while again:  # a deadlock's victim repeats, as the engine does
                try:
                    sweep(ledger, delivery, *rows)
                    again = False
                except LedgerUnavailableError:
                    pass
        ledger.close_own()

    def commit() -> None:
        while True:
            nobody_enrolls = enrolled.is_set()
            try:
                claims = ledger.claim(place.daemon_id, delivery, 37)
                commits = [
                    Commit(claim=c, action=RecordUploaded(receipt=receipt())) for c in claims
                ]
                if commits:
                    ledger.commit(place.daemon_id, commits, NOW)
            except LedgerUnavailableError:
                continue
            if not claims:
                if nobody_enrolls:
                    break
                enrolled.wait(0.01)
        ledger.close_own()

    def guarded(work, *arguments) -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 — reported below by the main thread
            problems.append(error)

    enrollers = [threading.Thread(target=guarded, args=(enroll, part)) for part in (1, 2, 3)]
    committers = [threading.Thread(target=guarded, args=(commit,)) for _ in range(2)]
    for thread in (*enrollers, *committers):
        thread.start()
    for thread in enrollers:
        thread.join()
    enrolled.set()
    for thread in committers:
        thread.join()
    assert problems == []
    assert counts_kept(database) == counts_from_rows(database)
    assert ask(database, "SELECT count(*) FROM file_uploads") == [(600,)]
    assert ask(database, "SELECT count(*) > 0 FROM file_uploads WHERE state = 'uploaded'") == [
        (True,)
    ]
