"""Is what was stored still there? What is compared with what, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class CheckMethod(StrEnum):
    """How an object was verified, the weakest first."""

    LISTING = "listing"
    """Size and ETag, as a listing shows them."""
    HEAD = "head"
    """Size, ETag and the store's checksum, by a look at the object."""
    READ_BACK = "read-back"
    """SHA-256 of its bytes, read from the store."""


class CheckResult(StrEnum):
    """What a verification found."""

    SAME = "same"
    MISSING = "missing"
    DIFFERENT = "different"


class Verdict(StrEnum):
    """The answer to "can I wipe this card now?"."""

    SAFE = "SAFE"
    NOT_SAFE = "NOT SAFE"


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownObject:
    """A stored object as the ledger knows it."""

    upload_id: int
    delivery_id: int
    path: bytes
    path_text: str
    object_key: str
    size_bytes: int
    sha256: bytes
    etag: str | None
    checksum_sha256: str | None
    current: bool = True
    """Whether it holds the version of its file that the disk had last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundObject:
    """What the store says of the object under a key. `etag` is without quotes."""

    size_bytes: int
    etag: str
    checksum_sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a verification found out about one object; `result` None: nothing, for this reason."""

    result: CheckResult | None
    reason: str = ""


SAME = Finding(result=CheckResult.SAME)


def compare_look(known: KnownObject, found: FoundObject | None) -> Finding:
    """Compare what the store says of an object with what it said when it was stored.

    Size alone says nothing: recorders write files of equal length.
    """
    if found is None:
        return _missing("it is not in the bucket")
    if found.size_bytes != known.size_bytes:
        return _different(f"it has {found.size_bytes} bytes in the bucket, not {known.size_bytes}")
    if known.checksum_sha256 and found.checksum_sha256:
        if found.checksum_sha256 != known.checksum_sha256:
            return _different(
                f"its checksum in the bucket is {found.checksum_sha256}; when it was stored it was "
                f"{known.checksum_sha256}"
            )
    elif not known.etag or not found.etag:
        return Finding(
            result=None,
            reason="the store tells neither ETag nor checksum; --download compares the bytes",
        )
    if known.etag and found.etag and found.etag.lower() != known.etag.lower():
        return _different(
            f"its ETag in the bucket is {found.etag}; when it was stored it was {known.etag} "
            "(--download compares the bytes)"
        )
    return SAME


def compare_bytes(known: KnownObject, sha256: bytes, size_bytes: int) -> Finding:
    """Compare the bytes that were read back with those that were stored."""
    if (size_bytes, sha256) == (known.size_bytes, known.sha256):
        return SAME
    return _different(
        f"its bytes in the bucket have SHA-256 {sha256.hex()} ({size_bytes} bytes); the file's was "
        f"{known.sha256.hex()} ({known.size_bytes} bytes)"
    )


def _missing(reason: str) -> Finding:
    return Finding(result=CheckResult.MISSING, reason=reason)


def _different(reason: str) -> Finding:
    return Finding(result=CheckResult.DIFFERENT, reason=reason)


# --- the report ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why something is not safe. `path` is '' where it is about the whole delivery."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtraObject:
    """An object below the prefix that the ledger does not know."""

    key: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class DeliveryReport:
    """What a verification found in one delivery. Lists are cut to what a person can read;
    the numbers beside them are whole.
    """

    delivery: str
    files: int = 0
    size_bytes: int = 0
    checked: Mapping[str, int] = field(default_factory=dict)
    """How many objects were verified by which method, each counted at the strongest."""
    missing: int = 0
    different: int = 0
    unchecked: int = 0
    source_same: int = 0
    source_gone: int = 0
    """Files that are no longer on the disk, and so could not be compared with it."""
    extra: int | None = None
    """None: nobody looked, because not all of the prefix was listed."""
    extras: Sequence[ExtraObject] = ()
    problems: Sequence[Problem] = ()
    problem_count: int = 0


def verdict(reports: Iterable[DeliveryReport]) -> Verdict:
    """Say SAFE only if there is something stored, and no problem of any kind."""
    every = list(reports)
    stored = sum(report.files for report in every)
    bad = any(report.problem_count or report.problems for report in every)
    unsure = any(report.missing or report.different or report.unchecked for report in every)
    return Verdict.SAFE if stored and not bad and not unsure else Verdict.NOT_SAFE
