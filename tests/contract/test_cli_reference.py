"""docs/cli.md says what --help says."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from sensordrop.cli.app import GROUPS, VERBS, app
from sensordrop.cli.reference import section

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
ANEW = "write it anew: .venv/bin/python -m sensordrop.cli.reference docs/cli.md"


@pytest.mark.parametrize("verb", ["pipeline", "upload"])
def test_the_page_on_the_command_line_has_the_words_of_help(verb):
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    assert section(verb, command) in PAGE.read_text(encoding="utf-8"), ANEW


def test_the_page_names_only_verbs_that_there_are():
    found = PAGE.read_text(encoding="utf-8").splitlines()
    assert {line[3:] for line in found if line.startswith("## ")} <= set(VERBS), ANEW


@pytest.mark.parametrize("verb", VERBS)
def test_examples_stand_on_lines_of_their_own(verb):
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    words = section(verb, command)
    assert "\\b" not in words, "a mark for click that click did not see"
    examples = [line for line in words.splitlines() if line.startswith("    sensordrop ")]
    assert len(examples) >= 2 or "Examples:" not in words


def test_the_first_help_names_every_verb_once():
    grouped = [verb for group in GROUPS.values() for verb in group]
    assert sorted(grouped) == list(VERBS)
    shown = app.get_help(click.Context(app)).splitlines()
    for verb, (_, purpose) in VERBS.items():
        assert sum(line.startswith(f"  {verb} ") and purpose in line for line in shown) == 1, verb
