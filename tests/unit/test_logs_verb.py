"""`sensordrop logs`: what journalctl is asked, and what is said where there is none."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sensordrop.adapters.journal import fields_of
from sensordrop.cli.logs import command, journal_arguments


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ({}, ["--unit=sensordropd", "--lines=200"]),
        ({"lines": 5, "follow": True}, ["--unit=sensordropd", "--lines=5", "--follow"]),
        ({"since": "today"}, ["--unit=sensordropd", "--since=today"]),
        (
            {"priority": "error", "as_json": True},
            ["--unit=sensordropd", "--priority=err", "--lines=200", "--output=json"],
        ),
        (
            {"delivery": "highlands-c2", "session_id": 12, "unit": "other", "lines": 1},
            ["--unit=other", "--lines=1", "DELIVERY=highlands-c2", "SESSION=12"],
        ),
    ],
)
def test_the_journal_is_asked_with_the_right_filter(asked, arguments):
    assert journal_arguments(**asked) == arguments


def test_the_fields_that_are_asked_for_are_those_that_are_written():
    written = fields_of({"event": "session_ended", "delivery": "highlands-c2", "session_id": 12})
    filters = journal_arguments(delivery="highlands-c2", session_id=12)[-2:]
    assert filters == [f"{name}={written[name]}" for name in ("DELIVERY", "SESSION")]


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        (None, 1, "journalctl is not installed"),
        ("No journal files were found.", 1, "no journal on this machine"),
        ("No journal files were opened due to insufficient permissions.", 4, "permissions"),
        ("Failed to parse timestamp: soon", 1, "parse timestamp"),
        ("", 0, ""),
    ],
)
def test_what_the_journal_says_is_passed_on_with_a_code(tmp_path, monkeypatch, says, code, words):
    """The one who answers is a stand-in: no machine has all of these journals."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if says is not None:
        program = tmp_path / "journalctl"
        program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {int('Failed' in says)}\n")
        program.chmod(0o755)
    done = CliRunner().invoke(command, [])
    assert done.exit_code == code
    assert words in done.output
