"""Names on disk, their text form, and the keys made of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensordrop.core.failure import FailureError, FailureScope
from sensordrop.core.keys import (
    KEY_LIMIT_BYTES,
    conflict_key,
    object_key,
    path_bytes,
    path_text,
    sensor_of,
)

SHA256 = bytes(range(0xA0, 0xC0))
SUFFIX = "~a0a1a2a3a4a5a6a7"

# Any bytes that a Linux path may hold, and others made of the pieces that could confuse escapes.
any_path = st.binary(min_size=1, max_size=60).map(lambda b: b.replace(b"\0", b"_"))
tricky_path = st.lists(
    st.sampled_from(
        [b"\\", b"x", b"5", b"c", b"5c", b"ff", b"FF", b"/", b"a", b"\xff", b"\xc3", b"\xa4",
         b"\xed\xb2\x80", b"\xf0\x9f\x90", b"\n", "ä".encode(), "🐦".encode()]
    ),
    min_size=1,
    max_size=12,
).map(b"".join)  # fmt: skip
paths = any_path | tricky_path


def test_the_text_form_of_chosen_names():
    assert path_text(b"950349/20250909_092000.WAV") == "950349/20250909_092000.WAV"
    assert path_text("Dämmerung 🐦.wav".encode()) == "Dämmerung 🐦.wav"
    assert path_text(b"line\nbreak\ttab") == "line\nbreak\ttab"
    assert path_text(b"a\xffb") == r"a\xffb"
    assert path_text(b"\xc3") == r"\xc3"
    assert path_text(rb"back\slash") == r"back\slash"
    assert path_text(rb"\x") == r"\x"
    assert path_text(rb"\xg0") == r"\xg0"
    assert path_text(rb"\x5g") == r"\x5g"
    assert path_text(rb"\xff") == r"\x5cxff"
    assert path_text(rb"\xFF") == r"\x5cxFF"
    assert path_text(rb"\\x41") == r"\\x5cx41"
    assert path_text(b"\xed\xb2\x80") == r"\xed\xb2\x80"  # a surrogate is not UTF-8
    assert path_text(b"\xc0\xaf") == r"\xc0\xaf"  # nor is a slash in two bytes


@given(paths)
@example(rb"\x5c")
@example(b"\\x5\xab")
@example(b"\\\xff")
@example(b"\\x\xff")
def test_the_text_form_gives_the_exact_bytes_back(path):
    assert path_bytes(path_text(path)) == path


@given(st.lists(paths, min_size=2, max_size=8, unique=True))
@example([b"\xff", rb"\xff"])
@example([b"\\", rb"\x5c"])
def test_two_names_never_share_a_text_form(names):
    assert len({path_text(name) for name in names}) == len(names)


@given(paths)
def test_the_text_form_is_utf_8_and_keeps_the_folders(path):
    text = path_text(path)
    assert text.encode("utf-8").decode("utf-8") == text
    assert text.count("/") == path.count(b"/")
    assert "\0" not in text


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1))
def test_valid_utf_8_without_escapes_stands_unchanged(name):
    path = name.encode()
    if re.search(r"\\x[0-9a-fA-F]{2}", name):
        assert path_text(path) != name
    else:
        assert path_text(path) == name


@given(st.binary(min_size=1).map(lambda b: bytes(0x80 | byte for byte in b)))
def test_escapes_are_written_in_lower_case(path):
    escapes = re.findall(r"\\x(..)", path_text(path))
    assert escapes == [f"{int(e, 16):02x}" for e in escapes]


def test_a_person_may_type_an_escape_in_either_case():
    assert path_bytes(r"a\xFF\xfe") == b"a\xff\xfe"


def test_the_sensor_is_the_folder_at_the_configured_level():
    path = "site 4/950349/Data/a.wav"
    assert sensor_of(path, 1) == "site 4"
    assert sensor_of(path, 2) == "950349"
    assert sensor_of(path, 3) == "Data"
    assert sensor_of(path, 4) == ""  # the file itself is no sensor
    assert sensor_of(path, 0) == ""
    assert sensor_of(path, -1) == ""
    assert sensor_of("a.wav", 1) == ""
    assert sensor_of("950349/a.wav", 1) == "950349"


def test_the_key_is_the_prefix_and_the_path():
    assert object_key("C2", "950349/20250909_092000.WAV") == "C2/950349/20250909_092000.WAV"
    assert object_key("surveys/2025/C2", "a.wav") == "surveys/2025/C2/a.wav"
    assert object_key("", "950349/a.wav") == "950349/a.wav"


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ("C2/950349/a.WAV", f"C2/950349/a{SUFFIX}.WAV"),
        ("a.wav", f"a{SUFFIX}.wav"),
        ("C2/data", f"C2/data{SUFFIX}"),
        ("C2/.miniconfig", f"C2/.miniconfig{SUFFIX}"),
        (".hidden.wav", f".hidden{SUFFIX}.wav"),
        ("C2/log.2025.tar.gz", f"C2/log.2025.tar{SUFFIX}.gz"),
        ("C2/trailing.", f"C2/trailing{SUFFIX}."),
        ("v1.2/site.4/data", f"v1.2/site.4/data{SUFFIX}"),
        ("v1.2/.config", f"v1.2/.config{SUFFIX}"),
        ("v1.2/..wav", f"v1.2/.{SUFFIX}.wav"),
        ("C2/REC [-27.3 152.8].flac", f"C2/REC [-27.3 152.8]{SUFFIX}.flac"),
        ("C2/line\nbreak.wav", f"C2/line\nbreak{SUFFIX}.wav"),
        ("C2/Vögel.früh.wav", f"C2/Vögel.früh{SUFFIX}.wav"),
    ],
)
def test_a_conflict_copy_is_named_beside_the_key(key, beside):
    assert conflict_key(key, SHA256) == beside


@given(paths.map(path_text), st.binary(min_size=32, max_size=32))
def test_a_conflict_copy_stays_in_its_folder_and_never_takes_the_plain_key(key, digest):
    beside = conflict_key(key, digest)
    assert beside != key
    assert beside.rpartition("/")[0] == key.rpartition("/")[0]
    assert beside.replace(f"~{digest.hex()[:16]}", "", 1) == key or key.count("~") > 0


@pytest.mark.parametrize("letter", ["a", "ä", "€", "🐦"])  # 1 to 4 bytes each
def test_the_longest_key_has_exactly_1024_bytes(letter):
    width = len(letter.encode())
    room = KEY_LIMIT_BYTES - len("C2/")
    fits = letter * (room // width) + "a" * (room % width)
    assert len(object_key("C2", fits).encode()) == 1024

    with pytest.raises(FailureError) as error:
        object_key("C2", fits + "a")
    failure = error.value.failure
    assert failure.error_class == "key-too-long"
    assert failure.scope is FailureScope.FILE
    assert failure.permanent
    assert "1025 bytes" in failure.message
    assert "s3_prefix" in failure.hint


def test_without_a_prefix_the_limit_is_the_same():
    assert object_key("", "a" * 1024) == "a" * 1024
    with pytest.raises(FailureError):
        object_key("", "a" * 1025)


def test_an_escaped_byte_counts_as_the_four_that_stand_in_the_key():
    assert object_key("", path_text(b"\xff" * 256)) == r"\xff" * 256
    with pytest.raises(FailureError):
        object_key("", path_text(b"\xff" * 257))


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_a_conflict_copy_has_the_same_limit(letter):
    room = KEY_LIMIT_BYTES - len(SUFFIX) - len(".wav")
    stem = letter * (room // len(letter.encode())) + "a" * (room % len(letter.encode()))
    assert len(conflict_key(f"{stem}.wav", SHA256).encode()) == 1024
    with pytest.raises(FailureError) as error:
        conflict_key(f"{stem}a.wav", SHA256)
    assert error.value.failure.error_class == "key-too-long"


def test_the_message_about_a_long_key_is_itself_short():
    with pytest.raises(FailureError) as error:
        object_key("C2", "x" * 100_000)
    assert len(error.value.failure.message) < 400


@pytest.mark.parametrize("text", ["_sensordrop/a.wav", "_sensordrop/receipts/a.wav"])
def test_no_file_lies_where_receipts_are_kept(text):
    with pytest.raises(FailureError) as error:
        object_key("", text)
    failure = error.value.failure
    assert failure.error_class == "key-reserved"
    assert failure.scope is FailureScope.FILE
    assert failure.permanent
    assert object_key("C2", text) == f"C2/{text}"
