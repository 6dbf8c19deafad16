"""What `make mutation` asks is there: its modules, its tests, and the code of each explanation."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "daemon" / "sensordrop" / "core"


@pytest.fixture
def mutate(monkeypatch):
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "tests/mutation/mutate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutate", module)  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def test_the_modules_that_are_changed_and_the_tests_that_are_asked_exist(mutate):
    for module, tests in mutate.TESTS.items():
        assert (CORE / f"{module}.py").is_file()
        assert tests
        for name in tests:
            assert (ROOT / "tests" / "unit" / name).is_file(), name


def test_every_explained_change_is_of_code_that_is_still_there(mutate):
    excused = mutate.excused()
    assert excused
    for line in excused:
        module, _, change = line.partition(": - ")
        code = {text.strip() for text in (CORE / f"{module}.py").read_text().splitlines()}
        assert any(change.startswith((f"{text} + ", f"{text} - ")) for text in code), line


def test_the_guarantees_tell_what_the_last_run_said_of_every_module(mutate):
    page = (ROOT / "docs" / "guarantees.md").read_text()
    told = re.findall(
        r"^core/(\w+)\.py: (\d+) changes, (\d+) noticed, (\d+) explained, 0 not noticed$",
        page,
        re.MULTILINE,
    )
    assert [module for module, *_ in told] == [*mutate.TESTS]
    for module, changes, noticed, explained in told:
        assert int(changes) == int(noticed) + int(explained), module
        mine = [line for line in mutate.excused() if line.startswith(f"{module}: ")]
        assert len(mine) == int(explained), module
