"""The ladder: does the object under a key hold the same content as the file?

Equal name and equal size say nothing. Each rung is a statement about the object's content, weighed
here without touching the network: our SHA-256 in its metadata, the store's own SHA-256, a plain
ETag that is an MD5, a multipart ETag made again from the file. Statements that contradict each
other (an object that was damaged after our metadata was written, a store whose ETags are no
digests) leave it open, and then the object's bytes are read and hashed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sensordrop.adapters.s3.digests import etag_md5, etag_parts, full_object_sha256
from sensordrop.core.model import StoreCheck
from sensordrop.ports.transfer import Content

FOREIGN_PART_BYTES = (8 * 1024 * 1024,)
"""Part sizes that other programs use by default (the AWS CLI's and boto3's)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFacts:
    """What the store says of the object under a key. `etag` is without quotes."""

    size_bytes: int
    etag: str
    opaque_etag: bool = False
    metadata_sha256: bytes | None = None
    checksum_sha256: str | None = None
    version_id: str | None = None

    @property
    def parts(self) -> int | None:
        """How many parts a multipart ETag speaks of, if it is one that can be made again."""
        return None if self.opaque_etag else etag_parts(self.etag)


class Verdict(StrEnum):
    """Whether the object holds the file's content."""

    SAME = "same"
    OTHER = "other"
    OPEN = "open"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A verdict, in words why, and what of the content the store thereby vouches for."""

    verdict: Verdict
    evidence: str
    store_check: StoreCheck = StoreCheck.NONE


class PartsMatch(StrEnum):
    """What came of making a multipart ETag again from the file."""

    EQUAL = "equal"
    DIFFERENT = "different"
    """With the part size that the store names: a doubt only, as parts may be of many sizes."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Statement:
    says: str
    same: bool
    store_check: StoreCheck


def judge(
    facts: ObjectFacts,
    content: Content,
    *,
    amazon: bool,
    parts_match: PartsMatch = PartsMatch.UNKNOWN,
) -> Judgement:
    """Weigh what is known of an object against the file. Pure."""
    if facts.size_bytes != content.size_bytes:
        return Judgement(
            verdict=Verdict.OTHER,
            evidence=f"it has {facts.size_bytes} bytes, the file {content.size_bytes}",
        )
    statements = list(_statements(facts, content, amazon, parts_match))
    words = ", ".join(statement.says for statement in statements)
    answers = {statement.same for statement in statements}
    if answers == {True} and parts_match is not PartsMatch.DIFFERENT:
        # The last rung is the one that says most of the bytes themselves.
        check = statements[-1].store_check
        return Judgement(verdict=Verdict.SAME, evidence=f"same {words}", store_check=check)
    if answers == {False}:
        return Judgement(verdict=Verdict.OTHER, evidence=f"another {words}")
    contradiction = "what is known of it contradicts itself" if answers else "no digest is known"
    return Judgement(verdict=Verdict.OPEN, evidence=contradiction)


def judge_read_back(sha256_read: bytes, size_read: int, content: Content) -> Judgement:
    """Judge by the object's own bytes, read from the store."""
    if (size_read, sha256_read) == (content.size_bytes, content.sha256):
        return Judgement(
            verdict=Verdict.SAME,
            evidence="same SHA-256 of its bytes, read back",
            store_check=StoreCheck.READ_BACK,
        )
    return Judgement(verdict=Verdict.OTHER, evidence="another SHA-256 of its bytes, read back")


def _statements(
    facts: ObjectFacts, content: Content, amazon: bool, parts_match: PartsMatch
) -> Iterator[_Statement]:
    if facts.metadata_sha256 is not None:
        yield _Statement(
            says="SHA-256 in its metadata",
            same=facts.metadata_sha256 == content.sha256,
            store_check=StoreCheck.NONE,
        )
    checksum = full_object_sha256(facts.checksum_sha256)
    if checksum is not None:
        yield _Statement(
            says="SHA-256 kept by the store",
            same=checksum == content.sha256,
            # Only Amazon's stores are known to check it; others give back what they were told.
            store_check=StoreCheck.PAYLOAD_HASH if amazon else StoreCheck.NONE,
        )
    md5 = None if facts.opaque_etag else etag_md5(facts.etag)
    if md5 is not None:
        yield _Statement(
            says="MD5 as its ETag", same=md5 == content.md5, store_check=StoreCheck.ETAG
        )
    if parts_match is PartsMatch.EQUAL:
        yield _Statement(says="ETag of its parts", same=True, store_check=StoreCheck.ETAG)


def part_size_guesses(
    *, size_bytes: int, parts: int, told: int | None, ours: int
) -> tuple[int, ...]:
    """Name the part sizes that could have made an object of that many parts, best first.

    `told` is the first part's size where the store gives it; it then is the only one.
    """
    candidates = (told,) if told is not None else (ours, *FOREIGN_PART_BYTES)
    fitting = [size for size in candidates if size > 0 and -(-size_bytes // size) == parts]
    return tuple(dict.fromkeys(fitting))
