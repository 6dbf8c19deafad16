"""docs/cli.md says what --help says."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from sensordrop.cli.app import VERBS, app
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
