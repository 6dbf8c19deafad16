"""Templates of notifications: JSON whose texts hold named placeholders, `{files_uploaded}`.

A template is what JSON is made of, so whatever is put into its texts, it stays JSON.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping

MOST_CHARACTERS = 20_000
"""A template is a chat's message, not a page; what is sent may be as long again by its values."""
MOST_DEPTH = 20
"""How deep lists and mappings may lie in each other: cards of chats need seven or eight."""

PLACEHOLDERS: Mapping[str, str] = {
    "message": "all of it in a sentence",
    "event": "`start`, `failure` or `done`",
    "reason": "what failed, for `failure`; else empty",
    "session_id": "the session's number",
    "delivery": "the delivery's name",
    "station": "the host's name",
    "client": "who owns the data",
    "project": "the project",
    "cycle": "the cycle",
    "bucket_name": "where the files are",
    "s3_prefix": "what their keys begin with",
    "total_files": "files of the session so far",
    "files_uploaded": "how many of them are uploaded",
    "files_skipped": "how many were stored already",
    "files_failed": "how many are quarantined",
    "total_bytes": "the size of all",
    "bytes_uploaded": "the size of those that are uploaded",
    "started_at": "when the session began, in UTC",
    "ended_at": "when it ended; empty while it runs",
    "receipt_digest": "digest of the session's receipt; empty where there is none",
    "manifest_location": "where its manifest is",
}
"""What may stand in braces, and what comes in its place."""

_OF_FILES = ("skipped", "failed")


class TemplateError(ValueError):
    """A template can't be filled, whatever the session; says why in words."""


def check_template(template: object) -> None:
    """See that a template can be filled for every session. Raises TemplateError."""
    if not isinstance(template, dict | list):
        raise TemplateError("a template is a JSON object or list")
    characters = 0
    for text in _texts(template, MOST_DEPTH):
        characters += len(text)
        if characters > MOST_CHARACTERS:
            raise TemplateError(f"a template has at most {MOST_CHARACTERS:,} characters")
        for name in _names(text):
            if name not in PLACEHOLDERS:
                raise TemplateError(
                    f"there is no placeholder {{{name}}}; there are: {', '.join(PLACEHOLDERS)}; "
                    "a brace that is meant as one is written twice"
                )


def fill_template(template: object, values: Mapping[str, str]) -> object:
    """Give a template that was checked with the values in its texts. Keys stay as they are."""
    if isinstance(template, str):
        return template.format_map(values)
    if isinstance(template, Mapping):
        return {key: fill_template(each, values) for key, each in template.items()}
    if isinstance(template, list | tuple):
        return [fill_template(each, values) for each in template]
    return template


def values_of(told: Mapping[str, object]) -> dict[str, str]:
    """Give a value for each placeholder, from what the ledger wrote into a letter."""
    files = told.get("files")
    counts = files if isinstance(files, Mapping) else {}
    flat = {**told, **{f"files_{name}": counts.get(name, 0) for name in _OF_FILES}}
    texts = {name: _text(flat.get(name)) for name in PLACEHOLDERS}
    return {**texts, "message": message_of(texts)}


def message_of(values: Mapping[str, str]) -> str:
    """Tell in a sentence what happened."""
    who = f"{values['delivery']}: session {values['session_id']}"
    stored = f"{values['files_uploaded']} of {values['total_files']} files uploaded"
    if values["event"] == "start":
        return f"{who} began at {values['station']}"
    if values["event"] == "failure":
        return f"{who} is in trouble: {values['reason']} ({stored} so far)"
    rest = f", {values['files_skipped']} stored already" if _some(values, "skipped") else ""
    if _some(values, "failed"):
        return f"{who} ended with trouble: {stored}{rest}, {values['files_failed']} failed"
    return f"{who} ended well: {stored}{rest}"


def _some(values: Mapping[str, str], what: str) -> bool:
    return values[f"files_{what}"] not in ("", "0")


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _texts(template: object, depth: int) -> Iterator[str]:
    if depth < 0:
        raise TemplateError(f"a template is at most {MOST_DEPTH} levels deep")
    if isinstance(template, str):
        yield template
    elif isinstance(template, Mapping):
        for key, each in template.items():
            if not isinstance(key, str):
                raise TemplateError(f"the key {key!r} of a template is no text: put it in quotes")
            yield from _texts(each, depth - 1)
    elif isinstance(template, list | tuple):
        for each in template:
            yield from _texts(each, depth - 1)
    elif template is not None and not isinstance(template, bool | int | float):
        raise TemplateError(f"{template!r} is nothing that JSON has: put it in quotes")


def _names(text: str) -> Iterator[str]:
    """Give the placeholders of a text; only plain names are taken."""
    try:
        for _, name, form, conversion in string.Formatter().parse(text):
            if name is None:
                continue
            if form or conversion:
                raise TemplateError(f"a placeholder is a name in braces, not in {text!r}")
            yield name
    except ValueError as error:
        if isinstance(error, TemplateError):
            raise
        raise TemplateError(
            f"a brace in {text!r} is alone: one that is meant as a brace is written twice"
        ) from error
