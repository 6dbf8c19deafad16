"""Bandwidth limits in the configuration, with the time zones that they name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sensordrop.config.kinds import Kind, NotExpectedError, text_of
from sensordrop.core.bandwidth import Limit
from sensordrop.core.timetable import TimetableError, parse_timetable


def limit_of(text: str | None, local: tzinfo) -> Limit:
    """Read a limit; where it names no zone, its times are those of `local`. None is no limit.

    Reads the zone from the disk. Raises TimetableError.
    """
    timetable = parse_timetable("off" if text is None else text)
    if timetable.zone is None:
        return Limit(timetable=timetable, zone=local)
    try:
        return Limit(timetable=timetable, zone=ZoneInfo(timetable.zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise TimetableError(
            f"the time zone {timetable.zone!r} is not known on this machine: write one such as "
            "Europe/Berlin, or install the system's tzdata"
        ) from error


@dataclass(frozen=True, slots=True)
class BandwidthLimit(Kind):
    """A rate, or a timetable of rates."""

    expected: ClassVar[str] = (
        "'off', a rate such as '10 MiB/s', or a timetable such as '20:00-06:00 full, else 10 MiB/s'"
    )

    def read(self, value: object) -> str:
        """Read it."""
        text = text_of(value)
        try:
            limit_of(text, UTC)
        except TimetableError as error:
            raise NotExpectedError(str(error)) from error
        return text
