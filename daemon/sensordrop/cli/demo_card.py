"""What the demo drops: SD cards as recorders and cameras leave them, made up but playable.

Names, folders, sidecars and junk are those of real devices; headers are valid, so that the files
open in a player or a viewer. Every card is the same in each run.
"""

from __future__ import annotations

import calendar
import math
import os
import random
import struct
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

AUDIOMOTH_RATE = 48_000
SONG_METER_RATE = 24_000
CLIP_SECONDS = 3
"""Recorders write files of one length: equal sizes, different content."""
LONG_CLIP_SECONDS = 250
"""24 MB at 48 kHz: more than the demo's multipart threshold, and more than one part."""

PIECE_BYTES = 2 * 1024 * 1024
"""A copy is written in pieces of this size, as file managers do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFile:
    """One file of a card. `path` is relative to the drop folder; times are seconds since 1970."""

    path: str
    recorded_at: int
    content: Callable[[], bytes]
    """Makes the bytes, the same every time."""


def first_delivery() -> list[CardFile]:
    """Describe the cards of three audio recorders."""
    return [
        *_audiomoth("24F319046052C9A1", "20250909", clips=16),
        *_audiomoth("24E1440163FB0B17", "20250911", clips=14),
        *_song_meter("SMA04512", clips=10),
        *_odd_names("Höhle-Süd 2"),
    ]


def second_delivery() -> list[CardFile]:
    """Describe the cards of two camera traps."""
    return [*_reconyx("H500JF11223344"), *_bushnell("119537C-00831")]


def copy_in(files: list[CardFile], drop: Path) -> Iterator[int]:
    """Write files below `drop` as `cp -a` would; yields each piece's size once it is written.

    The caller sets the pace: between two pieces the file in work stays open. Raises OSError.
    """
    for file in files:
        path = os.path.join(os.fsencode(drop), file.path.encode())  # noqa: PTH118  # bytes
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120  # bytes
        content = memoryview(file.content())
        with open(path, "xb", buffering=0) as copy:  # noqa: PTH123  # bytes
            for start in range(0, max(1, len(content)), PIECE_BYTES):
                yield copy.write(content[start : start + PIECE_BYTES])
            os.utime(copy.fileno(), (file.recorded_at, file.recorded_at))


# --- cards --------------------------------------------------------------------------------


def _audiomoth(serial: str, day: str, *, clips: int) -> Iterator[CardFile]:
    start = _seconds(f"{day}_060000")
    for number in range(clips):
        at = start + number * 600
        triggered = "T" if number % 5 == 4 else ""
        name = f"{_stamp(at)}{triggered}.WAV"
        seconds = LONG_CLIP_SECONDS if day == "20250909" and number == 3 else CLIP_SECONDS
        yield _wav(f"{serial}/{day}/{name}", at, AUDIOMOTH_RATE, seconds, f"AudioMoth {serial}")
    config = f"Device ID : {serial}\r\nSample rate (Hz) : 48000\r\nGain : Medium\r\n"
    yield _text(f"{serial}/CONFIG.TXT", start - 60, config)
    # An AudioMoth whose clock was never set starts in 1970, and one that lost its power leaves
    # nothing behind the header, or nothing at all.
    yield _wav(f"{serial}/19700101_000012.WAV", 12, AUDIOMOTH_RATE, 0, f"AudioMoth {serial}")
    last = start + clips * 600
    yield _raw(f"{serial}/{day}/{_stamp(last)}.WAV", last, b"")
    yield _raw(f"{serial}/{day}/._{_stamp(start)}.WAV", start, _APPLE_DOUBLE)
    yield _raw(f"{serial}/{day}/.DS_Store", start, b"\0\0\0\1Bud1" + bytes(4088))
    volume = f"{serial}/System Volume Information"
    yield _raw(f"{volume}/WPSettings.dat", start, bytes([12, 0, 0, 0, *range(8)]))
    yield _raw(
        f"{volume}/IndexerVolumeGuid",
        start,
        "{5D8D1C52-7F0B-4E4A-9A35-0E8C9D3B6A11}".encode("utf-16-le"),
    )


def _song_meter(serial: str, *, clips: int) -> Iterator[CardFile]:
    start = _seconds("20250910_190000")
    rows = ["DATE,TIME,LAT,LON,POWER(V),TEMP(C),#FILES,MIC TYPE"]
    for number in range(clips):
        at = start + number * 900
        yield _wav(f"{serial}/Data/{serial}_{_stamp(at)}.wav", at, SONG_METER_RATE, 4, serial)
        moment = time.strftime("%Y-%b-%d,%H:%M:%S", time.gmtime(at))
        rows.append(f"{moment},47.3686N,8.5391E,5.{90 - number},{18 - number / 2:.2f},1,Mini-A")
    yield _text(f"{serial}/{serial}_Summary.txt", start + clips * 900, "\n".join(rows) + "\n")
    yield _raw(f"{serial}/.Trash-1000/files/{serial}_20250101_120000.wav", start, b"RIFF")
    info = "[Trash Info]\nPath=old.wav\nDeletionDate=2025-09-01T10:00:00\n"
    yield _text(f"{serial}/.Trash-1000/info/{serial}_20250101_120000.wav.trashinfo", start, info)


def _odd_names(folder: str) -> Iterator[CardFile]:
    at = _seconds("20160823_063006")
    name = f"{folder}/20160823_063006_Dawn _-1.4763 178.8986_.wav"
    yield _wav(name, at, SONG_METER_RATE, CLIP_SECONDS, "Frontier BAR")
    yield _text(f"{folder}/Notizen Überflug 日本.txt", at, "Batterien getauscht, Uhr +2 min\n")
    yield _text(f"{folder}/Reclog.csv", at, "start,end,file\n06:30:06,06:30:09,Dawn\n")


def _reconyx(serial: str) -> Iterator[CardFile]:
    start = _seconds("20250908_213000")
    number = 0
    # The numbering restarts in the next folder: equal names beside each other are normal.
    for folder, images in (("100RECNX", 12), ("101RECNX", 6)):
        for index in range(1, images + 1):
            at = start + number // 3 * 420 + number % 3  # bursts of three
            path = f"{serial}/DCIM/{folder}/IMG_{index:04d}.JPG"
            yield _jpeg(path, at, "RECONYX", "HYPERFIRE 2 COVERT")
            number += 1
        yield _raw(f"{serial}/DCIM/{folder}/Thumbs.db", start, b"\xd0\xcf\x11\xe0" + bytes(508))
    yield _raw(f"{serial}/LOST.DIR/12", start, b"?" * 40)


def _bushnell(serial: str) -> Iterator[CardFile]:
    start = _seconds("20250909_034500")
    for index in range(1, 15):
        at = start + index * 1_380
        stem = f"{serial}/DCIM/100EK113/EK{index:06d}"
        yield _jpeg(f"{stem}.JPG", at, "BUSHNELL", "119537C")
        if index % 7 == 0:
            yield CardFile(path=f"{stem}.MP4", recorded_at=at, content=partial(_mp4, stem, at))
    yield _text(f"{serial}/DCIM/desktop.ini", start, "[.ShellClassInfo]\r\n")


_APPLE_DOUBLE = struct.pack(">II16sH", 0x00051607, 0x00020000, b"Mac OS X", 0)


def _stamp(at: int) -> str:
    return time.strftime("%Y%m%d_%H%M%S", time.gmtime(at))


def _seconds(stamp: str) -> int:
    return calendar.timegm(time.strptime(stamp, "%Y%m%d_%H%M%S"))


def _raw(path: str, at: int, content: bytes) -> CardFile:
    return CardFile(path=path, recorded_at=at, content=lambda: content)


def _text(path: str, at: int, text: str) -> CardFile:
    return _raw(path, at, text.encode())


def _dice(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311  # the same in each run is what is wanted


# --- sound --------------------------------------------------------------------------------


def _wav(path: str, at: int, rate: int, seconds: int, device: str) -> CardFile:
    content = partial(_sound, path, at, rate, seconds, device)
    return CardFile(path=path, recorded_at=at, content=content)


def _sound(seed: str, at: int, rate: int, seconds: int, device: str) -> bytes:
    """Make 16-bit mono PCM in a RIFF file (Microsoft RIFF specification, 1991)."""
    when = time.strftime("%H:%M:%S %d/%m/%Y (UTC)", time.gmtime(at))
    comment = f"Recorded at {when} by {device}\0".encode()
    comment += b"\0" * (len(comment) % 2)
    info = b"INFOICMT" + struct.pack("<I", len(comment)) + comment
    samples = _song(seed, rate, seconds)
    body = b"".join(
        name + struct.pack("<I", len(chunk)) + chunk
        for name, chunk in (
            (b"fmt ", struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)),
            (b"LIST", info),
            (b"data", samples),
        )
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def _song(seed: str, rate: int, seconds: int) -> bytes:
    """Sing one rising note a second, each second with noise of its own at its end."""
    dice = _dice(seed)
    low, rise, length = dice.uniform(1_500, 4_000), dice.uniform(500, 3_000), rate // 3
    note = array("h")
    for n in range(length if seconds else 0):
        t = n / rate
        loud = 7_000 * math.sin(math.pi * n / length)
        note.append(int(loud * math.sin(2 * math.pi * (low * t + rise * t * t))))
    note.extend([0] * (rate - length))
    song = array("h")
    for _ in range(seconds):
        song.extend(note)
        for n in range(len(song) - 64, len(song)):  # no two parts of a long file are equal
            song[n] = dice.randrange(-300, 300)
    if sys.byteorder == "big":
        song.byteswap()
    return song.tobytes()


# --- pictures -----------------------------------------------------------------------------

IMAGE_WIDTH, IMAGE_HEIGHT = 1280, 960
BLOCK = 8

# The lengths of the code words for differences of 0 to 11 bits, and the words themselves
# (ITU-T T.81, table K.3).
_DC_LENGTHS = (0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
_DC_WORDS = ("00", "010", "011", "100", "101", "110", "1110", "11110", "111110")
_END_OF_BLOCK = "0"
"""The only word of our AC table: every block is one flat grey."""


def _jpeg(path: str, at: int, maker: str, model: str) -> CardFile:
    return CardFile(path=path, recorded_at=at, content=partial(_picture, path, at, maker, model))


def _picture(seed: str, at: int, maker: str, model: str) -> bytes:
    """Make a grey night picture as a baseline JPEG (ITU-T T.81) with Exif in front."""
    columns, rows = IMAGE_WIDTH // BLOCK, IMAGE_HEIGHT // BLOCK
    frame = struct.pack(">BHHBBBB", 8, IMAGE_HEIGHT, IMAGE_WIDTH, 1, 1, 0x11, 0)
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE1, _exif(at, maker, model)),
            _segment(0xDB, bytes([0]) + bytes([BLOCK]) * 64),
            _segment(0xC0, frame),
            _segment(0xC4, bytes([0x00, *_DC_LENGTHS, *range(12)])),
            _segment(0xC4, bytes([0x10, 1, *[0] * 15, 0x00])),
            _segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0])),
            _scan(_night(seed, columns, rows)),
            b"\xff\xd9",
        )
    )


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _night(seed: str, columns: int, rows: int) -> list[int]:
    """Give the grey of each block: noise, trunks of trees, and something with warm fur."""
    dice = _dice(seed)
    trunks = [dice.choice((0, 0, 0, 25)) for _ in range(columns)]
    x0, y0 = dice.randrange(columns), rows * 2 // 3
    return [
        40
        + 60 * y // rows
        + trunks[x]
        + dice.randrange(6)
        + (70 if ((x - x0) / 14) ** 2 + ((y - y0) / 7) ** 2 < 1 else 0)
        for y in range(rows)
        for x in range(columns)
    ]


def _scan(greys: list[int]) -> bytes:
    # A block's DC coefficient counts from grey 128; the table above divides it by its eight.
    words = "".join(map(_word, (after - before for before, after in pairwise([128, *greys]))))
    words += "1" * (-len(words) % 8)
    packed = int(words, 2).to_bytes(len(words) // 8, "big")
    return packed.replace(b"\xff", b"\xff\x00")


@cache
def _word(difference: int) -> str:
    bits = abs(difference).bit_length()
    value = difference if difference > 0 else difference + (1 << bits) - 1
    return _DC_WORDS[bits] + (f"{value:0{bits}b}" if bits else "") + _END_OF_BLOCK


def _exif(at: int, maker: str, model: str) -> bytes:
    """Write maker, model and time as one TIFF directory (Exif 2.3, section 4.6)."""
    moment = time.strftime("%Y:%m:%d %H:%M:%S", time.gmtime(at))
    texts = [(0x010F, maker), (0x0110, model), (0x0132, moment)]
    entries, values = b"", b""
    values_at = 8 + 2 + 12 * len(texts) + 4
    for tag, text in texts:
        value = text.encode() + b"\0"
        entries += struct.pack("<HHII", tag, 2, len(value), values_at + len(values))
        values += value + b"\0" * (len(value) % 2)
    directory = struct.pack("<H", len(texts)) + entries + struct.pack("<I", 0)
    return b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + directory + values


# --- film ---------------------------------------------------------------------------------


def _mp4(seed: str, at: int) -> bytes:
    """Make the smallest MP4 file (ISO/IEC 14496-12): a header without tracks, and some data."""
    made = at + 2_082_844_800  # MP4 counts from 1904
    one, unity = 0x00010000, (0x00010000, 0, 0, 0, 0x00010000, 0, 0, 0, 0x40000000)
    times = struct.pack(">IIIIIIH10x", 0, made, made, 1_000, 10_000, one, 0x0100)
    movie = times + struct.pack(">9I24xI", *unity, 1)
    return (
        _box(b"ftyp", b"isom" + struct.pack(">I", 512) + b"isomiso2mp41")
        + _box(b"moov", _box(b"mvhd", movie))
        + _box(b"mdat", _dice(seed).randbytes(900_000))
    )


def _box(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", 8 + len(payload)) + name + payload
