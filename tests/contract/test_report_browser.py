"""The overview's page in a real browser: what a reader sees on a desk, on a phone, at night."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from browser import browser, needs_browser, opened

from sensordrop.cli.report_page import PageFacts, page
from sensordrop.core.season import (
    Amount,
    CycleSensors,
    CycleStore,
    Season,
    SeasonFailure,
    Standing,
)

EVIL = "<img src=https://elsewhere.example.org/x onerror=alert(1)><script>alert(2)</script>\"'"
NOW = datetime(2026, 6, 20, 12, 34, tzinfo=UTC)
DAYS, SENSORS = 120, 30
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 360, "height": 740}}


def rich() -> Season:
    """Give a season with sensors, gaps, failures, and a company that attacks its reader."""
    calm = {
        "station": "hut", "bucket": "birds", "state": "watching", "reason": None,
        "daemon_alive": True, "stored_files": 9_000_000, "stored_bytes": 2 * 10**13,
        "waiting_files": 0, "waiting_bytes": 0, "settling_files": 0, "failed_files": 0,
        "failed_bytes": 0, "mismatched_objects": 0, "last_success_at": NOW,
        "last_complete_sweep_at": NOW, "last_sweep_problem": None, "files_per_second": None,
        "eta": None,
    }  # fmt: skip
    first = date(2026, 2, 1)
    sensors = {
        f"95{n:04}": {
            first + timedelta(day): Amount(files=48, bytes=10**9)
            for day in range(DAYS)
            if not (n == 3 and 50 <= day < 60)
        }
        for n in range(SENSORS)
    }
    acme = {"client": "acme", "project": "birds", "cycle": "C2"}
    evil = {"client": EVIL, "project": EVIL, "cycle": EVIL}
    return Season(
        at=NOW,
        standings=[
            Standing(**calm, **acme, delivery="highlands"),
            Standing(
                **{**calm, "waiting_files": 3_000_000, "failed_files": 12, "reason": EVIL},
                **evil, delivery=EVIL,
            ),
        ],
        stores=[CycleStore(**acme, by_type={"audio": Amount(files=5, bytes=6)})],
        cycles=[
            CycleSensors(**acme, sensors=sensors),
            CycleSensors(**evil, sensors={EVIL: {first: Amount(files=1)}}),
        ],
        failures=[
            SeasonFailure(
                client=EVIL, project=EVIL, delivery=EVIL, sensor=EVIL, path=EVIL * 20,
                error_class="unreadable", error=EVIL, attempts=4, failed_at=NOW,
            )
        ],
    )  # fmt: skip


@pytest.fixture
def written(tmp_path):
    facts = PageFacts(ledger="embedded in /var/lib/sensordrop", version="1.2.3", about="")
    path = tmp_path / "season.html"
    path.write_text(page(rich(), facts), encoding="utf-8")
    return path


def colours(shown) -> tuple[str, str]:
    """Give the colours of the page's ground and its words."""
    script = (
        "() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color] }"
    )
    ground, words = shown.evaluate(script)
    return ground, words


@needs_browser
def test_a_reader_sees_the_season_and_nothing_else(written):
    with browser() as running:
        with opened(running, written, **DESK) as (shown, noticed):
            assert (
                shown.locator("#verdict strong").inner_text() == "Not safe yet: 1 of 2 deliveries"
            )
            assert shown.locator("#tile-stored b").inner_text() == "18,000,000"
            assert shown.locator("#open article").count() == 1
            heat = shown.locator("#coverage table.heat").first
            assert heat.locator("tbody tr").count() == SENSORS
            assert heat.locator("tbody td:not(.sum)").count() == SENSORS * DAYS
            gaps = heat.locator("td.gap")
            assert gaps.count() == 10
            assert gaps.first.get_attribute("title") == "23 Mar 2026: no file"
            assert heat.locator("td.l3").first.bounding_box()["width"] >= 5
            bar = shown.locator("#progress .bar:not(.whole)").first
            parts = [bar.locator(f".{look}").bounding_box()["width"]
                     for look in ("stored", "waiting", "failed")]  # fmt: skip
            assert parts[0] > 2 * parts[1] > 0
            assert parts[2] >= 3, "twelve of twelve million are seen, too"
            assert shown.locator("img, script, a, iframe").count() == 0
            assert EVIL in shown.locator("#failures").inner_text()
            assert shown.evaluate("document.documentElement.scrollWidth") == 1280
            day = colours(shown)
            assert shown.pdf(format="A4")[:5] == b"%PDF-"
            assert noticed == [f"asked for {written.as_uri()}"]
        with opened(running, written, **PHONE, color_scheme="dark") as (shown, noticed):
            assert shown.evaluate("document.documentElement.scrollWidth") == 360, (
                "nothing sticks out"
            )
            night = colours(shown)
            assert night[0] != day[0]
            assert night[1] != day[1]
            assert shown.locator("#coverage .scroll").first.evaluate(
                "e => e.scrollWidth > e.clientWidth"
            ), "the days can be scrolled to"
            assert noticed == [f"asked for {written.as_uri()}"]
