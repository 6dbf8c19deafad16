"""Every SQL query of every dashboard, as Grafana would send it, on a ledger that has seen all."""

from __future__ import annotations

import psycopg2
import psycopg2.extras
import pytest
from grafana_stand_in import Panel, queries, sql_of
from test_ledger import ask, register
from test_views import TWO_CLIENTS, live_through_a_season

POSTGRESQL = "grafana-postgresql-datasource"
ASKED = [each for each in queries() if each.source == POSTGRESQL]
NAMES = ("client", "project", "cycle", "delivery")


def rows(database: str, query: str, values, **span) -> list[dict]:
    """Ask as the role that Grafana signs in with."""
    connection = psycopg2.connect(database, options="-c timezone=UTC")
    try:
        with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute("SET ROLE sensordrop_grafana")
            cursor.execute(sql_of(query, values, **span))
            return [dict(row) for row in cursor.fetchall()]
    finally:
        connection.close()


def every(database: str) -> dict[str, list[str]]:
    """Give what `All` stands for, as the variables' own queries find it, one after the other."""
    values: dict[str, list[str]] = {}
    variables = {q.title: q.query for q in ASKED if q.board == "season-overview"}
    for name in NAMES:
        found = rows(database, variables[f"variable {name}"], values)
        values[name] = [row[name] for row in found]
    return values


@pytest.fixture
def seasoned(ledger, database):
    """Give a ledger with two clients, retries, conflicts, what failed, and what was damaged."""
    live_through_a_season(ledger, database, fold=True)
    register(ledger, *TWO_CLIENTS)
    ask(
        database,
        "INSERT INTO object_checks (upload_id, delivery_id, method, result, reason, checked_at)"
        " SELECT id, delivery_id, 'head', 'missing', 'it is not in the bucket', now()"
        " FROM file_uploads WHERE state = 'uploaded' AND is_current ORDER BY id LIMIT 2",
    )
    ask(database, "UPDATE daemons SET heartbeat_at = now() - interval '1 hour'")
    return database


def test_every_panel_has_an_answer(seasoned):
    values = every(seasoned)
    assert values["client"] == ["acme", "zeta"]
    empty = [each.id for each in ASKED if not rows(seasoned, each.query, values)]
    assert empty == []


def test_one_choice_narrows_every_panel_down(seasoned):
    values = {**every(seasoned), "client": ["zeta"]}
    shown, labelled = 0, 0
    for each in ASKED:
        found = rows(seasoned, each.query, values)
        clients = {row["client"] for row in found if "client" in row}
        assert clients <= ({"zeta"} if "variable client" not in each.title else {"acme", "zeta"})
        labels = {row["metric"] for row in found if "metric" in row}
        assert all(label.startswith("zeta / ") for label in labels), each.id
        shown += "zeta" in clients
        labelled += bool(labels)
    assert shown > 5, "what was chosen is still shown"
    assert labelled > 0


def test_names_can_not_get_out_of_their_quotes(seasoned):
    hostile = ["x'); DROP TABLE file_uploads; --", "acme"]
    values = {**every(seasoned), "client": hostile}
    for each in ASKED:
        rows(seasoned, each.query, values)
    assert ask(seasoned, "SELECT count(*) FROM file_uploads")[0][0] > 0


@pytest.mark.usefixtures("ledger")
def test_no_panel_fails_on_a_ledger_that_is_still_empty(database):
    nothing: dict[str, list[str]] = {name: [] for name in NAMES}
    for each in ASKED:
        rows(database, each.query, nothing)


def test_the_time_that_is_shown_limits_what_is_drawn(seasoned):
    values = every(seasoned)
    (drawn,) = [each for each in ASKED if each.title.startswith("Coverage")]
    whole = rows(seasoned, drawn.query, values)
    part = rows(seasoned, drawn.query, values, since="2025-09-01", until="2025-09-02")
    assert {row["time"].date().isoformat() for row in part} == {"2025-09-01", "2025-09-02"}
    assert len(whole) > len(part)
    for row in whole:
        assert row["share"] >= 0
    assert any(row["share"] == 0 for row in whole), "days between others that have nothing"


def test_series_come_in_the_order_of_time(seasoned):
    values = every(seasoned)
    drawn: list[Panel] = [each for each in ASKED if '"time"' in each.query]
    assert len(drawn) >= 4
    for each in drawn:
        times = [row["time"] for row in rows(seasoned, each.query, values)]
        assert times == sorted(times), each.id
