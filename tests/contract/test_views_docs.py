"""docs/GRAFANA_QUERIES.md tells the views as they are, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recount import read
from test_views import live_through_a_season

PAGE = Path(__file__).parents[2] / "docs" / "GRAFANA_QUERIES.md"


@pytest.mark.usefixtures("ledger")
def test_the_page_tells_every_view_with_its_columns_and_their_types(database):
    sections = re.split(r"^### `(\w+)`$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = {
        view: re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| \S", text, re.MULTILINE)
        for view, text in zip(sections[1::2], sections[2::2], strict=True)
    }
    there: dict[str, list[tuple[str, str]]] = {}
    for row in read(
        database,
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'grafana' ORDER BY table_name, ordinal_position",
    ):
        there.setdefault(row["table_name"], []).append((row["column_name"], row["data_type"]))
    assert told == there


def test_every_example_runs_and_most_find_something(ledger, database):
    live_through_a_season(ledger, database, fold=True)
    text = PAGE.read_text(encoding="utf-8")
    examples = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(examples) == len(re.findall(r"^### ", text, re.MULTILINE))
    empty = [sql for sql in examples if not read(database, sql.replace("'default'", "'acme'"))]
    assert len(empty) <= 2, empty  # nothing is stalled, and no sensor stopped early
