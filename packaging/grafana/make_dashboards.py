"""Writes the dashboards that Grafana is given: `make dashboards`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from delivery_live import delivery_live
from season_overview import season_overview
from station_health import station_health

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = {
    "season-overview.json": season_overview,
    "delivery-live.json": delivery_live,
    "station-health.json": station_health,
}
"""Every dashboard by its file."""


def as_json(board: dashboard.Dashboard) -> str:
    """Give a dashboard as it stands in its file."""
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, build in BOARDS.items():
        (FOLDER / name).write_text(as_json(build()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
