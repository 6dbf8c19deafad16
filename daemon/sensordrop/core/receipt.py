"""The receipt: what became of every file of a folder, and whether its card may be wiped now.

A file is in exactly one of four classes, and the classes must add up to what was listed and what is
on the books; otherwise there is no receipt at all. SAFE needs that nothing speaks against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sensordrop.core.model import EntryType, Fingerprint, UploadState
from sensordrop.core.selection import IgnoreReason, Selection
from sensordrop.core.verification import CheckMethod, CheckResult, Problem, Verdict

MOST_PROBLEMS = 10_000
"""Problems that a receipt lists; more are counted. The list of files beside it has them all."""
MAY_BE_ABSENT = frozenset({IgnoreReason.JUNK, IgnoreReason.EXCLUDED})
"""Only what the junk list or the operator's `exclude` names may be missing from the store."""


class FileClass(StrEnum):
    """What became of a file."""

    STORED = "stored"
    """Its bytes are in the store, and the store was asked for them for this receipt."""
    SKIPPED = "skipped"
    """It is not uploaded, for the reason given."""
    QUARANTINED = "quarantined"
    """Somebody must look at it: it failed, left too early, or the store lost it."""
    PENDING = "pending"
    """It is on its way, or nobody knows enough of it to say more."""


# --- what is known of one file ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The file in the folder, as the receipt's own listing found it."""

    entry_type: EntryType
    fingerprint: Fingerprint


@dataclass(frozen=True, kw_only=True, slots=True)
class Booked:
    """The file's current version on the books."""

    state: UploadState
    fingerprint: Fingerprint
    object_key: str | None = None
    sha256: bytes | None = None
    version_id: str | None = None
    etag: str | None = None
    """Only where the store was seen to check the bytes that it gave it for."""
    conflict: bool = False
    reason: str | None = None
    endpoint_url: str | None = None
    """Of its store, where a receipt is about more than one; '' is Amazon's own."""

    @property
    def stored(self) -> bool:
        """Whether the books say that its bytes are in the store."""
        return (
            self.state in (UploadState.UPLOADED, UploadState.SKIPPED)
            and self.object_key is not None
            and self.sha256 is not None
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What asking the store for its object came to. `result` None: nothing, for this reason."""

    result: CheckResult | None
    method: CheckMethod | None = None
    reason: str = ""
    checked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reread:
    """What reading the file in the folder again came to. `problem`: why it could not be read."""

    size_bytes: int = 0
    sha256: bytes = b""
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """All that is known of one file. At least one of `seen` and `booked` is there."""

    path_text: str
    sensor: str
    seen: Seen | None = None
    booked: Booked | None = None
    proof: Proof | None = None
    reread: Reread | None = None


# --- what follows from it -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounted:
    """A file in its class. `reason` says why it is not stored; it blocks where `blocks` is set."""

    facts: FileFacts
    file_class: FileClass
    reason: str = ""
    blocks: bool = False

    @property
    def size_bytes(self) -> int:
        """The bytes it has in the folder, or had when it went on the books."""
        known = self.facts.seen or self.facts.booked
        assert known is not None
        return known.fingerprint.size_bytes


def account(facts: FileFacts, selection: Selection) -> Accounted:
    """Put a file into its class. Whatever is not proven to be stored blocks, unless its name is on
    the junk list or the operator excluded it.
    """
    seen, booked = facts.seen, facts.booked
    if seen is None and booked is None:
        raise ValueError(f"nothing is known of {facts.path_text!r}")
    judged = _judge(facts)
    if judged.file_class is FileClass.STORED:
        return judged
    ignored = selection.ignore_reason(
        facts.path_text, EntryType.FILE if seen is None else seen.entry_type
    )
    if ignored is None:
        return judged
    if ignored in MAY_BE_ABSENT:
        return Accounted(facts=facts, file_class=FileClass.SKIPPED, reason=ignored)
    if booked is None:
        reason = f"it is not stored: {ignored}; if it may be lost, name it in `exclude`"
        return Accounted(facts=facts, file_class=FileClass.SKIPPED, reason=reason, blocks=True)
    return judged


def _judge(facts: FileFacts) -> Accounted:
    seen, booked = facts.seen, facts.booked
    if booked is None:
        return _blocked(facts, FileClass.PENDING, "it is on disk and not on the books: not stored")
    if not booked.stored:
        return _not_stored(facts, booked)
    if seen is not None and (changed := _changed(seen, booked, facts.reread)):
        return _blocked(facts, FileClass.PENDING, changed)
    return _in_the_store(facts)


def _not_stored(facts: FileFacts, booked: Booked) -> Accounted:
    if booked.state is UploadState.FAILED:
        why = booked.reason or "no reason is kept"
        return _blocked(facts, FileClass.QUARANTINED, f"quarantined: {why}")
    if booked.state is UploadState.VANISHED and facts.seen is None:
        reason = (
            "it left the folder before it was stored; if it is still on the card, copy it again"
        )
        return _blocked(facts, FileClass.QUARANTINED, reason)
    if booked.state is UploadState.VANISHED:
        return _blocked(
            facts, FileClass.PENDING, "it had vanished and is on disk again: not stored"
        )
    return _blocked(facts, FileClass.PENDING, "it is waiting to be stored")


def _changed(seen: Seen, booked: Booked, reread: Reread | None) -> str:
    """Say how the file in the folder is another than the one that was stored; '' if it is the same.

    Bytes that were read again say more than times: where they are the same, the times don't count.
    """
    if seen.entry_type is not EntryType.FILE:
        return "it is no longer a file on disk"
    if reread is not None:
        if reread.problem:
            return f"it could not be read again: {reread.problem}"
        if (reread.size_bytes, reread.sha256) != (booked.fingerprint.size_bytes, booked.sha256):
            return (
                f"read again, it has SHA-256 {reread.sha256.hex()} ({reread.size_bytes} bytes); "
                f"what was stored has {(booked.sha256 or b'').hex()} "
                f"({booked.fingerprint.size_bytes} bytes)"
            )
        return ""
    if seen.fingerprint != booked.fingerprint:
        return "its size or times on disk changed after it was stored (--reread compares its bytes)"
    return ""


def _in_the_store(facts: FileFacts) -> Accounted:
    proof = facts.proof
    if proof is None or proof.result is None:
        why = (proof.reason if proof else "") or "nobody asked the store for it"
        return _blocked(facts, FileClass.PENDING, f"its object could not be verified: {why}")
    if proof.result is not CheckResult.SAME:
        return _blocked(facts, FileClass.QUARANTINED, proof.reason or proof.result.value)
    return Accounted(facts=facts, file_class=FileClass.STORED)


def _blocked(facts: FileFacts, file_class: FileClass, reason: str) -> Accounted:
    return Accounted(facts=facts, file_class=file_class, reason=reason, blocks=True)


# --- the sum ------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Amount:
    """Files and their bytes."""

    files: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """Count one more file."""
        self.files += 1
        self.size_bytes += size_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """What holds for the folder as a whole. `listed` and `booked` were counted by others than those
    who put the files into classes: the folder's listing and the ledger.
    """

    listed: int
    booked: int
    swept: bool
    last_sweep_complete: bool | None
    last_sweep_problem: str | None = None
    listing_problem: str | None = None
    """Why the receipt's own listing of the folder is not complete; None: it is."""


class DoesNotAddUpError(Exception):
    """The classes are not the sum of what was listed and booked: there is no receipt."""


def _amounts() -> dict[FileClass, Amount]:
    return {each: Amount() for each in FileClass}


@dataclass(kw_only=True)
class SensorAccount:
    """The sum of one sensor's folder."""

    classes: dict[FileClass, Amount] = field(default_factory=_amounts)
    problem_count: int = 0
    compared: int = 0
    """Files that are in the folder, and stored and verified as they are there."""


@dataclass(kw_only=True)
class Account:
    """Sums up a folder's files, one after the other, in memory that does not grow with them
    (sensors and listed problems apart).
    """

    classes: dict[FileClass, Amount] = field(default_factory=_amounts)
    sensors: dict[str, SensorAccount] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    seen: int = 0
    booked: int = 0
    compared: int = 0
    """Files that are in the folder, and stored and verified as they are there."""
    gone: int = 0
    """Files that are stored and verified, and no longer in the folder."""
    conflicts: int = 0
    """Stored files whose key held other content, so that they were stored beside it."""
    ignored: dict[str, int] = field(default_factory=dict)
    """How many files were skipped without blocking, by reason."""

    def add(self, accounted: Accounted) -> None:
        """Take in one file."""
        facts, size_bytes = accounted.facts, accounted.size_bytes
        self.classes[accounted.file_class].add(size_bytes)
        by_sensor = self.sensors.setdefault(facts.sensor, SensorAccount())
        by_sensor.classes[accounted.file_class].add(size_bytes)
        by_sensor.problem_count += accounted.blocks
        self.seen += facts.seen is not None
        self.booked += facts.booked is not None
        if accounted.file_class is FileClass.STORED:
            self.compared += facts.seen is not None
            by_sensor.compared += facts.seen is not None
            self.gone += facts.seen is None
            self.conflicts += facts.booked is not None and facts.booked.conflict
        if accounted.blocks:
            self.block(Problem(path=facts.path_text, reason=accounted.reason))
        elif accounted.reason:
            self.ignored[accounted.reason] = self.ignored.get(accounted.reason, 0) + 1

    def block(self, problem: Problem) -> None:
        """Note why this can't be SAFE."""
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    @property
    def files(self) -> int:
        """All files of all classes."""
        return sum(each.files for each in self.classes.values())

    def close(self, about: Circumstances) -> Verdict:
        """Say SAFE if nothing speaks against it. Called once, after the last file.

        Raises DoesNotAddUpError.
        """
        _see_that_it_adds_up(self, about)
        for reason in _against(self, about):
            self.block(Problem(path="", reason=reason))
        return Verdict.NOT_SAFE if self.problem_count else Verdict.SAFE

    def verdict_of(self, sensor: str) -> Verdict:
        """Say whether one sensor's folder is safe, after `close`: nothing in it may speak against
        that, nor anything that is wrong with the whole.
        """
        own = self.sensors[sensor]
        of_files = sum(each.problem_count for each in self.sensors.values())
        safe = own.compared and not own.problem_count and self.problem_count == of_files
        return Verdict.SAFE if safe else Verdict.NOT_SAFE


def _see_that_it_adds_up(account: Account, about: Circumstances) -> None:
    for what, counted, known in (
        ("listed in the folder", account.seen, about.listed),
        ("on the books", account.booked, about.booked),
    ):
        if counted != known:
            raise DoesNotAddUpError(
                f"there is no receipt: {known} files are {what}, and {counted} of them are in a "
                "class; something changed meanwhile: try again"
            )
    by_sensor = sum(s.classes[each].files for s in account.sensors.values() for each in FileClass)
    if by_sensor != account.files:
        raise DoesNotAddUpError(f"{by_sensor} files of sensors are not {account.files} files")


def _against(account: Account, about: Circumstances) -> Iterator[str]:
    if not about.swept:
        yield "its folder was never swept: start sensordropd"
    elif not about.last_sweep_complete:
        why = about.last_sweep_problem or "no reason is kept"
        yield f"its last sweep was partial: {why}"
    if about.listing_problem is not None:
        yield f"its folder could not be listed whole: {about.listing_problem}"
    if not account.compared:
        yield "no file in the folder could be compared with the store: is it the right folder?"


def counts_of(amounts: Mapping[FileClass, Amount]) -> dict[str, dict[str, int]]:
    """Give the sums of the classes as a receipt has them. Every class is always there."""
    return {
        each.value: {"files": amounts[each].files, "bytes": amounts[each].size_bytes}
        for each in FileClass
    }
