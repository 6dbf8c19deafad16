"""`sensordrop why`: one file's whole story, and what keeps it from being stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from shlex import quote
from typing import Any

import click

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.asking import (
    asked_file,
    asked_places,
    clock,
    iso,
    look_on_disk,
    not_found,
    size_words,
)
from sensordrop.cli.desk import desk_at
from sensordrop.cli.place import find_place, place_options
from sensordrop.control.file_story import story_of
from sensordrop.core.guard import is_held
from sensordrop.core.keys import path_text
from sensordrop.core.story import (
    Blocker,
    FailedAttempt,
    FileStory,
    FileVersion,
    OnDisk,
    TakenAway,
    blockers,
    shown_state,
)
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit

DOCS = "docs/failures.md"
"""Where every error class is explained."""


@click.command()
@place_options
@click.argument("path")
@click.option("--delivery", metavar="NAME", help="Which delivery's file it is, if several have it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None,
    local: Path | None,
    database: str | None,
    path: str,
    delivery: str | None,
    as_json: bool,
) -> None:
    """Tell the whole story of one file: when it was seen, settled and tried, what each failed
    attempt said, when it is tried next, and what keeps it from being stored.

    PATH is as the delivery has it, such as 950349/20250909_092000.WAV, or absolute. Works whether
    sensordropd runs or not. Exits with 0 when the file is known, 1 when nobody knows of it.

    \b
    Examples:
      sensordrop why 950349/20250909_092000.WAV
      sensordrop why /srv/drop/highlands/950349/20250909_092000.WAV --json
    """
    with desk_at(find_place(config, local, database)) as desk:
        places = asked_places(desk, delivery)
        found = asked_file(desk, places, path)
        if found is None:
            not_found(path, places)
            sys.exit(Exit.FAILED)
        whose, relative = found
        told = desk.ask("why", delivery=whose.name, path=path_text(relative))
    story = story_of(told["story"])
    disk = look_on_disk(whose, relative)
    state = shown_state(story, disk)
    held = blockers(
        story,
        disk,
        retry=f"sensordrop retry {quote(story.path)} --delivery {quote(story.place.name)}",
        resume="sensordrop resume",
    )
    if as_json:
        click.echo(json.dumps(_told(story, state, held), ensure_ascii=False))
    else:
        _show(story, disk, state, held)
    sys.exit(Exit.FAILED if state == "missing" else Exit.DONE)


def _told(story: FileStory, state: str, held: Sequence[Blocker]) -> dict[str, Any]:
    """Give the story as `--json` tells it. Every key is always present."""
    current = story.current
    last = current.failures[-1] if current and current.failures else None
    return {
        "path": story.path,
        "delivery": story.place.name,
        "station": story.place.station,
        "state": state,
        "blocked_by": [
            {"what": each.what, "reason": each.reason, "hint": each.hint} for each in held
        ],
        "next_attempt_at": iso(current.next_at)
        if current and not is_held(current.next_at)
        else None,
        "error_class": last.error_class if last else None,
        "error": last.message if last else None,
        "hint": held[0].hint if held else "",
        "docs": f"{DOCS} ({last.error_class})" if last else DOCS,
        **(_version(current) if current else dict.fromkeys(_VERSION_KEYS)),
        "earlier_versions": [
            {"state": each.state, **_version(each)} for each in story.versions[1:]
        ],
    }  # fmt: skip


_VERSION_KEYS = (
    "sensor", "size_bytes", "session_id", "object_key", "seen_at", "settled_at", "enrolled_at",
    "finished_at", "attempts", "crashes", "failures", "retries", "taken",
)  # fmt: skip


def _version(version: FileVersion) -> dict[str, Any]:
    return {
        "sensor": version.sensor,
        "size_bytes": version.size_bytes,
        "session_id": version.session_id,
        "object_key": version.object_key,
        "seen_at": iso(version.seen_at or version.enrolled_at),
        "settled_at": iso(version.enrolled_at),
        "enrolled_at": iso(version.enrolled_at),
        "finished_at": iso(version.finished_at),
        "attempts": version.attempts,
        "crashes": version.crashes,
        "failures": [
            {
                "begun_at": iso(each.begun_at),
                "ended_at": iso(each.ended_at),
                "attempts": each.attempts,
                "scope": each.scope,
                "error_class": each.error_class,
                "error": each.message,
                "hint": each.hint,
                "charged": each.charged,
                "final": each.final,
            }
            for each in version.failures
        ],
        "retries": [
            {
                "asked_at": iso(each.asked_at),
                "asked_by": each.asked_by,
                "reason": each.reason,
                "at_once": each.at_once,
            }
            for each in version.retries
        ],
        "taken": _taken(version.taken) if version.taken else None,
    }


def _taken(taken: TakenAway) -> dict[str, Any]:
    return {
        "begun_at": iso(taken.begun_at),
        "ended_at": iso(taken.ended_at),
        "wish": taken.wish,
        "outcome": taken.outcome,
        "moved_to": taken.moved_to,
        "reason": taken.reason,
        "receipt": taken.receipt,
    }


def _show(story: FileStory, disk: OnDisk, state: str, held: Sequence[Blocker]) -> None:
    zone = local_zone()
    current = story.current
    colour = {"failed": "red", "uploaded": "green", "skipped": "green"}.get(state)
    click.echo(f"{printable(story.path)}: {click.style(state, fg=colour, bold=True)}")
    about = [f"delivery {printable(story.place.name)}"]
    if current is not None:
        about += [
            f"sensor {printable(current.sensor) or '(none)'}",
            size_words(current.size_bytes),
            f"session {current.session_id}",
        ]
    click.echo("  " + ", ".join(about))
    for each in held:
        click.echo(f"  {each.what}: {printable(each.reason)}")
        if each.hint:
            click.echo(f"      {printable(each.hint)}")
    if current is not None and current.next_at is not None and not is_held(current.next_at):
        click.echo(f"  next attempt: {clock(current.next_at, zone)}")
    elif current is not None and state == "pending" and not held:
        click.echo("  next attempt: as soon as a worker is free")
    if current is not None and current.failures:
        click.echo(f"  what each error means: {DOCS}, {current.failures[-1].error_class}")
    if current is not None and disk.fingerprint is None and state in ("uploaded", "skipped"):
        click.echo(f"  {disk.problem or 'the file is no longer in the folder'}")
    click.echo()
    for instant, words in sorted(_events(story.versions, zone), key=lambda event: event[0]):
        click.echo(f"  {clock(instant, zone)}  {printable(words)}")


def _events(versions: Sequence[FileVersion], zone: tzinfo) -> Iterator[tuple[datetime, str]]:
    """Give all that happened, with its time."""
    for number, version in enumerate(versions):
        what = "" if number == 0 else f" (a version before, {size_words(version.size_bytes)})"
        if version.seen_at is not None:
            yield version.seen_at, f"seen{what}"
        how = "settled" if version.seen_at else "seen, settled"
        yield version.enrolled_at, f"{how}, and on the books of session {version.session_id}{what}"
        for failure in version.failures:
            yield failure.ended_at, _failure_words(failure, zone)
        for retry in version.retries:
            words = f"retried by {retry.asked_by}" + (", at once" if retry.at_once else "")
            yield retry.asked_at, f"{words}: {retry.reason}" if retry.reason else words
        if version.taken is not None:
            at = version.taken.ended_at or version.taken.begun_at
            yield at, f"{_taken_words(version.taken)}{what}"
        if version.finished_at is not None and version.object_key is not None:
            yield version.finished_at, f"stored as {version.object_key}{what}"
        elif version.finished_at is not None and not version.failures:
            yield version.finished_at, f"{version.state}: {version.reason or ''}{what}"


def _taken_words(taken: TakenAway) -> str:
    by = f"after receipt {taken.receipt}"
    match taken.outcome:
        case "taken" if taken.moved_to is not None:
            return f"moved to {taken.moved_to} {by}"
        case "taken":
            return f"deleted from the folder {by}"
        case None:
            return f"about to be taken away from the folder {by}; nobody wrote down how it ended"
    return f"not taken away {by} ({taken.outcome}): {taken.reason or ''}"


def _failure_words(failure: FailedAttempt, zone: tzinfo) -> str:
    words = f"attempt {failure.attempts} failed" if failure.charged else "not stored"
    if failure.begun_at is not None:
        seconds = (failure.ended_at - failure.begun_at).total_seconds()
        words += f" (begun {failure.begun_at.astimezone(zone):%H:%M:%S}, took {seconds:.1f} s)"
    words += f": {failure.error_class} ({failure.scope}): {failure.message}"
    if failure.final:
        words += " — quarantined"
    return words if failure.charged else f"{words} — not charged to the file"
