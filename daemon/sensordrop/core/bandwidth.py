"""What a bandwidth limit means at an instant: the rate, its next change, the time that bytes take.

Times are those of the clock on the wall of a zone, which is an argument: an hour that is repeated
when summer time ends counts both times, one that is left out when it begins counts not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from sensordrop.core.timetable import Rate, Timetable, combined

WEEK_DAYS = 9
"""Local days in which every change of a week shows, whatever summer time does meanwhile."""
HORIZON_DAYS = 366
"""How far ahead an estimate looks. What takes longer than a year has no honest date."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A timetable with the zone that its times are in."""

    timetable: Timetable
    zone: tzinfo

    def rate(self, at: datetime) -> Rate:
        """Give the rate at an instant (a time with its zone)."""
        wall = at.astimezone(self.zone)
        return self.timetable.rate(wall.weekday(), wall.hour * 60 + wall.minute)

    def next_change(self, at: datetime) -> tuple[datetime, Rate] | None:
        """Give the first instant after `at` (in UTC) at which the rate is another, and that rate.

        None: it never changes.
        """
        rate = self.rate(at)
        for instant in self._instants(at, WEEK_DAYS):
            if self.rate(instant) != rate:
                return instant, self.rate(instant)
        return None

    def _instants(self, after: datetime, days: int) -> Iterator[datetime]:
        """Yield, in order, the instants after `after` at which the rate may change."""
        minutes = self.timetable.bounds()
        if not minutes:
            return
        begin = after.astimezone(UTC)
        today = after.astimezone(self.zone).date()
        for day in (today + timedelta(days=n) for n in range(-1, days)):
            midnight = datetime.combine(day, time())
            found = {
                (midnight + timedelta(minutes=minute)).replace(tzinfo=self.zone, fold=fold)
                for minute in minutes
                for fold in (0, 1)
            }
            walls = {wall.astimezone(UTC) for wall in found} | set(self._shift(midnight))
            for instant in sorted(walls):
                if instant > begin:
                    begin = instant
                    yield instant

    def _shift(self, midnight: datetime) -> Iterator[datetime]:
        """Yield the instant of this day at which the zone's clocks are put forward or back."""
        low = int(midnight.replace(tzinfo=self.zone).timestamp())
        high = int((midnight + timedelta(days=1)).replace(tzinfo=self.zone).timestamp())
        before = self._offset(low)
        if self._offset(high) == before:
            return
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle) == before else (low, middle)
        yield datetime.fromtimestamp(high, UTC)

    def _offset(self, seconds: int) -> timedelta | None:
        return datetime.fromtimestamp(seconds, self.zone).utcoffset()


def rate_at(limits: Sequence[Limit], at: datetime) -> Rate:
    """Give the rate that several limits leave together: the smallest."""
    return combined(tuple(limit.rate(at) for limit in limits))


def next_change(limits: Sequence[Limit], at: datetime) -> datetime | None:
    """Give the first instant after `at` at which the rate that they leave together may change."""
    found = [change[0] for limit in limits if (change := limit.next_change(at)) is not None]
    return min(found, default=None)


def seconds_to_send(
    size_bytes: int, *, at: datetime, limits: Sequence[Limit], measured: float
) -> float | None:
    """Say how long so many bytes take from an instant on, under limits that change meanwhile.

    `measured` is what the way to the store carries, in bytes per second, where no limit holds; if
    it was measured under a limit, the answer is too long rather than too short. None: nothing was
    measured, or it takes longer than `HORIZON_DAYS`.
    """
    if size_bytes <= 0:
        return 0.0
    if not measured > 0:
        return None
    left, now = float(size_bytes), at.astimezone(UTC)
    end = now + timedelta(days=HORIZON_DAYS)
    while now < end:
        allowed = rate_at(limits, now)
        rate = measured if allowed is None else min(measured, allowed)
        change = next_change(limits, now) or end
        seconds = (min(change, end) - now).total_seconds()
        if left <= rate * seconds:
            return (now - at.astimezone(UTC)).total_seconds() + left / rate
        left -= rate * seconds
        now = change
    return None
