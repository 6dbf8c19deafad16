"""The dashboards: what is committed is what the code builds, and every panel explains itself."""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path

import pytest
from grafana_foundation_sdk.models import dashboard

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "packaging" / "grafana"), str(ROOT / "tests" / "contract")]

from grafana_stand_in import FOLDER, boards, shown_panels  # noqa: E402

from make_dashboards import BOARDS, as_json  # noqa: E402
from panels import POSTGRESQL, SCOPE, register  # noqa: E402

PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in boards().items()
    for panel in shown_panels(board)
]


def difference(one: str, other: str) -> str:
    return "\n".join(difflib.unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=1))


@pytest.mark.parametrize("name", BOARDS)
def test_what_is_committed_is_what_the_code_builds(name):
    committed = (FOLDER / name).read_text(encoding="utf-8")
    built = as_json(BOARDS[name]())
    assert built == committed, f"make dashboards\n{difference(committed, built)}"


def test_nothing_else_is_committed():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_the_sdk_reads_back_what_it_wrote(name):
    register()
    committed = (FOLDER / name).read_text(encoding="utf-8")
    again = as_json(dashboard.Dashboard.from_json(json.loads(committed)))
    assert again == committed, difference(committed, again)


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_says_what_it_shows_in_which_unit_and_from_where_on_it_is_bad(panel):
    assert re.fullmatch(r"[A-Z].{20,}\.", panel["description"]), panel["description"]
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    kinds = {target["datasource"]["type"] for target in panel["targets"]}
    assert kinds == {panel["datasource"]["type"]}, "one source for a panel"
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == sorted(set(letters)), "Grafana drops one of two queries of one name"


@pytest.mark.parametrize("name", [name.removesuffix(".json") for name in BOARDS])
def test_every_dashboard_lets_its_reader_choose(name):
    board = boards()[name]
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert {"ledger", "prometheus", *SCOPE} <= set(variables)
    for each in SCOPE:
        assert variables[each]["multi"]
        assert variables[each]["includeAll"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def test_both_sources_are_used_and_each_panel_fits_its_row():
    sources = set()
    for board in boards().values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            boxes = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24, panel["title"]
            assert not boxes & taken, panel["title"]
            taken |= boxes
            sources.add(panel.get("datasource", {}).get("type"))
    assert {POSTGRESQL, "prometheus"} <= sources


def test_runbooks_that_panels_link_to_are_there():
    page = ROOT / "docs" / "operating" / "alerts.md"
    anchors = {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    links = {
        link["url"]
        for board in boards().values()
        for panel in shown_panels(board)
        for link in panel.get("links", [])
    }
    assert len(links) > 8
    assert {url.split("#")[1] for url in links} <= anchors
