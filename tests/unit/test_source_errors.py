"""What the operating system says of a file is what docs/failures.md says."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from sensordrop.adapters.opened_file import classified

DOCS = Path(__file__).parents[2] / "docs" / "failures.md"


def told() -> list[tuple[str, str, str]]:
    _, _, after = DOCS.read_text(encoding="utf-8").partition("## What the operating system says")
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.*) \|$", after, re.MULTILINE)
    return [
        (name, error_class, scope)
        for error_class, scope, names in rows
        for name in re.findall(r"`(E[A-Z]+)`", names)
    ]


@pytest.mark.parametrize(("name", "error_class", "scope"), told())
def test_an_error_of_the_system_is_classified_as_it_is_told(name, error_class, scope):
    error = OSError(getattr(errno, name), "words")
    failure = classified(error, b"s/a.wav", "read").failure
    assert (failure.error_class, failure.scope.value) == (error_class, scope)
    assert failure.hint
    assert "s/a.wav" in failure.message


def test_the_table_has_what_people_meet():
    names = {name for name, _, _ in told()}
    assert {"EIO", "EACCES", "ESTALE", "EMFILE", "ELOOP", "ENAMETOOLONG"} <= names
