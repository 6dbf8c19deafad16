"""The season's overview as one page of HTML: no script, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import groupby

from sensordrop.cli.demo_progress import size_text
from sensordrop.cli.report_coverage import coverage_section
from sensordrop.core.markup import Inside, Markup, element, joined, name
from sensordrop.core.season import (
    Amount,
    CycleStore,
    OpenKind,
    Season,
    SeasonFailure,
    Standing,
    Weight,
    open_things,
)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Even if a name got out of its place, nothing would run and nothing would be loaded."""

LOOKS = {Weight.PERSON: "person", Weight.BLIND: "blind", Weight.WAITING: "waiting"}
"""How each weight is called in the style sheet."""
MARKS = {
    OpenKind.MISMATCHED: "needs a person",
    OpenKind.FAILED: "needs a person",
    OpenKind.UNSEEN: "not looked at",
    OpenKind.STOPPED: "stopped",
    OpenKind.WAITING: "on its way",
    OpenKind.SETTLING: "on its way",
}
"""What is written before each open thing, so that colour is not all that tells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFacts:
    """What a page says of itself."""

    ledger: str
    """Which ledger it was made from, without a password."""
    version: str
    about: str
    """What it was narrowed down to; '' if it is about everything."""


def page(season: Season, facts: PageFacts) -> str:
    """Give the page."""
    style = files("sensordrop.cli").joinpath("report.css").read_text(encoding="utf-8")
    title = "Season overview" + (f": {facts.about}" if facts.about else "")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        Markup(f"<style>{style}</style>"),
    )
    body = element(
        "body",
        element("header", element("h1", "Season overview"), _about(season, facts)),
        element("main", *_sections(season)),
        element("footer", _footer(season, facts)),
    )
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en").text + "\n"


def _about(season: Season, facts: PageFacts) -> Markup:
    return element(
        "p",
        facts.about or "Everything in the ledger",
        " · ",
        element("time", moment(season.at), datetime=season.at.isoformat(timespec="seconds")),
        class_="about",
    )


def _footer(season: Season, facts: PageFacts) -> Markup:
    return element(
        "p",
        f"Made at {moment(season.at)} by sensordrop {facts.version} from the ledger ",
        name(facts.ledger),
        ". All times are UTC; days are those that recorders wrote into file names, or else UTC "
        "days of modification.",
    )


def _sections(season: Season) -> list[Markup]:
    if not season.standings:
        words = (
            "There is no delivery here yet. Deliveries appear when sensordropd has run on this "
            "ledger with a folder configured."
        )
        return [element("section", element("p", words), class_="banner none", id="verdict")]
    return [
        _banner(season),
        _tiles(season),
        _open_section(season.standings),
        _progress_section(season.standings),
        coverage_section(season.cycles),
        _failures_section(season),
        _stores_section(season.stores),
    ]


# --- the answer first ---------------------------------------------------------------------


def _banner(season: Season) -> Markup:
    weights = [things[0].weight for each in season.standings if (things := open_things(each))]
    if weights:
        words = f"Not safe yet: {len(weights)} of {_deliveries(len(season.standings))}"
        look = LOOKS[min(weights)]
    else:
        words, look = "Nothing is known to be open", "none"
    return element(
        "section",
        element("strong", words),
        element(
            "p",
            "No page can tell that a card may be wiped: for that, ask ",
            element("code", "sensordrop receipt"),
            " right before.",
        ),
        class_=f"banner {look}",
        id="verdict",
    )


def _tiles(season: Season) -> Markup:
    stored = _sum((each.stored_files, each.stored_bytes) for each in season.standings)
    waiting = _sum((each.waiting_files, each.waiting_bytes) for each in season.standings)
    failed = _sum((each.failed_files, each.failed_bytes) for each in season.standings)
    sensors = sum(len(each.sensors) for each in season.cycles)
    return element(
        "section",
        _tile("stored", "Stored", f"{stored.files:,}", size_text(stored.bytes)),
        _tile("waiting", "Not stored yet", f"{waiting.files:,}", size_text(waiting.bytes)),
        _tile("failed", "Quarantined", f"{failed.files:,}", size_text(failed.bytes)),
        _tile("sensors", "Sensors with files", f"{sensors:,}", ""),
        _tile("deliveries", "Deliveries", f"{len(season.standings):,}", ""),
        class_="tiles",
    )


def _tile(what: str, words: str, number: str, beside: str) -> Markup:
    return element(
        "div",
        element("span", words, class_="what"),
        element("b", number),
        element("span", beside, class_="beside") if beside else None,
        class_="tile",
        id=f"tile-{what}",
    )


def _open_section(standings: Sequence[Standing]) -> Markup:
    found = [(things, each) for each in standings if (things := open_things(each))]
    found.sort(key=lambda pair: (pair[0][0].weight, _place(pair[1])))
    articles = []
    for things, each in found:
        lines = [
            element(
                "li",
                element("span", MARKS[thing.kind], class_=f"mark {LOOKS[thing.weight]}"),
                " ",
                thing.words,
            )
            for thing in things
        ]
        articles.append(
            element(
                "article",
                element("h3", name(each.delivery)),
                _where(each),
                element("ul", *lines),
                element("p", f"last stored {moment(each.last_success_at)}", class_="times")
                if each.last_success_at
                else None,
            )
        )
    return _section(
        "open",
        "What is not safe yet",
        *(articles or [element("p", "Nothing that the ledger knows of.", class_="empty")]),
    )


# --- progress -----------------------------------------------------------------------------


def _progress_section(standings: Sequence[Standing]) -> Markup:
    groups = []
    ordered = sorted(standings, key=_place)
    for (client, project, cycle), members in groupby(
        ordered, key=lambda each: (each.client, each.project, each.cycle)
    ):
        rows = list(members)
        groups.append(
            element(
                "div",
                element("h3", name(client), " / ", name(project), " / ", name(cycle, empty="none")),
                _bar(rows, whole=True) if len(rows) > 1 else None,
                *[_delivery(each) for each in rows],
                class_="cycle",
            )
        )
    return _section("progress", "Progress", *groups)


def _delivery(each: Standing) -> Markup:
    told = each.daemon_alive or each.state in {"disabled", "retired"}
    state = each.state if told else "not running"
    words = [f"{each.stored_files:,} files stored, {size_text(each.stored_bytes)}"]
    if each.known_files:
        words.insert(0, _share(each))
    if each.waiting_files and each.files_per_second:
        words.append(f"{each.files_per_second:,.1f} files/s")
    if each.waiting_files and each.eta:
        words.append(f"done about {moment(each.eta)}")
    return element(
        "div",
        element(
            "div",
            element("strong", name(each.delivery)),
            element("span", state, class_="state"),
            element("span", " · ".join(words), class_="numbers"),
            class_="line",
        ),
        _bar([each]),
        class_="delivery",
    )


def _bar(rows: Sequence[Standing], *, whole: bool = False) -> Markup:
    stored = sum(each.stored_files for each in rows)
    waiting = sum(each.waiting_files + each.settling_files for each in rows)
    failed = sum(each.failed_files for each in rows)
    total = stored + waiting + failed
    words = f"{stored:,} of {total:,} files stored, {waiting:,} waiting, {failed:,} quarantined"
    parts = [
        element("span", class_=look, style=f"flex-grow:{number}")
        for look, number in (("stored", stored), ("failed", failed), ("waiting", waiting))
        if number
    ]
    return element(
        "div",
        *parts,
        class_="bar whole" if whole else "bar",
        role="img",
        aria_label=words,
        title=words,
    )


def _share(each: Standing) -> str:
    """Write the share that is stored; never 100% while anything is not."""
    share = 100 * each.share_stored
    return "100%" if share >= 100 else f"{min(share, 99.9):.1f}%"


# --- what failed, and what there is -------------------------------------------------------


def _failures_section(season: Season) -> Markup:
    total = sum(each.failed_files for each in season.standings)
    if not season.failures:
        words = "No file is quarantined." if not total else "None of them is on the books any more."
        return _section("failures", "Failures", element("p", words, class_="empty"))
    shown = f"The newest {len(season.failures):,} of {total:,}."
    return _section(
        "failures",
        "Failures",
        element("p", shown) if total > len(season.failures) else None,
        _table(
            ("When", "Delivery", "Sensor", "File", "What", "Tries"),
            [_failure(each) for each in season.failures],
        ),
    )


def _failure(each: SeasonFailure) -> list[Inside]:
    return [
        moment(each.failed_at),
        joined(name(each.delivery), element("small", name(each.client), " / ", name(each.project))),
        name(each.sensor, empty="none"),
        element("span", name(each.path), class_="path"),
        joined(element("code", each.error_class), " ", name(each.error)),
        each.attempts,
    ]


def _stores_section(stores: Sequence[CycleStore]) -> Markup:
    kinds = [
        kind
        for kind in ("audio", "image", "video", "sidecar", "other")
        if any(store.by_type.get(kind, Amount()).files for store in stores)
    ]
    rows: list[list[Inside]] = []
    for store in sorted(stores, key=lambda each: (each.client, each.project, each.cycle)):
        total = sum(store.by_type.values(), Amount())
        where = joined(
            name(store.client), " / ", name(store.project), " / ", name(store.cycle, empty="none")
        )
        amounts = [store.by_type.get(kind, Amount()) for kind in kinds]
        rows.append([where, *[_amount(each) for each in (*amounts, total)]])
    return _section(
        "stores",
        "What is in the buckets",
        _table(("Client / project / cycle", *[kind.capitalize() for kind in kinds], "All"), rows)
        if rows
        else element("p", "Nothing yet.", class_="empty"),
    )


def _amount(amount: Amount) -> Inside:
    if not amount.files:
        return "none"
    return joined(f"{amount.files:,}", element("small", size_text(amount.bytes)))


# --- pieces -------------------------------------------------------------------------------


def moment(at: datetime) -> str:
    """Write a time for people."""
    return f"{at.day} {at:%b %Y %H:%M} UTC"


def _section(identity: str, title: str, *inside: Inside) -> Markup:
    return element("section", element("h2", title), *inside, id=identity)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Inside]]) -> Markup:
    """Make a table whose cells carry their column's name, so that a phone can stack them."""
    return element(
        "table",
        element("thead", element("tr", *[element("th", head, scope="col") for head in heads])),
        element(
            "tbody",
            *[
                element(
                    "tr",
                    *[
                        element("td", element("div", cell), data_head=head)
                        for head, cell in zip(heads, row, strict=True)
                    ],
                )
                for row in rows
            ],
        ),
        class_="rows",
    )


def _where(each: Standing) -> Markup:
    return element(
        "p",
        name(each.client), " / ", name(each.project), " / ", name(each.cycle, empty="no cycle"),
        " · bucket ", name(each.bucket),
        joined(" · station ", name(each.station)) if each.station else " · shared by stations",
        class_="where",
    )  # fmt: skip


def _place(each: Standing) -> tuple[str, str, str, str, str]:
    return each.client, each.project, each.cycle, each.delivery, each.station or ""


def _sum(pairs: Iterable[tuple[int, int]]) -> Amount:
    return sum((Amount(files=files, bytes=size) for files, size in pairs), Amount())


def _deliveries(number: int) -> str:
    return f"{number:,} {'delivery' if number == 1 else 'deliveries'}"
