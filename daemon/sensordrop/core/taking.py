"""Taking files away from a drop folder once they are proven to be stored: what is asked for, what a
folder's name is here, and what became of a file whose taking away was broken off.

Nothing here decides that a file is safe: a receipt says so, and the file itself, and the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sensordrop.core.keys import conflict_key, path_bytes, path_text
from sensordrop.core.verification import CheckResult, Finding

ASIDE = b".sensordrop-taking-"
"""Begins the name that a file has between leaving its place and being removed: under it nobody else
can put another file in its place. The number of its record follows, and some of its SHA-256."""
ARRIVING = b".sensordrop-arriving-"
"""Begins the name of a copy that is being made in the target folder."""
FIRST_WAIT_SECONDS = 3_600.0
"""How long is waited after a round that left files, before another receipt is made: each costs a
listing of the folder and of the bucket's prefix."""
LONGEST_WAIT_SECONDS = 86_400.0
"""What the wait doubles up to: whatever stands against it waits for a person."""


class WishKind(StrEnum):
    """What becomes of a file that is proven to be stored."""

    KEEP = "keep"
    MOVE = "move"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A delivery's `after_verified`. `target` is where `move` takes files; '' for the others."""

    kind: WishKind
    target: str = ""


def wish_of(text: str) -> Wish:
    """Read `keep`, `delete` or `move:/folder`, as the configuration has checked it."""
    kind, _, target = text.partition(":")
    return Wish(kind=WishKind(kind), target=target)


class TakingOutcome(StrEnum):
    """How it ended with one file."""

    TAKEN = "taken"
    LEFT = "left"
    """It stays where it was."""
    MISSING = "missing"
    """It is neither where it was nor where it should have been moved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traces:
    """What is found of a file whose taking away was begun, by somebody who died meanwhile."""

    in_place: bool
    aside: bool = False
    """It has the name that it was to be removed under, and its own is taken by another file."""
    moved_to: str | None = None
    """Where the target has the same content, below it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Became:
    """What a file came to."""

    outcome: TakingOutcome
    moved_to: str | None = None
    reason: str = ""


def what_became(kind: WishKind, traces: Traces) -> Became:
    """Say what became of a file whose taking away was broken off."""
    if traces.aside:
        reason = (
            f"broken off; its name was taken meanwhile, so that it is called {path_text(ASIDE)}…"
        )
        return Became(outcome=TakingOutcome.LEFT, reason=reason)
    if traces.in_place:
        return Became(outcome=TakingOutcome.LEFT, reason="the program ended before it was taken")
    if kind is WishKind.MOVE and traces.moved_to is None:
        reason = "broken off; it is neither in the folder nor in the target"
        return Became(outcome=TakingOutcome.MISSING, reason=reason)
    return Became(
        outcome=TakingOutcome.TAKEN,
        moved_to=traces.moved_to,
        reason="the program ended before this was written down",
    )


def is_whole_below(folder: str, sensor_level: int) -> bool:
    """Tell whether a folder of files, as the ledger names them, is all that lies below it.

    Files are taken folder by folder: the folders down to `sensor_level` make one, the sensor's.
    A file that lies higher belongs to the folder that it lies in directly, without what is below.
    """
    return (folder.count("/") + 1 if folder else 0) == sensor_level


def name_of_ours(begin: bytes, number: int, sha256: bytes) -> bytes:
    """Name a file for the moment. Of one ledger no two records have one number; of several, that
    take to one target, no two would also have the digest.
    """
    return begin + b"%d-%s" % (number, sha256.hex()[:16].encode())


def conflict_name(name: bytes, sha256: bytes) -> bytes:
    """Name a file in the target whose own name is taken there by other content, as keys are.

    Raises FailureError where the name would be too long for anything.
    """
    return path_bytes(conflict_key(path_text(name), sha256))


def must_be_read(finding: Finding, *, proven: bool) -> bool:
    """Tell whether an object's bytes must be read after a look at it: the look found nothing wrong
    and proves nothing, or it found what reading alone can judge. `proven`: the store was seen to
    check the bytes that its ETag stands for.
    """
    if finding.result is CheckResult.MISSING:
        return False
    return finding.result is not CheckResult.SAME or not proven


def wait_seconds(rounds_in_vain: int) -> float:
    """Give how long is waited after so many rounds in a row that left files; the first is 1."""
    doublings = min(max(0, rounds_in_vain - 1), 10)
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0**doublings)
