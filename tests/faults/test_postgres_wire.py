"""A way to the database that is slow, breaks in the middle of a COMMIT's answer, or swallows all.

Whoever asks for a COMMIT and hears nothing does not know whether it happened. SENSORDROP_TEST_SEED
chooses which of them; a failure tells the seed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import psycopg2.extensions
import pytest
from postgres_proxy import ANSWER_BYTES, Fate, PostgresProxy
from test_postgres_faults import SEED, Cards

LOST = (Fate.NEVER_ASKED, Fate.ANSWER_LOST, Fate.ANSWER_CUT)


@pytest.fixture
def proxy(postgres, postgres_major) -> Iterator[PostgresProxy]:
    folder = postgres(postgres_major).socket_directory
    with PostgresProxy(str(folder / ".s.PGSQL.5432")) as made:
        yield made


@pytest.fixture
def behind(station, proxy):
    """Give a station whose daemon asks its database through the proxy; the test asks directly."""
    name = psycopg2.extensions.parse_dsn(station.database)["dbname"]
    station.configure(database=proxy.url(name))
    return station


def test_commits_of_which_nobody_knows_whether_they_happened_store_every_file_once(behind, proxy):
    cards, dice = Cards(behind), random.Random(SEED)

    def fate() -> Fate:
        return dice.choice(LOST) if dice.random() < 0.2 else Fate.PASSES

    behind.start()
    proxy.cut_after_bytes = lambda: dice.randrange(1, ANSWER_BYTES)
    proxy.fate = fate
    for number in range(30):
        cards.drop(f"card{number}", 10)
        before = proxy.fates.total()
        behind.wait_for(lambda before=before: proxy.fates.total() > before, what="commits")
        if number >= 8 and all(proxy.fates[each] >= 3 for each in LOST):
            break
    assert all(proxy.fates[each] for each in LOST), proxy.fates
    proxy.fate = lambda: Fate.PASSES
    cards.assert_all_is_well()
    assert behind.daemon.logs("ledger_unavailable") != []


def test_a_start_goes_on_whichever_of_its_commits_loses_the_database(behind, proxy):
    """Each try to start gets one commit further than the one before."""
    cards = Cards(behind)
    cards.drop("card", 5)
    allowed = passed = 0
    fates = iter(LOST * 100)

    def fate() -> Fate:
        nonlocal allowed, passed
        passed += 1
        if passed <= allowed:
            return Fate.PASSES
        allowed, passed = allowed + 1, 0
        return next(fates)

    proxy.fate = fate
    daemon = behind.new_daemon()
    daemon.launch()
    daemon.wait_for_log("daemon_started", seconds=180)
    proxy.fate = lambda: Fate.PASSES
    assert allowed > 3, "hardly any step of the start was lost"
    cards.assert_all_is_well()
    rows = behind.ledger.rows("SELECT name, count(*) FROM schema_migrations GROUP BY 1")
    assert {row["count"] for row in rows} == {1}


def test_a_slow_way_to_the_database_is_only_slow(behind, proxy):
    cards = Cards(behind)
    proxy.delay_seconds = 0.02
    behind.start()
    cards.drop("card", 10)
    behind.wait_for(cards.all_stored, what="all is stored", seconds=180)
    assert behind.daemon.logs("ledger_unavailable") == []
    assert behind.daemon.logs("declared_dead") == []
    cards.assert_all_is_well()


def test_a_way_that_swallows_everything_is_waited_for(behind, proxy):
    """What was held back arrives late at first, and is lost the second time."""
    cards = Cards(behind)
    behind.start()
    cards.drop("before", 5)
    behind.wait_for(cards.all_stored, what="the first card is stored")
    for name, silent_seconds in (("late", 2), ("lost", 6)):
        proxy.swallow()
        cards.drop(name, 10)
        time.sleep(silent_seconds)  # the second is longer than a try to connect may take
        assert behind.daemon.running
        assert not cards.all_stored()
        if name == "lost":
            proxy.cut()
        proxy.let_through()
        behind.wait_for(cards.all_stored, what=f"all is stored, though it {name}")
    behind.daemon.wait_for_log("ledger_unavailable")
    cards.assert_all_is_well()
