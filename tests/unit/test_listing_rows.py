"""Records of folder entries become COPY rows that give back every byte."""

from __future__ import annotations

import os

from hypothesis import example, given
from hypothesis import strategies as st

from sensordrop.adapters.listing import record_of, rows_of
from sensordrop.core.keys import path_text

# Names of bytes that make trouble, and of any bytes; several of them make a path.
name = (
    st.lists(
        st.sampled_from(
            [b"\\", b"\\x", b"41", b"\\x41", b"\\N", b"\t", b"\n", b"\r", b"\xff", b"\xc3", b"-",
             b"\\.", b"\\000", " ä".encode(), "🐦".encode(), b"\xed\xb2\x80", b"a", b"'"]
        ),
        min_size=1,
        max_size=8,
    ).map(b"".join)
    | st.binary(min_size=1, max_size=20).map(
        lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"_")
    )
).filter(lambda raw: raw not in {b".", b".."})  # fmt: skip
path = st.lists(name, min_size=1, max_size=3).map(b"/".join)


def uncopy(field: bytes) -> bytes:
    """Undo COPY's text escapes, as PostgreSQL's documentation tells them."""
    named = {ord("t"): b"\t", ord("n"): b"\n", ord("r"): b"\r", ord("\\"): b"\\"}
    out = bytearray()
    at = 0
    while at < len(field):
        if field[at] == ord("\\"):
            out += named[field[at + 1]]  # KeyError: an escape that must not be there
            at += 2
        else:
            assert field[at] not in b"\t\n\r"
            out.append(field[at])
            at += 1
    return bytes(out)


def unbytea(field: bytes) -> bytes:
    """Undo bytea's escape format."""
    assert not field.startswith(b"\\x"), "PostgreSQL would read this as hex"
    parts = field.split(b"\\\\")
    assert all(b"\\" not in part for part in parts)
    return b"\\".join(parts)


def decode(rows: bytes):
    for line in rows.split(b"\n")[:-1]:
        kind, size, mtime, ctime, path, text = map(uncopy, line.split(b"\t"))
        yield kind, int(size), mtime, ctime, unbytea(path), text


def status(size=0, mtime_ns=0, ctime_ns=0, mode=0o100644):
    # The real class, built as the os module would.
    base = (mode, 0, 0, 1, 0, 0, size, 0, 0, 0)
    return os.stat_result(base, {"st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns})


@given(st.lists(path, max_size=6))
@example([rb"plain", rb"looks like \x41 escaped"])
@example([rb"\x41"])
@example([b"plain", b"invalid \xff", "välid".encode()])
@example([b"/".join([b"\n\t\r\\"] * 3)])
def test_every_path_comes_back_with_its_text(paths):
    chunk = rows_of(b"".join(record_of(status(size=7), path) for path in paths))

    assert chunk.entries == len(paths)
    rows = list(decode(chunk.rows))
    assert [row[4] for row in rows] == paths
    for row, path in zip(rows, paths, strict=True):
        expected = path_text(path).encode()
        assert row[5] == (b"" if expected == path else expected)


def test_plain_names_need_no_text_of_their_own():
    block = record_of(status(), "Dämmerung\\a.wav".encode())

    (row,) = decode(rows_of(block).rows)

    assert row[5] == b""


def test_times_are_written_to_the_nanosecond():
    seen = []
    for nanoseconds in (0, 1, -1, -1_500_000_000, 1_757_409_600_123_456_789, 4_296_844_800 * 10**9):
        (row,) = decode(rows_of(record_of(status(mtime_ns=nanoseconds), b"a")).rows)
        seen.append(row[2].decode())

    assert seen == [
        "0.0000000000",
        "0.0000000010",
        "-0.0000000010",
        "-1.5000000000",
        "1757409600.1234567890",
        "4296844800.0000000000",
    ]
