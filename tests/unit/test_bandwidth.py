"""What a limit means at an instant, in zones with summer time, and how long bytes take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sensordrop.core.bandwidth import HORIZON_DAYS, Limit, next_change, rate_at, seconds_to_send
from sensordrop.core.timetable import parse_timetable

MIB = 1024.0**2
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = "20:00-06:00 full, else 10 MiB/s"


def limit(text: str, zone=UTC) -> Limit:
    return Limit(timetable=parse_timetable(text), zone=zone)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def test_the_zone_says_what_time_of_day_it_is():
    assert limit(NIGHT, BERLIN).rate(utc("2026-07-01T18:00")) is None
    assert limit(NIGHT, BERLIN).rate(utc("2026-01-01T18:00")) == 10 * MIB
    assert limit(NIGHT).rate(utc("2026-07-01T18:00")) == 10 * MIB


def test_the_next_change_is_where_the_span_begins_or_ends():
    table = limit(NIGHT, BERLIN)
    assert table.next_change(berlin("2026-11-20T12:00")) == (berlin("2026-11-20T20:00"), None)
    assert table.next_change(berlin("2026-11-20T20:00")) == (
        berlin("2026-11-21T06:00"),
        10 * MIB,
    )
    assert limit("10M").next_change(utc("2026-11-20T12:00")) is None
    assert limit("Mon-Sun 1M, else 2M").next_change(utc("2026-11-20T12:00")) is None


def test_the_next_change_may_be_a_week_away():
    table = limit("Mon 12:00-12:01 full, else 1M")
    assert table.next_change(utc("2026-11-23T12:01")) == (utc("2026-11-30T12:00"), None)


def test_an_hour_that_summer_time_leaves_out_counts_not_at_all():
    # In Berlin, on 2026-03-29, the clocks go from 02:00 to 03:00.
    table = limit("02:15-02:45 full, else 1M", BERLIN)
    before = berlin("2026-03-29T01:00")
    assert table.next_change(before) == (berlin("2026-03-30T02:15"), None)
    ends_inside = limit("01:00-02:30 full, else 1M", BERLIN)
    assert ends_inside.next_change(before) == (utc("2026-03-29T01:00"), MIB)
    assert ends_inside.rate(utc("2026-03-29T01:00")) == MIB, "it is 03:00 on the wall"


def test_an_hour_that_is_repeated_when_summer_time_ends_counts_both_times():
    # In Berlin, on 2026-10-25, the clocks go from 03:00 back to 02:00.
    table = limit("02:00-03:00 full, else 1M", BERLIN)
    assert table.rate(berlin("2026-10-25T02:30")) is None
    assert table.rate(berlin("2026-10-25T02:30", fold=1)) is None
    assert table.next_change(berlin("2026-10-25T01:00")) == (utc("2026-10-25T00:00"), None)
    assert table.next_change(utc("2026-10-25T00:00")) == (utc("2026-10-25T02:00"), MIB)


zones = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu",
     "America/Santiago", "Pacific/Apia"]
)  # fmt: skip
clocks = st.integers(0, 95).map(lambda n: f"{n // 4:02}:{n % 4 * 15:02}")
tables = st.lists(
    st.tuples(st.sampled_from(["", "Sun ", "Sat,Sun ", "Mon-Fri "]), clocks, clocks).filter(
        lambda rule: rule[1] != rule[2]
    ),
    min_size=1,
    max_size=3,
).map(
    lambda rules: ", ".join(
        [*(f"{d}{a}-{b} {n + 2}M" for n, (d, a, b) in enumerate(rules)), "else 1M"]
    )
)
STEP = timedelta(minutes=15)
"""Summer time and every span above begin and end on a quarter of an hour."""


@examples(max_examples=60)
@given(tables, zones, st.sampled_from([3, 4, 9, 10, 11]), st.integers(0, 2975))
def test_the_next_change_is_the_first_that_looking_at_every_quarter_finds(
    text, zone, month, quarter
):
    table = limit(text, ZoneInfo(zone))
    now = datetime(2026, month, 1, tzinfo=UTC) + quarter * STEP
    rate = table.rate(now)
    steps = (now + n * STEP for n in range(1, 8 * 96))
    found = next(((t, table.rate(t)) for t in steps if table.rate(t) != rate), None)
    assert table.next_change(now) == found


def test_of_two_limits_the_smaller_holds_at_each_instant():
    both = (limit("08:00-18:00 2M, else full"), limit("12:00-24:00 1M, else 5M"))
    day = "2026-11-20T"
    assert rate_at(both, utc(day + "09:00")) == 2 * MIB
    assert rate_at(both, utc(day + "13:00")) == MIB
    assert rate_at(both, utc(day + "19:00")) == MIB
    assert rate_at(both, utc(day + "03:00")) == 5 * MIB
    assert rate_at((), utc(day + "03:00")) is None
    assert next_change(both, utc(day + "09:00")) == utc(day + "12:00")


def test_the_estimate_knows_that_the_night_is_faster():
    night = (limit("20:00-06:00 full, else 1 MiB/s"),)
    hour = 3600
    size = int(hour * MIB + hour * 10 * MIB)  # an hour at 1 MiB/s, and one at full speed
    at = utc("2026-11-20T19:00")
    assert seconds_to_send(size, at=at, limits=night, measured=10 * MIB) == 2 * hour
    assert seconds_to_send(size, at=at, limits=(), measured=10 * MIB) == pytest.approx(1.1 * hour)
    later = seconds_to_send(size, at=utc("2026-11-20T20:00"), limits=night, measured=10 * MIB)
    assert later == pytest.approx(1.1 * hour)


def test_no_estimate_is_better_than_an_invented_one():
    at = utc("2026-11-20T12:00")
    assert seconds_to_send(0, at=at, limits=(), measured=0.0) == 0.0
    assert seconds_to_send(1, at=at, limits=(), measured=0.0) is None
    slow = (limit("08:00-18:00 1 KiB/s, else 2 KiB/s"),)
    assert seconds_to_send(10**15, at=at, limits=slow, measured=MIB) is None


@given(tables, zones, st.integers(1, 10**12), st.integers(1, 10**12))
@examples(max_examples=40)
def test_more_bytes_never_take_less_time(text, zone, size, more):
    limits = (limit(text, ZoneInfo(zone)),)
    at = utc("2026-10-24T12:00")
    short = seconds_to_send(size, at=at, limits=limits, measured=50 * MIB)
    long = seconds_to_send(size + more, at=at, limits=limits, measured=50 * MIB)
    if long is None:
        return
    assert short is not None
    assert short <= long <= HORIZON_DAYS * 86_400
    assert size / (50 * MIB) <= short <= size / MIB + 1e-6
