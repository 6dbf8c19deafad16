"""The page's coverage: a row for each sensor, a column for each day or week."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from itertools import groupby

from sensordrop.cli.demo_progress import size_text
from sensordrop.core.markup import Markup, element, name
from sensordrop.core.season import Cell, Coverage, CycleSensors, Level, Row, coverage

LOOKS = {
    Level.OUTSIDE: "out",
    Level.GAP: "gap",
    Level.SPARSE: "l1",
    Level.PARTLY: "l2",
    Level.USUAL: "l3",
}
"""How each level is called in the style sheet."""
NARROWEST_MONTH = 4
"""Columns that a month needs to be written above them."""


def coverage_section(cycles: Sequence[CycleSensors]) -> Markup:
    """Draw every cycle's sensors."""
    drawn = []
    for each in cycles:
        heading = element(
            "h3",
            name(each.client),
            " / ",
            name(each.project),
            " / ",
            name(each.cycle, empty="none"),
        )
        laid = coverage(each.sensors)
        if each.left_out:
            words = "Not drawn, to keep this page small: make one of its own with --cycle."
            drawn.append(element("div", heading, element("p", words, class_="empty")))
        elif laid is not None:
            drawn.append(element("div", heading, _heading(laid), _heat(laid), class_="coverage"))
    return element(
        "section",
        element("h2", "Coverage: which sensor has which days"),
        _legend() if drawn else element("p", "No sensor has any file yet.", class_="empty"),
        *drawn,
        id="coverage",
    )


def _legend() -> Markup:
    meanings = {
        Level.USUAL: "a usual day",
        Level.PARTLY: "less than ¾ of one",
        Level.SPARSE: "less than ¼",
        Level.GAP: "nothing, between days that have files",
        Level.OUTSIDE: "before the first or after the last file",
    }
    keys = [(LOOKS[level], words) for level, words in meanings.items()]
    keys.append((f"{LOOKS[Level.USUAL]} failed", "with quarantined files"))
    return element(
        "p",
        *[
            element("span", element("span", class_=f"key {look}"), f" {words}", class_="meaning")
            for look, words in keys
        ],
        class_="legend",
    )


def _heading(laid: Coverage) -> Markup:
    gaps = sum(1 for row in laid.rows if row.gap_days)
    words = (
        f"{_sensors(len(laid.rows))}, {_day(laid.first)} to {_day(laid.last)}, "
        f"a column for each {'day' if laid.column_days == 1 else 'week'}; "
        f"a usual day has {laid.usual_files:,.0f} files."
    )
    if gaps:
        words += f" Sensors with days without any file between their first and last: {gaps:,}."
    return element("p", words)


def _heat(laid: Coverage) -> Markup:
    table = element(
        "table",
        element("thead", _months(laid), _days(laid) if laid.columns <= 45 else None),
        element("tbody", *[_row(row, laid) for row in laid.rows]),
        class_="heat",
        style=f"--columns:{laid.columns}",
    )
    return element("div", table, class_="scroll", tabindex=0)


def _months(laid: Coverage) -> Markup:
    cells = []
    days = [laid.column(at) for at in range(laid.columns)]
    for (_, _), members in groupby(days, key=lambda day: (day.year, day.month)):
        month = list(members)
        wide = len(month) >= NARROWEST_MONTH
        year = " %Y" if month[0].month == 1 or month[0] == laid.first else ""
        cells.append(
            element("th", f"{month[0]:%b{year}}" if wide else "", colspan=len(month), scope="col")
        )
    return element(
        "tr", element("td", "Sensor", class_="corner"), *cells,
        element("th", "Files", class_="sum", scope="col"),
        element("th", "Gaps", class_="sum", scope="col"),
    )  # fmt: skip


def _days(laid: Coverage) -> Markup:
    """Number the columns, where they are few enough for it."""
    numbers = [element("th", laid.column(at).day, class_="day") for at in range(laid.columns)]
    return element("tr", element("td", class_="corner"), *numbers, element("td"), element("td"))


def _row(row: Row, laid: Coverage) -> Markup:
    gaps = f"{row.gap_days:,} d" if row.gap_days else ""
    stray = None
    if row.strays:
        first, last = row.stray_days
        days = _day(first) if first == last else f"{_day(first)} to {_day(last)}"
        words = f"{row.strays:,} files are dated {days}, outside of this drawing: a wrong clock?"
        stray = element("abbr", f"⚠ {row.strays:,}", title=words, class_="stray")
    return element(
        "tr",
        element("th", name(row.sensor, empty="no sensor"), scope="row"),
        *[_cell(cell, laid, at) for at, cell in enumerate(row.cells)],
        element("td", f"{row.total.files:,}", " " if stray else None, stray, class_="sum"),
        element("td", gaps, class_="sum"),
    )


def _cell(cell: Cell, laid: Coverage, at: int) -> Markup:
    if cell.level is Level.OUTSIDE:
        return element("td", class_=LOOKS[cell.level])
    day = laid.column(at)
    when = _day(day)
    if laid.column_days > 1:
        when += f" to {_day(day + timedelta(days=laid.column_days - 1))}"
    amount = cell.amount
    words = f"{amount.files:,} files, {size_text(amount.bytes)}" if amount.files else "no file"
    look = LOOKS[cell.level]
    if amount.failed:
        words += f", {amount.failed:,} of them quarantined"
        look += " failed"
    return element("td", class_=look, title=f"{when}: {words}")


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def _sensors(number: int) -> str:
    return f"{number:,} sensor{'' if number == 1 else 's'}"
