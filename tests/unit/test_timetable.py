"""A bandwidth limit as people write it: what is read, and how a mistake is told."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sensordrop.core.timetable import (
    DAYS,
    FULL_SPEED,
    LEAST_RATE,
    MOST_RATE,
    RATE_UNITS,
    TEXT_LIMIT,
    Timetable,
    TimetableError,
    parse_timetable,
    rate_text,
)

MIB = 1024.0**2
MON, TUE, WED, THU, FRI, SAT, SUN = range(7)


def at(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("off", None),
        ("OFF", None),
        ("full", None),
        ("10M", 10 * MIB),
        ("10 M", 10 * MIB),
        ("10MiB/s", 10 * MIB),
        (" 10  MiB/s ", 10 * MIB),
        ("1.5 MiB", 1.5 * MIB),
        ("10 MB/s", 10e6),
        ("10 Mbit/s", 10e6 / 8),
        ("64k", 64 * 1024),
        ("64 kB/s", 64_000),
        ("2048 B/s", 2048),
        ("1 GiB/s", 1024 * MIB),
    ],
)
def test_a_rate_is_the_same_at_any_time(text, rate):
    table = parse_timetable(text)
    assert table == Timetable(otherwise=rate)
    assert table.rate(SUN, 0) == table.rate(WED, 777) == rate


def test_a_timetable_of_the_night():
    table = parse_timetable("20:00-06:00 full, else 10 MiB/s")
    for weekday in range(7):
        assert table.rate(weekday, at("19:59")) == 10 * MIB
        assert table.rate(weekday, at("20:00")) is None
        assert table.rate(weekday, at("00:00")) is None
        assert table.rate(weekday, at("05:59")) is None
        assert table.rate(weekday, at("06:00")) == 10 * MIB


def test_a_timetable_with_days_takes_the_first_rule_that_holds():
    table = parse_timetable("Mon-Fri 08:00-18:00 2 MiB/s, Sat,Sun full, else 5 MiB/s")
    assert table.rate(MON, at("08:00")) == 2 * MIB
    assert table.rate(FRI, at("17:59")) == 2 * MIB
    assert table.rate(FRI, at("18:00")) == 5 * MIB
    assert table.rate(SAT, at("10:00")) is None
    assert table.rate(SUN, at("23:59")) is None
    overlapping = parse_timetable("Mon 08:00-10:00 1M, 00:00-24:00 2M")
    assert overlapping.rate(MON, at("09:00")) == MIB
    assert overlapping.rate(MON, at("10:00")) == 2 * MIB


def test_a_span_over_midnight_belongs_to_the_day_it_begins_on():
    table = parse_timetable("Mon-Fri 20:00-06:00 full, else 1M")
    assert table.rate(FRI, at("23:00")) is None
    assert table.rate(SAT, at("05:59")) is None
    assert table.rate(SAT, at("20:00")) == MIB
    assert table.rate(MON, at("05:00")) == MIB, "it would have begun on Sunday"


def test_days_and_spans_can_be_listed_and_days_go_around_the_week():
    table = parse_timetable("Fri-Mon 08:00-10:00,22:00-24:00 1M, else 2M")
    assert [table.rate(day, at("09:00")) for day in range(7)] == [
        MIB if day in (FRI, SAT, SUN, MON) else 2 * MIB for day in range(7)
    ]
    assert table.rate(FRI, at("23:59")) == MIB
    assert table.rate(SAT, at("00:00")) == 2 * MIB
    assert parse_timetable("monday 1M, SATURDAY 2M").rate(SAT, 0) == 2 * MIB


def test_without_else_there_is_no_limit_outside():
    assert parse_timetable("08:00-18:00 1M").rate(MON, at("20:00")) is None


def test_a_time_zone_can_stand_at_the_end():
    assert parse_timetable("20:00-06:00 full, else 1M Europe/Berlin").zone == "Europe/Berlin"
    assert parse_timetable("20:00-06:00 1M UTC").zone == "UTC"
    assert parse_timetable("20:00-06:00 full, else 1M").zone is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty: write 'off' for no limit"),
        ("10", "at character 1, '10': expected a number with a unit"),
        ("10mb", "expected a number with a unit: MB/s for bytes or Mbit/s for bits"),
        ("10 parsecs", "at character 1, '10': expected a number with a unit"),
        ("0M", "at character 1, '0M': expected a rate from 1 KiB/s to 1 TiB/s"),
        ("500 B/s", "at character 1, '500': expected a rate from 1 KiB/s"),
        ("10M, else 5M", "at character 4, ',': expected nothing more"),
        ("else 5M", "'else' comes last"),
        ("25:00-06:00 full", "at character 1, '25:00-06:00': expected a span of time"),
        ("20:00-06:61 full", "expected a span of time such as 20:00-06:00"),
        ("24:00-06:00 full", "expected a span of time"),
        ("8-10 1M", "at character 1, '8-10': expected a span of time such as 20:00-06:00"),
        ("08:00-08:00 1M", "expected two different times: for the whole day, leave the times out"),
        ("20:00-06:00", "it ends where a rate such as 10 MiB/s, or 'full' should follow"),
        ("20:00-06:00 full,", "it ends where a day such as Mon or Mon-Fri, a span"),
        ("20:00-06:00 off", "within a timetable no limit is 'full'"),
        ("20:00-06:00 full else 1M", "at character 18, 'else': expected a comma"),
        ("20:00-06:00 full, else 1M, Mon 2M", "at character 26, ',': expected nothing more"),
        ("Mon 1M 08:00-09:00", "at character 8, '08:00-09:00': expected a comma"),
        ("08:00-09:00 Mon 1M", "expected a rate"),
        ("08:00-09:00,Mon 1M", "days come before the times"),
        ("Mon-Foo 1M", "at character 1, 'Mon-Foo': expected a day such as Mon or Mon-Fri"),
        ("20:00-06:00 1M Europe/Berlin now", "at character 30, 'now': expected nothing more"),
        ("1M " + "x" * TEXT_LIMIT, "more than 200 characters"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_was_expected(text, told):
    with pytest.raises(TimetableError) as refused:
        parse_timetable(text)
    assert told in str(refused.value)


@given(st.text(max_size=60) | st.text("MonFri-0123456789:, elsfuK/", max_size=40))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        table = parse_timetable(text)
    except TimetableError:
        return  # nothing else may be raised
    rates = {table.rate(day, minute) for day in range(7) for minute in range(0, 1440, 7)}
    assert all(rate is None or rate >= LEAST_RATE for rate in rates)


clocks = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda t: f"{t[0]:02}:{t[1]:02}")
rates = st.just("full") | st.builds(
    "{} {}/s".format, st.integers(2000, 9999), st.sampled_from(["B", "KiB", "kB", "kbit"])
)
days = st.sampled_from([name[:3] for name in DAYS])
rules = st.builds(
    "{} {}-{} {}".format,
    st.lists(days | st.builds("{}-{}".format, days, days), min_size=1, max_size=3).map(",".join),
    clocks,
    clocks,
    rates,
).filter(lambda text: text.split()[-3 if text.endswith("/s") else -2].split("-")[0] not in
         text.split()[-3 if text.endswith("/s") else -2].split("-")[1:])  # fmt: skip


@given(st.lists(rules, min_size=1, max_size=4), rates)
def test_a_timetable_of_any_rules_says_at_each_minute_what_the_first_rule_says(texts, otherwise):
    table = parse_timetable(", ".join([*texts, f"else {otherwise}"]))
    alone = [parse_timetable(text).rules[0] for text in texts]
    last = parse_timetable(otherwise).otherwise
    for weekday in range(7):
        for minute in range(0, 1440, 11):
            held = next((r.rate for r in alone if r.holds(weekday, minute)), last)
            assert table.rate(weekday, minute) == held


@given(st.sampled_from(sorted(RATE_UNITS)), st.integers(1, 10**6))
def test_a_rate_is_written_so_that_it_can_be_read(unit, amount):
    assume(LEAST_RATE * 1.01 <= amount * RATE_UNITS[unit] <= MOST_RATE * 0.99)
    rate = parse_timetable(f"{amount} {unit}/s").otherwise
    read = parse_timetable(rate_text(rate)).otherwise
    assert read == pytest.approx(rate, rel=1e-3)
    assert parse_timetable(rate_text(None)) == FULL_SPEED
