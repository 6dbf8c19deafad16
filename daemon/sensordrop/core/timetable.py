"""A bandwidth limit as people write it: a rate, or a timetable of rates.

    off
    10M
    20:00-06:00 full, else 10 MiB/s
    Mon-Fri 08:00-18:00 2 MiB/s, Sat,Sun full, else 5 MiB/s Europe/Berlin

Reading needs no clock and no time zones: a zone is only a name here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""The days in the order of their numbers: Monday is 0, as in `datetime.weekday`."""
MINUTES_OF_DAY = 24 * 60

RATE_UNITS = {
    "B": 1.0,
    "k": 1024.0,
    "K": 1024.0,
    "KiB": 1024.0,
    "M": 1024.0**2,
    "MiB": 1024.0**2,
    "G": 1024.0**3,
    "GiB": 1024.0**3,
    "kB": 1000.0,
    "KB": 1000.0,
    "MB": 1000.0**2,
    "GB": 1000.0**3,
    "kbit": 1000 / 8,
    "Mbit": 1000**2 / 8,
    "Gbit": 1000**3 / 8,
}
"""Units of a rate in bytes per second. The letters alone are those of the KiB family."""

LEAST_RATE = 1024.0
"""Bytes per second below which a limit would only make stores give up waiting: that is a pause."""
MOST_RATE = 1024.0**4
"""1 TiB/s: beyond it, somebody slipped with the unit."""
TEXT_LIMIT = 200
"""Characters of a timetable: room for a dozen rules."""

_TOKEN = re.compile(r"[^\s,]+|,")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_AMOUNT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(.*)")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")

Rate = float | None
"""Bytes per second; None: as fast as it goes."""


class TimetableError(ValueError):
    """A limit can't be read. The text says what was expected, and where."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A time of day, in minutes after midnight; `end` is not part of it.

    A span whose end is not after its begin goes over midnight and belongs to the day it begins on.
    """

    begin: int
    end: int


WHOLE_DAY = Span(begin=0, end=MINUTES_OF_DAY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rate that holds on some days (0 is Monday) at some times of day."""

    days: frozenset[int]
    spans: tuple[Span, ...]
    rate: Rate

    def holds(self, weekday: int, minute: int) -> bool:
        """Tell whether it holds in this minute of the clock on the wall."""
        today, yesterday = weekday in self.days, (weekday - 1) % 7 in self.days
        for span in self.spans:
            over_midnight = span.end <= span.begin
            if today and span.begin <= minute and (over_midnight or minute < span.end):
                return True
            if over_midnight and yesterday and minute < span.end:
                return True
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Timetable:
    """What a limit says: the first rule that holds, else `otherwise`."""

    rules: tuple[Rule, ...] = ()
    otherwise: Rate = None
    zone: str | None = None
    """Name of the time zone that the times are in; None: the station's own."""

    def rate(self, weekday: int, minute: int) -> Rate:
        """Give the rate in a minute of the clock on the wall."""
        for rule in self.rules:
            if rule.holds(weekday, minute):
                return rule.rate
        return self.otherwise

    def bounds(self) -> tuple[int, ...]:
        """Give the minutes of a day at which the rate may change."""
        minutes = {m for rule in self.rules for s in rule.spans for m in (s.begin, s.end)}
        return tuple(sorted({0, *(m % MINUTES_OF_DAY for m in minutes)})) if self.rules else ()


FULL_SPEED = Timetable()
"""No limit at any time."""


def parse_timetable(text: str) -> Timetable:
    """Read a limit. Raises TimetableError."""
    if len(text) > TEXT_LIMIT:
        raise TimetableError(f"it has more than {TEXT_LIMIT} characters")
    reader = _Reader(text)
    if reader.next == "":
        raise TimetableError("it is empty: write 'off' for no limit")
    if reader.next.lower() == "off":
        reader.take()
        reader.expect_end()
        return FULL_SPEED
    first = reader.next.lower()
    if first == "else":
        reader.refuse("a day, a span of time or a rate: 'else' comes last")
    if first == "full" or (first[0].isdigit() and not set(first) & {":", "-"}):
        rate = _rate(reader)
        reader.expect_end()
        return Timetable(otherwise=rate)
    return _table(reader)


def rate_text(rate: Rate) -> str:
    """Write a rate the way it is read, in the largest unit that leaves a number above 1."""
    if rate is None:
        return "full"
    for unit in ("GiB", "MiB", "KiB"):
        if rate >= RATE_UNITS[unit]:
            return f"{rate / RATE_UNITS[unit]:.4g} {unit}/s"
    return f"{rate:.4g} B/s"


class _Reader:
    """The words of a text, one after the other, with their places for the complaint."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = [(m.group(), m.start()) for m in _TOKEN.finditer(text)]
        self._at = 0

    @property
    def next(self) -> str:
        """The word that comes, '' at the end."""
        return self._words[self._at][0] if self._at < len(self._words) else ""

    def take(self) -> str:
        word = self.next
        self._at += 1
        return word

    def expect_end(self) -> None:
        if self.next:
            self.refuse("nothing more")

    def refuse(self, expected: str, *, back: int = 0) -> NoReturn:
        """Complain about the word that comes, or one that was taken already."""
        at = self._at - back
        if at >= len(self._words):
            raise TimetableError(f"it ends where {expected} should follow")
        word, position = self._words[at]
        raise TimetableError(f"at character {position + 1}, {word!r}: expected {expected}")


def _table(reader: _Reader) -> Timetable:
    rules: list[Rule] = []
    otherwise: Rate = None
    while True:
        if reader.next.lower() == "else":
            reader.take()
            otherwise = _rate(reader)
            zone = _zone(reader, "nothing more than a time zone: 'else' comes last")
            reader.expect_end()
            break
        rules.append(_rule(reader))
        if reader.next != ",":
            zone = _zone(reader, "a comma and the next rule, or a time zone at the end")
            reader.expect_end()
            break
        reader.take()
    return Timetable(rules=tuple(rules), otherwise=otherwise, zone=zone)


def _rule(reader: _Reader) -> Rule:
    days: set[int] = set()
    spans: list[Span] = []
    while True:
        if found := _days(reader.next):
            if spans:
                reader.refuse("a rate, or another span of time: days come before the times")
            days |= found
            reader.take()
        elif ":" in reader.next or (reader.next[:1].isdigit() and "-" in reader.next):
            spans.append(_span(reader))
        else:
            reader.refuse("a day such as Mon or Mon-Fri, a span such as 20:00-06:00, or 'else'")
        if reader.next == ",":
            reader.take()  # a rule ends with its rate, so this list goes on
            continue
        if not (_days(reader.next) or ":" in reader.next):
            break
    return Rule(
        days=frozenset(days or range(len(DAYS))),
        spans=tuple(spans) or (WHOLE_DAY,),
        rate=_rate(reader),
    )


def _days(word: str) -> set[int]:
    """Read a day or a range of days; empty if it is neither."""
    first, dash, last = word.partition("-")
    begin, end = _day(first), _day(last if dash else first)
    if begin is None or end is None:
        return set()
    return {(begin + n) % 7 for n in range((end - begin) % 7 + 1)}


def _day(word: str) -> int | None:
    wanted = word.lower()
    for number, name in enumerate(DAYS):
        if wanted in (name.lower(), name[:3].lower()):
            return number
    return None


def _span(reader: _Reader) -> Span:
    begin, dash, end = reader.take().partition("-")
    first, last = _minute(begin), _minute(end)
    if not dash or first is None or last is None or first == MINUTES_OF_DAY:
        reader.refuse("a span of time such as 20:00-06:00", back=1)
    if first == last:
        reader.refuse("two different times: for the whole day, leave the times out", back=1)
    return Span(begin=first, end=last)


def _minute(text: str) -> int | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hours, minutes = int(found.group(1)), int(found.group(2))
    total = hours * 60 + minutes
    return total if minutes < 60 and total <= MINUTES_OF_DAY else None


def _rate(reader: _Reader) -> Rate:
    example = "a rate such as 10 MiB/s, or 'full'"
    word = reader.next
    if word.lower() == "full":
        reader.take()
        return None
    if word.lower() == "off":
        reader.refuse("a rate: 'off' stands alone, within a timetable no limit is 'full'")
    found = _AMOUNT.fullmatch(word)
    if found is None:
        reader.refuse(example)
    reader.take()
    amount, unit, words = float(found.group(1)), found.group(2), 1
    if not unit and reader.next.removesuffix("/s") in RATE_UNITS:
        unit, words = reader.take(), 2
    factor = RATE_UNITS.get(unit.removesuffix("/s"))
    if factor is None:
        _refuse_unit(reader, unit)
    rate = amount * factor
    if not LEAST_RATE <= rate <= MOST_RATE:
        reader.refuse(
            "a rate from 1 KiB/s to 1 TiB/s (to let nothing through at all is a pause, no limit)",
            back=words,
        )
    return rate


def _refuse_unit(reader: _Reader, unit: str) -> NoReturn:
    units = "KiB/s, MiB/s, GiB/s, kB/s, MB/s, GB/s, kbit/s, Mbit/s, Gbit/s, K, M or G"
    if unit.removesuffix("/s") in ("kb", "Kb", "mb", "Mb", "gb", "Gb"):
        letter = unit[0].upper() if unit[0] in "mMgG" else "k"
        units = f"{letter}B/s for bytes or {letter}bit/s for bits"
    reader.refuse(f"a number with a unit: {units}", back=1)


def _zone(reader: _Reader, expected: str) -> str | None:
    if not reader.next:
        return None
    is_name = _ZONE.fullmatch(reader.next) and reader.next.lower() not in ("else", "full", "off")
    if not is_name or _days(reader.next):
        reader.refuse(expected)
    return reader.take()


def combined(rates: tuple[Rate, ...]) -> Rate:
    """Give the rate that is left where several limits hold together: the smallest."""
    limits = [rate for rate in rates if rate is not None]
    return min(limits, default=None)
