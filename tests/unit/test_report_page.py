"""The overview's page: nothing in it that a name could have put there, and nothing from outside."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser

import pytest

from sensordrop.cli.report_page import PageFacts, page
from sensordrop.core.markup import Markup, element, joined, name
from sensordrop.core.season import (
    Amount,
    CycleSensors,
    CycleStore,
    Season,
    SeasonFailure,
    Standing,
)

NOW = datetime(2026, 6, 20, 12, 34, tzinfo=UTC)
FACTS = PageFacts(ledger="postgresql://ledger.example.org/field", version="1.2.3", about="")
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title><svg onload=alert(1)>",
    "&lt;b&gt;&amp;",
    "javascript:alert(1)",
    "a\u202egnp.exe",
    "line\nbreak\x1b[2J",
    "]]><!--",
]


def standing(**changes) -> Standing:
    facts = {
        "client": "acme", "project": "birds", "cycle": "C2", "delivery": "highlands",
        "station": "hut", "bucket": "birds", "state": "watching", "reason": None,
        "daemon_alive": True, "stored_files": 999, "stored_bytes": 10**9, "waiting_files": 0,
        "waiting_bytes": 0, "settling_files": 0, "failed_files": 0, "failed_bytes": 0,
        "mismatched_objects": 0, "last_success_at": NOW, "last_complete_sweep_at": NOW,
        "last_sweep_problem": None, "files_per_second": None, "eta": None,
    }  # fmt: skip
    return Standing(**{**facts, **changes})


def season(evil: str = "plain", **changes) -> Season:
    """Give a season in which every name and every message is `evil`."""
    place = {"client": evil, "project": evil, "cycle": evil}
    facts = {
        "at": NOW,
        "standings": [
            standing(
                **place, delivery=evil, station=evil, bucket=evil, state="blocked", reason=evil,
                failed_files=1, last_sweep_problem=evil, waiting_files=5, files_per_second=2.5,
                eta=NOW + timedelta(hours=3),
            )
        ],
        "stores": [CycleStore(**place, by_type={"audio": Amount(files=3, bytes=10)})],
        "cycles": [CycleSensors(**place, sensors={evil: {date(2026, 5, 1): Amount(files=3)}})],
        "failures": [
            SeasonFailure(
                client=evil, project=evil, delivery=evil, sensor=evil, path=evil,
                error_class="unreadable", error=evil, attempts=4, failed_at=NOW,
            )
        ],
    }  # fmt: skip
    return Season(**{**facts, **changes})


class Reader(HTMLParser):
    """Counts elements and attributes, keeps the text, and sees that every end has its begin."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.values: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        self.attributes.update(key for key, _ in attrs)
        self.values += [value or "" for _, value in attrs]
        if tag not in {"meta", "br", "hr"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.mark.parametrize("evil", HOSTILE)
def test_a_name_can_only_be_shown(evil):
    plain, hostile = Reader(page(season(), FACTS)), Reader(page(season(evil), FACTS))
    assert hostile.elements == plain.elements
    assert hostile.attributes == plain.attributes
    shown = evil.replace("\u202e", "\\u202e").replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert hostile.text.count(shown) == plain.text.count("plain")


def test_nothing_is_loaded_and_nothing_runs():
    text = page(season("https://elsewhere.example.org/x.png"), FACTS)
    read = Reader(text)
    assert not {"script", "link", "img", "iframe", "object", "form", "a", "base"} & set(
        read.elements
    )
    assert not {"src", "href", "srcset", "action"} & set(read.attributes)
    assert not any(key.startswith("on") for key in read.attributes)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import|expression", style.group(1))
    assert "default-src 'none'; style-src 'unsafe-inline'" in " ".join(read.values)


def test_the_page_answers_first_and_says_whose_answer_it_is():
    text = Reader(page(season("plain"), FACTS)).text
    assert "Not safe yet: 1 of 1 delivery" in text
    assert "1 file quarantined after failures" in text
    assert "done about 20 Jun 2026 15:34 UTC" in text
    assert "Made at 20 Jun 2026 12:34 UTC by sensordrop 1.2.3" in text
    assert "postgresql://ledger.example.org/field" in text


def test_a_season_with_nothing_open_is_not_called_safe():
    text = Reader(page(season(standings=[standing()], failures=[]), FACTS)).text
    assert "Nothing is known to be open" in text
    assert "sensordrop receipt" in text
    assert not re.search(r"\bsafe to\b|\bis safe\b|\bSAFE\b", text)
    assert "No file is quarantined." in text


def test_a_ledger_without_deliveries_says_so():
    nothing = Season(at=NOW, standings=[], stores=[], cycles=[], failures=[])
    text = Reader(page(nothing, FACTS)).text
    assert "There is no delivery here yet" in text
    assert "Nothing is known" not in text


@pytest.mark.parametrize(
    ("stored", "waiting", "words"),
    [(0, 0, None), (999, 1, "99.9%"), (10**7, 1, "99.9%"), (1, 0, "100%"), (1, 2, "33.3%")],
)
def test_a_share_is_never_rounded_to_all(stored, waiting, words):
    text = Reader(
        page(season(standings=[standing(stored_files=stored, waiting_files=waiting)]), FACTS)
    ).text
    assert re.findall(r"[\d.]+%", text) == ([words] if words else [])


def test_cycles_that_were_not_read_are_named():
    left = CycleSensors(client="acme", project="birds", cycle="C9", sensors={}, left_out=True)
    text = Reader(page(season(cycles=[left]), FACTS)).text
    assert "acme / birds / C9" in text
    assert "--cycle" in text


def test_markup_is_made_by_markup_alone():
    assert element("b", "<i>", None, 3).text == "<b>&lt;i&gt;3</b>"
    assert joined("&", element("b", "x")).text == "&amp;<b>x</b>"
    assert element("p", class_="a", aria_label='"', id=None).text == (
        '<p class="a" aria-label="&quot;"></p>'
    )
    assert name("", empty="none") == Markup("<i>none</i>")
