"""The demo's cards: what opens in a player and a viewer, and what makes cards hard."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import wave
from collections import Counter
from pathlib import PurePosixPath

import pytest

from sensordrop.cli.demo_card import (
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    CardFile,
    copy_in,
    first_delivery,
    second_delivery,
)
from sensordrop.cli.demo_daemon import FOR_MADE_CARDS
from sensordrop.core.selection import Selection

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def cards():
    """Every file with its bytes."""
    return {file.path: file.content() for file in (*first_delivery(), *second_delivery())}


def chosen(cards, ending):
    paths = [path for path in cards if path.endswith(ending) and not junk(path)]
    assert paths
    return [cards[path] for path in paths]


def junk(path):
    return Selection().ignore_reason(path) is not None


def test_cards_are_the_same_in_each_run(cards):
    again = {file.path: file.content() for file in (*first_delivery(), *second_delivery())}
    assert again == cards


def test_the_demo_is_small_enough_to_be_quick_and_large_enough_to_show_something(cards):
    assert 60 <= len(cards) <= 120
    assert 20 * MEGABYTE < sum(map(len, cards.values())) < 60 * MEGABYTE


def test_one_file_is_sent_in_parts(cards):
    threshold = int(FOR_MADE_CARDS["SENSORDROP_DELIVERY_MULTIPART_THRESHOLD_BYTES"])
    assert sum(len(content) >= threshold for content in cards.values()) == 1
    # More than one part of the 16 MiB that a part has at least.
    assert max(map(len, cards.values())) > 16 * 1024 * 1024


def test_cards_have_what_makes_them_hard(cards):
    kept = {path: content for path, content in cards.items() if not junk(path)}
    sizes = Counter(map(len, kept.values()))
    digests = {hashlib.sha256(content).digest() for content in kept.values() if content}
    assert max(sizes.values()) > 10, "recorders write files of equal length"
    assert len(digests) == sum(1 for content in kept.values() if content), "with other content"
    names = Counter(PurePosixPath(path).name for path in kept)
    assert names["IMG_0001.JPG"] == 2, "equal names in folders beside each other"
    assert any(" " in path for path in kept)
    assert any(not path.isascii() for path in kept)
    assert b"" in kept.values(), "a file that the recorder never wrote"


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "._20250909_060000.WAV", "System Volume Information/", "Thumbs.db", ".Trash-"],
)
def test_cards_carry_junk(cards, name):
    assert [path for path in cards if name in path]
    assert all(junk(path) for path in cards if name in path)


def test_every_sensor_has_its_folder(cards):
    assert len({path.split("/")[0] for path in cards}) == 6
    assert all("/" in path for path in cards)


def test_sounds_play(cards):
    heard = set()
    for content in [*chosen(cards, ".WAV"), *chosen(cards, ".wav")]:
        if not content:
            continue
        with wave.open(io.BytesIO(content)) as sound:
            assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
            frames = sound.readframes(sound.getnframes())
            assert len(frames) == 2 * sound.getnframes()
            heard.add(sound.getnframes() // sound.getframerate())
        assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8
    assert heard == {0, 3, 4, 250}


def test_pictures_show(cards):
    for content in chosen(cards, ".JPG")[:3]:
        segments, scan = segments_of(content)
        assert segments[0xE1].startswith(b"Exif\0\0II*\0")
        height, width = struct.unpack_from(">HH", segments[0xC0], 1)
        assert (width, height) == (IMAGE_WIDTH, IMAGE_HEIGHT)
        greys = decoded(scan, segments[0xC4], width * height // 64)
        assert min(greys) >= 0
        assert max(greys) <= 255
        assert len(set(greys)) > 50, "a picture, not a wall"


def segments_of(content):
    """Take a JPEG apart: its segments by marker (the DC table of two), and the scan's bytes."""
    assert content.startswith(b"\xff\xd8")
    assert content.endswith(b"\xff\xd9")
    at, found = 2, {}
    while True:
        start, marker, length = struct.unpack_from(">BBH", content, at)
        assert start == 0xFF
        found.setdefault(marker, content[at + 4 : at + 2 + length])
        at += 2 + length
        if marker == 0xDA:
            return found, content[at:-2].replace(b"\xff\x00", b"\xff")


def decoded(scan, table, blocks):
    """Read the grey of each block, by the table in the file; an end-of-block is one 0 bit."""
    words, code, values = {}, 0, iter(table[17:])
    for length, count in enumerate(table[1:17], start=1):
        for _ in range(count):
            words[f"{code:0{length}b}"] = next(values)
            code += 1
        code <<= 1
    bits = bin(int.from_bytes(b"\1" + scan, "big"))[3:]
    at, grey, greys = 0, 128, []
    for _ in range(blocks):
        word = bits[at]
        while word not in words:
            word += bits[at + len(word)]
        at += len(word)
        size = words[word]
        if size:
            value = int(bits[at : at + size], 2)
            grey += value if bits[at] == "1" else value - (1 << size) + 1
        at += size
        assert bits[at] == "0"
        at += 1
        greys.append(grey)
    assert len(bits) - at < 8
    assert set(bits[at:]) <= {"1"}
    return greys


def test_films_are_made_of_boxes(cards):
    for content in chosen(cards, ".MP4"):
        boxes = boxes_of(content)
        assert list(boxes) == [b"ftyp", b"moov", b"mdat"]
        header = boxes_of(boxes[b"moov"])[b"mvhd"]
        assert len(header) == 100, "version 0 of a movie header has 100 bytes"


def boxes_of(content):
    at, found = 0, {}
    while at < len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        found[name] = content[at + 8 : at + length]
        at += length
    assert at == len(content)
    return found


def test_a_copy_has_the_bytes_and_the_time_of_the_recording(tmp_path):
    files = [
        CardFile(path="Höhle 1/a.wav", recorded_at=1_000_000_000, content=lambda: b"x" * 5_000_000),
        CardFile(path="Höhle 1/b/empty.wav", recorded_at=12, content=lambda: b""),
    ]
    pieces = list(copy_in(files, tmp_path))
    assert pieces == [2_097_152, 2_097_152, 805_696, 0]
    large = os.path.join(os.fsencode(tmp_path), "Höhle 1/a.wav".encode())  # noqa: PTH118
    with open(large, "rb") as copy:  # noqa: PTH123
        assert copy.read() == b"x" * 5_000_000
    assert os.stat(large).st_mtime == 1_000_000_000  # noqa: PTH116
    assert (tmp_path / "Höhle 1" / "b" / "empty.wav").read_bytes() == b""
