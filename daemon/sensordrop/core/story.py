"""What is told of one file: all that happened to it, and what keeps it from being stored now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sensordrop.core.controls import Control, pause_words
from sensordrop.core.guard import is_held
from sensordrop.core.model import DeliveryState, Fingerprint

QUIET_SECONDS = 10.0
"""How long a file must be left alone where the ledger does not know the delivery's own setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryPlace:
    """Where a delivery takes from and puts to, and how it stood when its daemon last said so.

    `endpoint_url` is '' for Amazon's own; `station` None where stations share it.
    """

    delivery_id: int
    name: str
    station: str | None
    local_directory: str
    endpoint_url: str
    bucket_name: str
    s3_prefix: str
    enabled: bool
    state: str | None
    reason: str | None
    last_sweep_ended_at: datetime | None
    last_sweep_complete: bool | None
    last_complete_sweep_at: datetime | None
    session_id: int | None
    quiet_seconds: float | None
    daemon_alive: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedAttempt:
    """One attempt that failed. `attempts` are those used up with it; `begun_at` None: a crash."""

    begun_at: datetime | None
    ended_at: datetime
    attempts: int
    scope: str
    error_class: str
    message: str
    hint: str
    charged: bool
    final: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class HandRetry:
    """Somebody had the file retried."""

    asked_at: datetime
    asked_by: str
    reason: str
    at_once: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenAway:
    """The file was taken away from its folder after it was proven to be stored, or was to be.

    `outcome` None: somebody is at it, or died. `moved_to` is a whole path; None: it was deleted.
    """

    begun_at: datetime
    ended_at: datetime | None
    wish: str
    outcome: str | None
    moved_to: str | None
    reason: str | None
    receipt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileVersion:
    """One version of a file on the books, with what happened to it.

    `next_at` is when it is tried next, None: at once, or never again. `seen_at` None: it was
    settled when it was first seen.
    """

    upload_id: int
    state: str
    session_id: int | None
    sensor: str
    size_bytes: int
    fingerprint: Fingerprint
    seen_at: datetime | None
    enrolled_at: datetime
    finished_at: datetime | None
    object_key: str | None
    reason: str | None
    attempts: int
    crashes: int
    claimed: bool
    next_at: datetime | None
    failures: Sequence[FailedAttempt] = ()
    retries: Sequence[HandRetry] = ()
    taken: TakenAway | None = None
    """How the last try to take it away from the folder ended; None: there was none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStory:
    """All that the ledger knows of one path of a delivery; `versions` the newest first."""

    place: DeliveryPlace
    path: str
    versions: Sequence[FileVersion] = ()
    pauses: Sequence[Control] = ()
    ignored: str | None = None
    """Why it is not uploaded at all."""

    @property
    def current(self) -> FileVersion | None:
        """The file as it is now, if it is on the books."""
        return self.versions[0] if self.versions else None


@dataclass(frozen=True, kw_only=True, slots=True)
class OnDisk:
    """What the folder shows of the path. `fingerprint` None: it is not there; `problem`: why
    nobody can say.
    """

    fingerprint: Fingerprint | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocker:
    """One thing that keeps a file from being stored now, and what a person can do about it."""

    what: str
    """One word: quarantine, ignored, unknown, missing, settling, disabled, daemon, pause, offline,
    breaker, wait, crashes."""
    reason: str
    hint: str = ""


def shown_state(story: FileStory, disk: OnDisk) -> str:
    """Name the file's state in the words of `status`, or `missing` where it is nowhere."""
    current = story.current
    if current is not None and not _newer_on_disk(current, disk):
        return "uploading" if current.claimed else current.state
    if story.ignored is not None:
        return "ignored"
    return "settling" if disk.fingerprint is not None else "missing"


def blockers(story: FileStory, disk: OnDisk, *, retry: str, resume: str) -> list[Blocker]:
    """Say what keeps the file from being stored now, what comes first first; nothing if it is.

    `retry` and `resume` are the commands that end a quarantine and a pause, as one types them.
    """
    current = story.current
    changed = current is not None and _newer_on_disk(current, disk)
    if current is None or changed:
        found = _before_the_books(story, disk, changed=changed)
        return found if found and found[0].what in ("ignored", "missing", "unknown") else [
            *found, *_of_delivery(story, resume)]  # fmt: skip
    if current.state == "failed":
        hint = current.failures[-1].hint if current.failures else ""
        then = f"then: {retry}"
        return [
            Blocker(
                what="quarantine",
                reason=current.reason or "no reason is kept",
                hint=f"{hint}; {then}" if hint else f"mend the cause, {then}",
            )
        ]
    if current.state != "pending" or current.claimed:
        return []
    found = _of_delivery(story, resume)
    if current.crashes > 1:
        found.append(
            Blocker(
                what="crashes",
                reason=f"the program died {current.crashes} times while it was in work: it is "
                "worked on alone",
            )
        )
    if is_held(current.next_at):
        found.append(
            Blocker(
                what="missing",
                reason="it is gone from the folder, with many others or with its whole disk: it is "
                "kept until it is back",
                hint="bring it back; or say that all of them are gone: "
                f"sensordrop rescan {story.place.name} --confirm-vanished",
            )
        )
    elif current.next_at is not None:
        failed = current.failures[-1].message if current.failures else "it was still being written"
        found.append(
            Blocker(
                what="wait",
                reason=f"it waits for its next attempt: {failed}",
                hint=f"it is tried by itself; at once: {retry} --now",
            )
        )
    return found


def _newer_on_disk(version: FileVersion, disk: OnDisk) -> bool:
    finished = version.state not in ("pending", "vanished")
    return finished and disk.fingerprint is not None and disk.fingerprint != version.fingerprint


def _before_the_books(story: FileStory, disk: OnDisk, *, changed: bool) -> list[Blocker]:
    """Say why a file is not on the books as it is."""
    if story.ignored is not None and not changed:
        return [
            Blocker(
                what="ignored",
                reason=f"it is not uploaded: {story.ignored}",
                hint="see include, exclude and extensions of the delivery",
            )
        ]
    if disk.problem is not None:
        return [Blocker(what="unknown", reason=disk.problem, hint="ask as a user who may read it")]
    if disk.fingerprint is None:
        return [
            Blocker(
                what="missing",
                reason="it is neither on the books nor in the folder",
                hint="check the path: below the delivery's folder, upper and lower case as on disk",
            )
        ]
    quiet = story.place.quiet_seconds or QUIET_SECONDS
    how = "it changed after it was finished" if changed else "it is not on the books yet"
    return [
        Blocker(
            what="settling",
            reason=f"{how}: it goes there when nobody has written to it for {quiet:g} seconds",
            hint="if it was left alone for longer, the next sweep takes it",
        )
    ]


def _of_delivery(story: FileStory, resume: str) -> list[Blocker]:
    """Say what holds all files of the delivery up."""
    place = story.place
    found: list[Blocker] = []
    if not place.enabled:
        found.append(
            Blocker(
                what="disabled",
                reason="the delivery is not in the configuration, or enabled is false there",
                hint="enable it in its configuration and start sensordropd again",
            )
        )
    elif not place.daemon_alive:
        found.append(
            Blocker(
                what="daemon",
                reason="sensordropd is not running",
                hint="start it: systemctl start sensordropd",
            )
        )
    paused = pause_words(story.pauses, place.delivery_id)
    if paused is not None:
        found.append(Blocker(what="pause", reason=paused, hint=f"end it: {resume}"))
    if place.state == DeliveryState.OFFLINE:
        found.append(Blocker(what="offline", reason=place.reason or "the folder is offline"))
    if place.state == DeliveryState.BLOCKED:
        found.append(
            Blocker(
                what="breaker",
                reason=place.reason or "the destination is in trouble",
                hint="it is probed and goes on by itself when the trouble is over",
            )
        )
    return found
