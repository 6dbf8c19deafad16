"""Reading a season: held against the raw rows, and against what the dashboards ask."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import pytest
from recount import Recount, read
from test_ledger import ask, binding, register
from test_views import TWO_CLIENTS, live_through_a_season

sys.path.insert(0, str(Path(__file__).parents[2] / "packaging" / "grafana"))

from postgres_versions import MAJORS
from season_overview import UNSAFE
from sensordrop.adapters.ledger import season as reading
from sensordrop.core.season import SeasonScope, open_things

ALL = SeasonScope()


def live(ledger, database, *, fold=False):
    live_through_a_season(ledger, database, fold=fold)
    return ledger.season(ALL, most_failures=1000)


@pytest.mark.parametrize("postgres_major", MAJORS)
@pytest.mark.parametrize("fold", [True, False], ids=["folded", "not folded"])
def test_a_season_is_what_a_recount_of_all_rows_says(ledger, database, fold):
    season = live(ledger, database, fold=fold)
    recount = Recount(database)
    by_delivery: dict[tuple, dict[str, list]] = {}
    for file in recount.files:
        delivery = recount.deliveries[file["delivery_id"]]
        key = (delivery["name"], file["bucket"])
        by_delivery.setdefault(key, {}).setdefault(file["state"], []).append(file["size_bytes"])
    for each in season.standings:
        states = by_delivery[each.delivery, each.bucket]
        stored = states.get("uploaded", []) + states.get("skipped", [])
        pending, failed = states.get("pending", []), states.get("failed", [])
        assert (each.stored_files, each.stored_bytes) == (len(stored), sum(stored))
        assert (each.waiting_files, each.waiting_bytes) == (len(pending), sum(pending))
        assert (each.failed_files, each.failed_bytes) == (len(failed), sum(failed))
    assert len(season.standings) == len(by_delivery) == 4, "the retired one stored something"
    last: dict[tuple, datetime] = {}
    for file in recount.files:
        if file["finished_at"] is not None and file["was"] in ("uploaded", "skipped"):
            key = (file["delivery"], file["bucket"])
            last[key] = max(file["finished_at"], last.get(key, file["finished_at"]))
    told = {(each.delivery, each.bucket): each.last_success_at for each in season.standings}
    assert told == {key: last.get(key) for key in by_delivery}
    days = {
        (cycle.client, cycle.project, cycle.cycle, sensor, day, *told)
        for cycle in season.cycles
        for sensor, its in cycle.sensors.items()
        for day, amount in its.items()
        for told in [(amount.files, amount.bytes, amount.failed)]
    }
    assert days == recount.sensor_days()
    types: dict[tuple, tuple[int, int]] = {}
    for client, project, _, cycle, kind, files, size in recount.cycle_comparison():
        before = types.get((client, project, cycle, kind), (0, 0))
        types[client, project, cycle, kind] = (before[0] + files, before[1] + size)
    assert types == {
        (store.client, store.project, store.cycle, kind): (amount.files, amount.bytes)
        for store in season.stores
        for kind, amount in store.by_type.items()
    }
    assert {(f.client, f.project, f.delivery, f.sensor, f.path) for f in season.failures} == {
        row[:5] for row in recount.recent_failures()
    }
    assert [f.failed_at for f in season.failures] == sorted(
        (f.failed_at for f in season.failures), reverse=True
    )


def test_two_companies_projects_of_one_name_never_merge(ledger, database):
    live(ledger, database)
    for client, deliveries in {"acme": 3, "zeta": 1}.items():
        season = ledger.season(
            SeasonScope(clients=(client,), projects=("forest",)), most_failures=9
        )
        assert {each.client for each in season.standings} == {client}
        assert len(season.standings) == deliveries
        named = [*season.stores, *season.cycles, *season.failures]
        assert {each.client for each in named} == {client}
    narrowed = ledger.season(SeasonScope(cycles=("C2",)), most_failures=500)
    assert {each.cycle for each in (*narrowed.standings, *narrowed.stores, *narrowed.cycles)} == {
        "C2"
    }
    assert {each.delivery for each in narrowed.failures} == {"acme-c2"}
    assert sorted(ledger.season_names()) == [
        ("acme", "forest", "C1"), ("acme", "forest", "C2"), ("zeta", "forest", "C1")
    ]  # fmt: skip


SITUATIONS = (
    "UPDATE daemons SET ended_at = now()",
    "UPDATE deliveries SET enabled = false",
    "UPDATE delivery_status SET state = 'offline', reason = 'no such folder'",
    "UPDATE delivery_status SET state = 'blocked'",
    "UPDATE delivery_status SET state = 'paused'",
    "UPDATE delivery_status SET settling = 3",
    "UPDATE delivery_status SET last_complete_sweep_at = NULL",
    "UPDATE delivery_status SET last_sweep_complete = false, last_sweep_problem = NULL",
    (
        "INSERT INTO object_checks (upload_id, delivery_id, method, result, reason, checked_at)"
        " SELECT min(id), delivery_id, 'head', 'different', 'size', now() FROM file_uploads"
        " WHERE state = 'uploaded' GROUP BY delivery_id"
    ),
)


def test_page_and_dashboard_agree_on_what_is_not_safe(ledger, database):
    place = register(ledger, *TWO_CLIENTS, binding("quiet", client="zeta", s3_prefix="C7"))
    calm = (
        "INSERT INTO delivery_status (delivery_id, state, last_complete_sweep_at,"
        " last_sweep_complete) SELECT id, 'watching', now(), true FROM deliveries"
        " ON CONFLICT (delivery_id) DO UPDATE SET state = 'watching', reason = NULL, settling = 0,"
        " last_complete_sweep_at = now(), last_sweep_complete = true, last_sweep_problem = NULL"
    )

    def unsafe_deliveries() -> tuple[set, set]:
        season = ledger.season(ALL, most_failures=1)
        mine = {(each.delivery, each.bucket) for each in season.standings if open_things(each)}
        rows = read(
            database, f"SELECT delivery, bucket FROM grafana.delivery_progress WHERE {UNSAFE}"
        )
        return mine, {(row["delivery"], row["bucket"]) for row in rows}

    ask(database, calm)
    assert unsafe_deliveries() == (set(), set())
    assert len(place.delivery_ids) == 4
    for situation in SITUATIONS[:-1]:
        ask(database, situation)
        mine, theirs = unsafe_deliveries()
        assert mine == theirs, situation
        assert bool(mine) == ("enabled = false" not in situation), situation
        ask(database, calm)
        ask(database, "UPDATE deliveries SET enabled = true")
        ask(database, "UPDATE daemons SET ended_at = NULL, heartbeat_at = now()")
    live_through_a_season(ledger, database, fold=True)
    ask(database, calm)
    for situation in SITUATIONS:
        ask(database, situation)
        mine, theirs = unsafe_deliveries()
        assert mine == theirs, situation
    assert ("acme-c2", "acme-forest") in mine, "a retired delivery's objects may be damaged, too"


def test_cycles_beyond_the_limit_are_named_and_not_read(ledger, database, monkeypatch):
    live(ledger, database)
    monkeypatch.setattr(reading, "MOST_SENSORS", 3)
    season = ledger.season(ALL, most_failures=1)
    assert [each.left_out for each in season.cycles] == [False, True, True]
    assert season.cycles[0].sensors
    assert len(season.failures) == 1


def test_speed_and_time_left_are_those_of_the_running_session(ledger, database):
    live(ledger, database)
    told = {
        row["delivery"]: row
        for row in read(database, "SELECT * FROM grafana.session_progress WHERE state <> 'ended'")
    }
    assert any(row["files_per_second"] is not None for row in told.values())
    for each in ledger.season(ALL, most_failures=1).standings:
        row = told.get(each.delivery) if each.state != "retired" else None
        assert (each.files_per_second is None) == (row is None)
        if row is not None:
            assert each.files_per_second == pytest.approx(row["files_per_second"], rel=0.2)
            assert (each.eta is None) == (row["eta"] is None)
