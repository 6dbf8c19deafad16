"""The fixtures of station_fixtures.py, for the tests in this folder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))

from batch_hand import hand  # noqa: F401 — likewise
from station_fixtures import (  # noqa: F401 — pytest finds fixtures by their names here
    ledger_url,
    make_station,
    moto,
    rclone,
    rclone_station,
    station,
)
