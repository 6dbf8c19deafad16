"""Which day a file's name tells, recorder by recorder."""

from __future__ import annotations

from datetime import date

import pytest

from sensordrop.core.captured import captured_day

MTIME = 1_756_684_799 * 10**9  # 2025-08-31 23:59:59 UTC
BY_MTIME = date(2025, 8, 31)

NAMES = [
    ("950349/20250909_092000.WAV", date(2025, 9, 9)),
    ("950349/20250909/20250909_092000T.WAV", date(2025, 9, 9)),
    ("S/24F3190361CBE9B8_20250909_092000.WAV", date(2025, 9, 9)),
    ("S/0123456712345678_20250909_092000.WAV", date(2025, 9, 9)),
    ("Data/SITE1_20240229_235959.wav", date(2024, 2, 29)),
    ("Data/SM301_0+1_20240815_091156.wav", date(2024, 8, 15)),
    ("Data/SM4$_20240815$091156.wav", date(2024, 8, 15)),
    ("20160823_063006_Dawn _-1.4763 178.8986_.wav", date(2016, 8, 23)),
    ("20181101_060000_REC [-27.3866 152.8761].flac", date(2018, 11, 1)),
    (
        "S20240815T091156.982648+1000_E20240816T091251.967555+1000_-12.34567+78.98102.wav",
        date(2024, 8, 15),
    ),
    ("PXL_20240815_091156123.jpg", date(2024, 8, 15)),
    ("20240815091156.jpg", date(2024, 8, 15)),
    ("2024-08-15 09.11.56.jpg", date(2024, 8, 15)),
    ("2024-08-15_09-11-56.mp4", date(2024, 8, 15)),
    ("20240815_091156", date(2024, 8, 15)),
    ("19700101_000003.WAV", date(1970, 1, 1)),
    ("5B07C752.WAV", date(2018, 5, 25)),
    ("00000000.WAV", date(1970, 1, 1)),
    ("S/5b07c752.wav", date(2018, 5, 25)),
    ("SITE_20240101_000000_20240815_091156.wav", date(2024, 1, 1)),  # the first counts
    # No time is told, so the modification time counts.
    ("DCIM/100RECNX/IMG_0001.JPG", BY_MTIME),
    ("100EK113/EK000001.JPG", BY_MTIME),
    ("CONFIG.TXT", BY_MTIME),
    ("", BY_MTIME),
    ("20240815_091156/IMG_0001.JPG", BY_MTIME),  # the name tells, not the folder
    ("20240815.WAV", BY_MTIME),
    ("5B07C752.JPG", BY_MTIME),
    ("12345678.WAV", BY_MTIME),
    ("20240230_091156.WAV", BY_MTIME),
    ("20230229_091156.WAV", BY_MTIME),
    ("20241301_091156.WAV", BY_MTIME),
    ("20240800_091156.WAV", BY_MTIME),
    ("20240815_999999.WAV", date(2024, 8, 15)),  # the time of day is not judged
    ("120240815_091156.WAV", BY_MTIME),
    ("20240815_0911561.WAV", BY_MTIME),
    ("10660815_091156.WAV", BY_MTIME),
    ("\u0662\u0660\u0662\u06600815_091156.WAV", BY_MTIME),  # digits of another script
    ("20240815_091156\n.WAV", date(2024, 8, 15)),
    ("5B07C752.WAV\n", BY_MTIME),
]


@pytest.mark.parametrize(("path", "day"), NAMES)
def test_the_name_tells_the_day_or_else_the_modification_time(path, day):
    assert captured_day(path, MTIME) == day


@pytest.mark.parametrize(
    ("mtime_ns", "day"),
    [
        (0, date(1970, 1, 1)),
        (-1, date(1969, 12, 31)),
        (-86_400 * 10**9, date(1969, 12, 31)),
        (86_400 * 10**9 - 1, date(1970, 1, 1)),
        (2**63 - 1, date(2262, 4, 11)),
        (-(2**63), date(1677, 9, 21)),
    ],
)
def test_modification_times_count_by_the_day_in_utc(mtime_ns, day):
    assert captured_day("IMG_0001.JPG", mtime_ns) == day
