"""What happens to a dropped card, seen from outside: the real daemon, ledger and S3 server."""

from __future__ import annotations

from daemon import drop_files, under_prefix


def test_a_dropped_card_arrives_byte_for_byte(station):
    digests = drop_files(
        station.drop,
        {
            "950349/20250909_092000.WAV": b"RIFF" + bytes(range(256)) * 300,
            "950349/CONFIG.TXT": b"Device ID : 950349\n",
            "cam1/DCIM/100RECNX/IMG_0001.JPG": b"\xff\xd8\xff" + b"jpg" * 5000,
            "empty.wav": b"",
        },
    )
    station.start()
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    station.wait_for_session_end()
    assert station.bucket.digests() == under_prefix(digests)
