"""The fixtures of tests/e2e/station_fixtures.py, for the tests in this folder."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "contract"), str(TESTS / "e2e")]

from station_fixtures import ledger_url, make_station, moto  # noqa: E402, F401 — found by name
