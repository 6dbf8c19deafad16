"""Text that is safe to show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sensordrop.core.terminal import printable


def test_what_moves_the_cursor_or_turns_text_around_is_escaped():
    assert printable("a\nb\t\x1b[2Jc\r") == "a\\nb\\t\\x1b[2Jc\\r"
    assert printable("\u202egnp.exe\u2028\x9b") == "\\u202egnp.exe\\u2028\\x9b"


def test_ordinary_text_stands_as_it_is():
    assert printable("Größe 𝄞 %25 'q' \\x") == "Größe 𝄞 %25 'q' \\x"


@given(st.text())
def test_nothing_printed_holds_a_control_character(text):
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in printable(text))
