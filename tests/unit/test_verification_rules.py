"""What a look at an object, or its bytes, says of it, and when all of it together is SAFE."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sensordrop.core.verification import (
    SAME,
    CheckResult,
    DeliveryReport,
    ExtraObject,
    Finding,
    FoundObject,
    KnownObject,
    Problem,
    Verdict,
    compare_bytes,
    compare_look,
    verdict,
)


def made_anew(text: str | None) -> str | None:
    """Give an equal text that is another object, as what a store answers is."""
    return None if text is None else "".join([*text])


SIZE = 1_000_000
LOW, HIGH = "0aaaaaaa", "ffffffff"
KNOWN = KnownObject(
    upload_id=1,
    delivery_id=1,
    path=b"S/a.wav",
    path_text="S/a.wav",
    object_key="C1/S/a.wav",
    size_bytes=SIZE,
    sha256=b"m" * 32,
    etag=LOW,
    checksum_sha256=None,
)


def found(
    size_bytes: int = SIZE, etag: str = LOW, checksum_sha256: str | None = None
) -> FoundObject:
    return FoundObject(
        size_bytes=int(str(size_bytes)),
        etag=made_anew(etag) or "",
        checksum_sha256=made_anew(checksum_sha256),
    )


def test_an_object_that_is_not_there_is_missing():
    assert compare_look(KNOWN, None).result is CheckResult.MISSING


@pytest.mark.parametrize("size_bytes", [0, SIZE - 1, SIZE + 1])
def test_an_object_of_another_size_is_another_whatever_its_digests_say(size_bytes):
    known = replace(KNOWN, checksum_sha256=LOW)
    finding = compare_look(known, found(size_bytes, checksum_sha256=LOW))
    assert finding.result is CheckResult.DIFFERENT
    assert f"has {size_bytes} bytes in the bucket, not {SIZE}" in finding.reason


DIGESTS = {
    "as it was": (HIGH, HIGH),
    "lower": (HIGH, LOW),
    "higher": (LOW, HIGH),
    "not kept": (None, HIGH),
    "not told": (HIGH, None),
    "never known": (None, None),
}
SAYS = {
    "as it was": CheckResult.SAME,
    "lower": CheckResult.DIFFERENT,
    "higher": CheckResult.DIFFERENT,
}
"""Whatever else: nothing."""


@pytest.mark.parametrize("etag", DIGESTS)
@pytest.mark.parametrize("checksum", DIGESTS)
def test_one_digest_as_it_was_is_needed_and_none_that_is_another(checksum, etag):
    said = {SAYS.get(checksum), SAYS.get(etag)} - {None}
    expected = CheckResult.DIFFERENT if CheckResult.DIFFERENT in said else None
    if said == {CheckResult.SAME}:
        expected = CheckResult.SAME
    kept_etag, told_etag = DIGESTS[etag]
    kept, told = DIGESTS[checksum]
    known = replace(KNOWN, etag=made_anew(kept_etag), checksum_sha256=made_anew(kept))
    finding = compare_look(known, found(etag=told_etag or "", checksum_sha256=told))
    assert finding.result is expected
    assert (finding.reason == "") is (expected is CheckResult.SAME)


def test_an_etag_is_the_same_in_small_and_in_capital_letters():
    assert compare_look(KNOWN, found(etag=LOW.upper())) == SAME
    assert compare_look(replace(KNOWN, etag=LOW.upper()), found()) == SAME


@pytest.mark.parametrize(
    ("sha256", "size_bytes", "result"),
    [
        (b"m" * 32, SIZE, CheckResult.SAME),
        (b"l" * 32, SIZE, CheckResult.DIFFERENT),
        (b"n" * 32, SIZE, CheckResult.DIFFERENT),
        (b"m" * 32, SIZE - 1, CheckResult.DIFFERENT),
        (b"m" * 32, SIZE + 1, CheckResult.DIFFERENT),
        (b"", 0, CheckResult.DIFFERENT),
    ],
)
def test_bytes_that_were_read_back_are_the_same_in_size_and_sum_or_others(
    sha256, size_bytes, result
):
    finding = compare_bytes(KNOWN, bytes(bytearray(sha256)), int(str(size_bytes)))
    assert finding.result is result
    assert (finding.reason == "") is (result is CheckResult.SAME)


GOOD = DeliveryReport(delivery="north", files=1)
BAD = [
    {"missing": 1},
    {"different": 1},
    {"unchecked": 1},
    {"problem_count": 1},
    {"problems": [Problem(path="", reason="its last sweep was partial")]},
]


def test_one_stored_file_and_nothing_against_it_is_safe():
    assert verdict([GOOD]) is Verdict.SAFE
    assert verdict([GOOD, DeliveryReport(delivery="south")]) is Verdict.SAFE


@pytest.mark.parametrize("trouble", BAD)
def test_any_trouble_of_any_delivery_is_not_safe(trouble):
    bad = replace(GOOD, **trouble)
    assert verdict([bad]) is Verdict.NOT_SAFE
    assert verdict([bad, GOOD]) is Verdict.NOT_SAFE
    assert verdict(iter([GOOD, bad])) is Verdict.NOT_SAFE
    assert verdict([replace(bad, files=0)]) is Verdict.NOT_SAFE


def test_where_nothing_is_stored_nothing_is_safe():
    assert verdict([]) is Verdict.NOT_SAFE
    assert verdict([DeliveryReport(delivery="north")]) is Verdict.NOT_SAFE


def test_what_is_in_the_bucket_beside_speaks_against_nothing():
    beside = replace(
        GOOD, extra=1, extras=[ExtraObject(key="C1/x", size_bytes=1)], source_gone=1, source_same=1
    )
    assert verdict([beside]) is Verdict.SAFE


def test_a_report_of_nothing_counts_nothing():
    assert DeliveryReport(delivery="north") == DeliveryReport(
        delivery="north", files=0, size_bytes=0, checked={}, missing=0, different=0, unchecked=0,
        source_same=0, source_gone=0, extra=None, extras=(), problems=(), problem_count=0,
    )  # fmt: skip
    assert Finding(result=None) == Finding(result=None, reason="")
    assert KNOWN.current
