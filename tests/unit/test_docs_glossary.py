"""The glossary names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sensordrop.core.failure import FailureScope
from sensordrop.core.model import DeliveryState, FileKind, UploadState

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"


def words_of(section):
    """Give the words that a section explains, in its order."""
    text = GLOSSARY.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^- \*\*(.+?)\*\*: \S", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("section", "members"),
    [
        ("States of a file", UploadState),
        ("States of a delivery", DeliveryState),
        ("Kinds of files", FileKind),
        ("Scopes of a failure", FailureScope),
    ],
)
def test_each_section_explains_exactly_the_members_there_are_in_their_order(section, members):
    assert words_of(section) == [member.value for member in members]


def test_the_words_of_the_product_are_explained():
    product = {
        "client", "project", "cycle", "sensor", "delivery", "file", "sweep", "hint", "settled",
        "ledger", "claim", "sync session", "receipt", "quarantined",
    }  # fmt: skip
    sections = re.findall(r"^## (.+)$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    explained = {word for section in sections for word in words_of(section)}
    assert product <= explained


def test_no_word_is_explained_twice_within_a_section():
    for section in re.findall(r"^## (.+)$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE):
        words = words_of(section)
        assert len(words) == len(set(words))
