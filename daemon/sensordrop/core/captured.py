"""On which day a file was recorded, by its name or its modification time.

Recorders write the time into the name, each in its own way; it is the recorder's own time, which
mostly is local. The ledger's function `captured_day` (sql/schema.sql) does the same for millions of
rows; a test holds the two equal.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

EPOCH = date(1970, 1, 1)
DAY_NANOSECONDS = 86_400 * 10**9
DAY_SECONDS = 86_400
YEARS = range(1970, 2100)
"""Years that a recorder's clock may show. Before the first, digits are no date."""

_TIME = re.compile(
    r"(?:^|[^0-9])([12][0-9]{3})[-._]?([01][0-9])[-._]?([0-3][0-9])[-_$T .]?"
    r"[0-9]{2}[-._:]?[0-9]{2}[-._:]?[0-9]{2}(?:[0-9]{3})?(?:[^0-9]|\Z)"
)
"""Year, month, day, hour, minute, second with few or no signs between them, perhaps followed by
milliseconds, and no other digits around: 20250909_092000, 20240815T091156, 2024-08-15_09-11-56.
The time of day is not judged, so that files that differ in it only are of the same day."""

_HEXADECIMAL = re.compile(
    r"((?:0000|5[89A-Fa-f][0-9A-Fa-f]{2}|[67][0-9A-Fa-f]{3})[0-9A-Fa-f]{4})[.][Ww][Aa][Vv]\Z"
)
"""The oldest AudioMoths' names: seconds since 1970 in hexadecimal, of 2016 and later, or of a clock
that was never set and began at 0."""


def captured_day(path: str, mtime_ns: int) -> date:
    """Give the day of the time in a file's name, else that of its modification time (UTC).

    `path` is the path as text. The first thing in the name that looks like a time counts; if that
    is no real date, the modification time does.
    """
    name = path.rpartition("/")[2]
    if found := _TIME.search(name):
        year, month, day = (int(part) for part in found.groups())
        if year in YEARS:
            try:
                return date(year, month, day)
            except ValueError:  # there is no such day
                pass
    elif found := _HEXADECIMAL.match(name):
        return EPOCH + timedelta(days=int(found.group(1), 16) // DAY_SECONDS)
    return EPOCH + timedelta(days=mtime_ns // DAY_NANOSECONDS)
