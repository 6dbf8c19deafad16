"""How a run by hand shows itself where there is no terminal, or one that can do little."""

from __future__ import annotations

import io
import sys
from dataclasses import asdict, replace

import pytest

from sensordrop.cli.display import EMOJI, PLAIN, PLAIN_SECONDS, TextDisplay, display_for
from sensordrop.core.batch import Figures, progress_line

HALF = Figures(
    total=2, uploaded=1, skipped=0, failed=0, bytes_uploaded=2_000_000_000, files_per_second=1.5
)
WHOLE = replace(HALF, uploaded=2, bytes_uploaded=4_000_000_000)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr("sensordrop.cli.display.time.monotonic", lambda: now[0])
    return now


def lines(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line]


def test_plain_lines_come_now_and_then_and_the_last_one_once(capsys, clock):
    display = TextDisplay(marks=PLAIN, in_place=False, quiet=False, verbose=False)

    def progress(figures: Figures) -> None:
        display.take("info", {"event": "run_progress", "session": 1} | asdict(figures))

    progress(HALF)
    (line,) = lines(capsys)
    assert line == progress_line(HALF)
    progress(replace(HALF, bytes_uploaded=3_000_000_000))
    assert lines(capsys) == [], "not before its time"
    clock[0] += PLAIN_SECONDS
    progress(replace(HALF, files_per_second=0.1))
    assert lines(capsys) == [], "the speed alone is no news"
    for speed in (2.0, 1.5, 1.1):  # it goes on while the session is ended
        progress(replace(WHOLE, files_per_second=speed))
    (last,) = lines(capsys)
    assert last.startswith("| 100.0% | Uploaded: 2/2 ")


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("encoding", "term", "marks", "in_place"),
    [
        ("utf-8", "xterm", EMOJI, True),
        ("UTF8", "dumb", EMOJI, False),
        ("ascii", "xterm", PLAIN, True),
        ("latin-1", "xterm", PLAIN, True),
    ],
)
def test_marks_and_manner_suit_the_terminal(monkeypatch, encoding, term, marks, in_place):
    monkeypatch.setattr(sys, "stdout", Terminal(io.BytesIO(), encoding=encoding))
    monkeypatch.setenv("TERM", term)
    display = display_for(quiet=False, verbose=False, as_json=False)
    assert isinstance(display, TextDisplay)
    assert (display._marks, display._in_place) == (marks, in_place)


def test_nothing_is_drawn_in_place_into_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    display = display_for(quiet=False, verbose=False, as_json=False)
    assert isinstance(display, TextDisplay)
    assert (display._marks, display._in_place) == (PLAIN, False)
