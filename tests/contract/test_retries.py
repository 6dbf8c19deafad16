"""The story of files in the ledger: what is kept of their failures, and retries by hand."""

from __future__ import annotations

from test_ledger import NOW, ask, counts_from_rows, counts_kept, register, row, states, sweep
from test_ledger_costs import rows_read

from sensordrop.adapters.ledger.work import KEPT_FAILURES
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.core.lifecycle import GiveBack, Quarantine, RecordUploaded, Retry
from sensordrop.core.model import Receipt
from sensordrop.ports.records import Commit
from sensordrop.ports.telling import FileFilter, RetryOrder

REFUSED = Failure(scope=FailureScope.FILE, error_class="rejected", message="not today", hint="ask")
DOWN = Failure(scope=FailureScope.DESTINATION, error_class="connect", message="nobody is there")


def order(delivery_id: int, **changes: object) -> RetryOrder:
    settings: dict[str, object] = {"asked_by": "ann@hut", "what": "all that failed"}
    return RetryOrder(delivery_id=delivery_id, **{**settings, **changes})  # type: ignore[arg-type]


def story(ledger, path: bytes):
    (place,) = ledger.delivery_places("hut")
    return ledger.story(place, path, station="hut")


def fail(ledger, place, delivery_id: int, most: int = 100) -> None:
    claims = ledger.claim(place.daemon_id, delivery_id, most)
    commits = [Commit(claim=c, action=Quarantine(failure=REFUSED)) for c in claims]
    assert ledger.commit(place.daemon_id, commits, NOW) == len(claims)


def test_failures_are_kept_with_their_times_and_no_more_than_so_many(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"), row(b"S/b"))
    other = ledger.claim(place.daemon_id, delivery, 2)[1]
    ledger.commit(
        place.daemon_id, [Commit(claim=other, action=GiveBack(until=NOW, failure=DOWN))], NOW
    )
    ask(database, "UPDATE upload_queue SET next_at = 'infinity' WHERE upload_id = %s", 2)
    ask(database, "UPDATE upload_queue SET next_at = '-infinity', claimed_by = NULL"
        " WHERE upload_id = 1")  # fmt: skip
    for _ in range(KEPT_FAILURES + 5):
        for action in (Retry(failure=REFUSED, until=NOW), GiveBack(until=NOW, failure=DOWN)):
            (claim,) = ledger.claim(place.daemon_id, delivery, 1)
            commit = Commit(claim=claim, action=action, took_seconds=2.5)
            assert ledger.commit(place.daemon_id, [commit], NOW) == 1
    (version,) = story(ledger, b"S/a").versions
    charged = [f for f in version.failures if f.charged]
    assert len(charged) == KEPT_FAILURES
    assert len(version.failures) == 2 * KEPT_FAILURES
    assert charged[-1].attempts == version.attempts == KEPT_FAILURES + 5, "only those are charged"
    assert (charged[-1].error_class, charged[-1].hint) == ("rejected", "ask")
    assert (charged[-1].ended_at - charged[-1].begun_at).total_seconds() == 2.5
    assert len(story(ledger, b"S/b").versions[0].failures) == 1, "a neighbour's story is its own"


def test_a_retry_in_the_running_session_is_the_same_version(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"), row(b"S/b"))
    fail(ledger, place, delivery)
    result = ledger.retry(order(delivery, paths=[b"S/a", b"S/never"], reason="mended"))
    assert (result.retried, result.states) == (1, {b"S/a": "failed", b"S/never": None})
    assert states(database) == {"S/a": "pending", "S/b": "failed"}
    (version,) = story(ledger, b"S/a").versions
    assert (version.attempts, version.crashes, version.reason) == (0, 0, None)
    assert [(r.asked_by, r.reason, r.at_once) for r in version.retries] == [
        ("ann@hut", "mended", False)
    ]
    assert ledger.newest_retries([delivery]) == {delivery: 1}
    fail(ledger, place, delivery)
    (version,) = story(ledger, b"S/a").versions
    assert [f.final for f in version.failures] == [False, True]
    both = FileFilter(delivery_ids=[delivery], state="failed")
    assert [line.path for line in ledger.list_files(both, before=None, most=9)] == ["S/a", "S/b"]
    assert counts_kept(database) == counts_from_rows(database)


def test_a_retry_after_the_session_ended_leaves_what_that_one_counted(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, *(row(b"S/%d" % n) for n in range(5)))
    fail(ledger, place, delivery)
    ended = ledger.finish_session(delivery)
    assert ended.failed == 5
    assert ledger.retry(order(delivery, session_id=ended.session_id)).retried == 5
    assert ledger.retry(order(delivery)).retried == 0, "nothing is left to retry"
    assert ask(database, "SELECT files, what FROM retries") == [(5, "all that failed")]
    assert set(states(database).values()) == {"pending"}
    claims = ledger.claim(place.daemon_id, delivery, 9)
    assert [c.attempts for c in claims] == [0] * 5
    done = RecordUploaded(receipt=Receipt(object_key="C1/k", sha256=b"x" * 32))
    ledger.commit(place.daemon_id, [Commit(claim=c, action=done) for c in claims], NOW)
    again = ledger.finish_session(delivery)
    assert again.session_id != ended.session_id
    assert (again.files, again.uploaded) == (5, 5)
    newest, first = ledger.list_sessions([delivery], most=9)
    assert (first.counts["failed"], newest.counts["uploaded"]) == (5, 5)
    assert ask(database, "SELECT count(*) FROM file_uploads WHERE session_id = %s",
               ended.session_id) == [(5,)]  # fmt: skip
    assert len(story(ledger, b"S/0").versions) == 2
    assert counts_kept(database) == counts_from_rows(database)


def test_files_that_wait_are_due_at_once_only_with_now(ledger):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"))
    (claim,) = ledger.claim(place.daemon_id, delivery, 1)
    later = Retry(failure=REFUSED, until=NOW.replace(year=NOW.year + 1))
    ledger.commit(place.daemon_id, [Commit(claim=claim, action=later)], NOW)
    assert story(ledger, b"S/a").current.next_at is not None
    assert ledger.retry(order(delivery)).hurried == 0
    assert ledger.retry(order(delivery, paths=[b"S/a"])).hurried == 0
    assert ledger.claim(place.daemon_id, delivery, 1) == []
    assert ledger.retry(order(delivery, at_once=True)).hurried == 1
    (claim,) = ledger.claim(place.daemon_id, delivery, 1)
    assert claim.attempts == 0
    assert ledger.retry(order(delivery, at_once=True)).hurried == 0, "it is in work"


def test_what_is_wanted_now_goes_before_files_that_were_never_tried(ledger):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/failed"), row(b"S/waits"), row(b"S/retried"))
    failed, waits, retried = ledger.claim(place.daemon_id, delivery, 3)
    later = Retry(failure=REFUSED, until=NOW.replace(year=NOW.year + 1))
    actions = [(failed, Quarantine(failure=REFUSED)), (waits, later), (retried, later)]
    commits = [Commit(claim=claim, action=action) for claim, action in actions]
    ledger.commit(place.daemon_id, commits, NOW)
    kept = [row(path) for path in (b"S/failed", b"S/waits", b"S/retried")]
    sweep(ledger, delivery, *kept, *(row(b"S/%03d" % n) for n in range(40)))

    def next_one() -> bytes:
        (claim,) = ledger.claim(place.daemon_id, delivery, 1)
        return bytes(claim.path)

    assert next_one() == b"S/000", "in the order of enrolment"
    assert ledger.retry(order(delivery, paths=[b"S/failed"])).retried == 1
    assert next_one() == b"S/001", "without --now it waits for its turn"
    wanted = [b"S/030", b"S/waits"]
    assert ledger.retry(order(delivery, paths=wanted, at_once=True)).hurried == 2
    assert {next_one(), next_one()} == set(wanted), "wanted now: before all that are ready"
    assert next_one() == b"S/002"


def test_what_failed_in_a_former_session_goes_first_too_where_it_is_wanted_now(ledger):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/old"))
    fail(ledger, place, delivery)
    assert ledger.finish_session(delivery) is not None
    sweep(ledger, delivery, row(b"S/old"), *(row(b"S/%03d" % n) for n in range(40)))
    assert ledger.retry(order(delivery, at_once=True)).retried == 1
    (claim,) = ledger.claim(place.daemon_id, delivery, 1)
    assert claim.path == b"S/old", "though its successor came last on the books"


def test_a_page_of_a_long_list_reads_little_more_than_it_gives(ledger, database):
    place = register(ledger)
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, *(row(b"S%d/%d" % (n % 9, n)) for n in range(6000)))
    claims = ledger.claim(place.daemon_id, delivery, 3)
    commits = [Commit(claim=c, action=Quarantine(failure=REFUSED)) for c in claims]
    ledger.commit(place.daemon_id, commits, NOW)
    ask(database, "ANALYZE")

    def read(state: str | None, before: int | None = None) -> int:
        tables = ("file_uploads", "upload_queue")
        began = sum(rows_read(database, ledger, table) for table in tables)
        wanted = FileFilter(delivery_ids=[delivery], state=state)
        assert ledger.list_files(wanted, before=before, most=10)
        return sum(rows_read(database, ledger, table) for table in tables) - began

    assert read("failed") < 300
    assert read("pending") < 300
    assert read(None) < 300
    assert read(None, before=3000) < 300
