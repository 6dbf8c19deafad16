"""Templates of notifications: what they are filled with, and what is refused before it is too late."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensordrop.core.templates import (
    MOST_CHARACTERS,
    MOST_DEPTH,
    PLACEHOLDERS,
    TemplateError,
    check_template,
    fill_template,
    values_of,
)

TOLD = {
    "event": "done",
    "delivery": "highlands",
    "station": "hut",
    "session_id": 12,
    "total_files": 121,
    "files_uploaded": 119,
    "files": {"uploaded": 119, "skipped": 1, "failed": 1},
    "total_bytes": 2_000,
    "reason": None,
}


def test_texts_are_filled_and_all_else_stays_as_it_is():
    template = {
        "text": "{delivery}: {files_uploaded}/{total_files}",
        "n": 3,
        "more": [None, "{{}}"],
    }
    check_template(template)
    assert fill_template(template, values_of(TOLD)) == {
        "text": "highlands: 119/121",
        "n": 3,
        "more": [None, "{}"],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ("highlands: session 12 ended with trouble: 119 of 121 files uploaded, "
              "1 stored already, 1 failed")),
        ({"files": {}}, "highlands: session 12 ended well: 119 of 121 files uploaded"),
        ({"event": "start"}, "highlands: session 12 began at hut"),
        ({"event": "failure", "reason": "S/a.WAV: no"},
         "highlands: session 12 is in trouble: S/a.WAV: no (119 of 121 files uploaded so far)"),
    ],
)  # fmt: skip
def test_a_sentence_says_what_happened(changes, message):
    assert values_of({**TOLD, **changes})["message"] == message


@given(st.dictionaries(st.sampled_from(sorted(PLACEHOLDERS)), st.text()))
def test_whatever_is_put_in_it_stays_json_with_the_same_shape(told):
    template = {"text": "{message} {reason}", "list": ["{delivery}", {"x": "{client}"}]}
    filled = json.loads(json.dumps(fill_template(template, values_of(told))))
    assert set(filled) == set(template)
    assert filled["list"][1] == {"x": str(told.get("client", ""))}


def deep(levels: int) -> object:
    return "x" if levels == 0 else [deep(levels - 1)]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{message}", "object or list"),
        (
            {"text": "{fils_uploaded}"},
            "there is no placeholder {fils_uploaded}; there are: message",
        ),
        ({"text": "{}"}, "there is no placeholder"),
        ({"text": "{0}"}, "there is no placeholder"),
        ({"text": "{delivery.__class__}"}, "there is no placeholder"),
        ({"text": "{delivery[0]}"}, "there is no placeholder"),
        ({"text": "{delivery!r}"}, "a placeholder is a name in braces"),
        ({"text": "{total_files:,}"}, "a placeholder is a name in braces"),
        ({"text": "{"}, "is alone"),
        ({"text": "50 }"}, "is alone"),
        ({1: "x"}, "is no text"),
        ({"at": object()}, "nothing that JSON has"),
        (["x" * (MOST_CHARACTERS + 1)], "at most"),
        (deep(MOST_DEPTH + 2), "levels deep"),
    ],
)
def test_what_could_not_be_filled_is_refused_with_what_is_wrong(template, words):
    with pytest.raises(TemplateError) as refused:
        check_template(template)
    assert words in str(refused.value)
