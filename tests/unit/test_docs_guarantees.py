"""What is promised names tests that exist, and each failure class has its page for operators."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUARANTEES = ROOT / "docs" / "guarantees.md"


def test_every_promise_names_tests_that_exist():
    lines = [line for line in GUARANTEES.read_text().splitlines() if line.startswith("| ")]
    promises = [line for line in lines if not line.startswith("| what is promised")]
    assert len(promises) > 15
    for line in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line.rsplit("|", 2)[1])
        assert named, f"no test shows it: {line}"
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_every_failure_class_has_its_section_for_operators():
    table = (ROOT / "docs" / "failures.md").read_text()
    classes = set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE))
    page = (ROOT / "docs" / "operating" / "failures.md").read_text()
    sections = re.findall(r"^### ([a-z0-9-]+)$", page, re.MULTILINE)
    assert len(classes) > 30
    assert sorted(sections) == sorted(classes)
