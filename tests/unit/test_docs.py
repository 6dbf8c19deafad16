"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
CODE = ROOT / "daemon" / "sensordrop"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_architecture_names_only_what_is_there():
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:core|adapters|engine|config|cli|sql|tests)/[\w/.]*)`", text)
    assert len(paths) > 10
    for path in paths:
        assert (CODE / path).exists() or (ROOT / path).exists(), path
    rooms = [p.name for p in CODE.iterdir() if p.is_dir() and p.name not in {"__pycache__", "sql"}]
    assert [room for room in rooms if f"`{room}/`" not in text] == []


def test_every_table_is_described():
    schema = (ROOT / "sql" / "schema.sql").read_text(encoding="utf-8")
    tables = set(re.findall(r"CREATE TABLE (\w+)", schema))
    page = (ROOT / "docs" / "DATABASE_SCHEMA.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`(\w+)`", page))
    assert tables - described == set()


def test_the_makefile_has_the_targets_that_are_named():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = set()
    for page in PAGES:
        named = re.findall(r"\bmake ([a-z][a-z-]+)\b", page.read_text(encoding="utf-8"))
        shell = [n for n in named if n not in {"it", "them", "the", "sure", "one"}]
        assert set(shell) <= targets, page
        seen |= set(shell)
    assert {"demo", "soak", "bench"} <= seen


def test_every_failure_class_of_the_code_is_told():
    told = set(
        re.findall(
            r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs" / "failures.md").read_text(), re.MULTILINE
        )
    )
    used = set()
    for module in CODE.rglob("*.py"):
        used |= set(re.findall(r'error_class="([a-z0-9-]+)"', module.read_text(encoding="utf-8")))
    for sql in CODE.rglob("*.sql"):
        used |= set(re.findall(r"'file', '([a-z-]+)'", sql.read_text(encoding="utf-8")))
    assert len(used) > 30
    assert used <= told
