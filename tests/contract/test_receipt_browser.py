"""A receipt's page in a real browser: the verdict is what one sees, and nothing is loaded."""

from __future__ import annotations

import pytest
from browser import browser, needs_browser, opened

from sensordrop.adapters.receipt_page import page
from sensordrop.core.receipt_form import digest_of

EVIL = "<img src=https://elsewhere.example.org/x onerror=alert(1)><script>alert(2)</script>\"'"


def document(verdict: str, **changes) -> dict:
    counts = {
        "stored": {"files": 9_998, "bytes": 128_000_000_000},
        "skipped": {"files": 3, "bytes": 12},
        "quarantined": {"files": 1, "bytes": 7},
        "pending": {"files": 1, "bytes": 8},
    }
    own = {**counts, "verdict": verdict, "problems": 0}
    return {
        "verdict": verdict,
        "scope": {"delivery": EVIL, "sensor": None, "card": None},
        "client": EVIL, "project": EVIL, "cycle": "C2", "folder": "/srv/drop", "station": "hut",
        "stores": [{"endpoint_url": "", "address": "http://store.example.org", "bucket_name": "birds", "s3_prefix": "C2"}],
        "reread": False, "counts": counts,
        "sensors": {EVIL: own, **{f"95{n:04}": own for n in range(40)}},
        "gone": 2, "conflicts": 1, "ignored": {"junk": 3}, "problems": [], "problems_left_out": 0,
        "payload_oxum": "128000000000.9998", "made_at": "2026-06-20T12:00:00+00:00",
        "made_by": "sensordrop 1", "public_key": "ed25519:AA==", "signature": "AA==",
        "manifest": {"name": "manifest-sha256.txt", "sha256": "0" * 64, "bytes": 1},
        **changes,
    }  # fmt: skip


@needs_browser
@pytest.mark.parametrize("width", [1280, 360])
def test_the_verdict_is_what_one_sees_first_and_nothing_is_loaded(tmp_path, width):
    problems = [
        {"path": EVIL, "reason": EVIL},
        {"path": "", "reason": "its last sweep was partial"},
    ]
    told = {
        "SAFE": document("SAFE"),
        "NOT SAFE": document("NOT SAFE", problems=problems, problems_left_out=12_000),
    }
    with browser() as running:
        for verdict, each in told.items():
            file = tmp_path / "receipt.html"
            file.write_text(page(each), encoding="utf-8")
            with opened(running, file, viewport={"width": width, "height": 800}) as (
                shown,
                noticed,
            ):
                large = shown.locator("#verdict strong")
                assert large.inner_text() == verdict
                size = large.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
                body = shown.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")
                assert size > 2.5 * body
                assert large.bounding_box()["y"] < 400
                wide = shown.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, "nobody scrolls sideways"
                assert shown.locator("#counts tbody tr").count() == 5
                assert "10,003" in shown.locator("#counts").inner_text()
                square = shown.locator("svg[role=img]").bounding_box()
                assert square["width"] == pytest.approx(square["height"], abs=1)
                assert square["width"] > 100
                assert digest_of(each) in shown.locator("#proof").inner_text()
                assert shown.locator("script, img").count() == 0
                assert "http://store.example.org" in shown.locator("#about").inner_text()
                assert verdict in shown.locator("#sensors tbody tr").first.inner_text()
                if verdict == "NOT SAFE":
                    assert "12,002" in shown.locator("#problems h2").inner_text()
                    assert EVIL in shown.locator("#problems tbody").inner_text()
                else:
                    assert shown.locator("#problems").count() == 0
                assert noticed == [f"asked for {file.as_uri()}"]
