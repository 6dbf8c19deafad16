"""How a store proves what it got: by the setting, and by what was seen of the store."""

from __future__ import annotations

from typing import Any

import pytest

from sensordrop.adapters.s3.proof import AMAZON, UNKNOWN, Capabilities, Proof, proof_of
from sensordrop.core.model import StoreCheck

HASH, MD5 = StoreCheck.PAYLOAD_HASH, StoreCheck.CONTENT_MD5
CHECKS_ALL = Capabilities(checks_payload_hash=True, checks_content_md5=True)
CHECKS_MD5 = Capabilities(checks_payload_hash=False, checks_content_md5=True)
CHECKS_NOTHING = Capabilities(checks_payload_hash=False, checks_content_md5=False)


@pytest.mark.parametrize(
    ("chosen", "seen", "sends_md5", "checked"),
    [
        ("auto", AMAZON, False, HASH),
        ("auto", CHECKS_ALL, False, HASH),
        ("auto", CHECKS_MD5, True, MD5),
        ("auto", CHECKS_NOTHING, True, None),
        ("auto", UNKNOWN, True, None),
        ("payload-hash", AMAZON, False, HASH),
        ("payload-hash", UNKNOWN, False, HASH),
        ("payload-hash", CHECKS_MD5, False, None),
        ("content-md5", AMAZON, True, MD5),
        ("content-md5", CHECKS_ALL, True, MD5),
        ("content-md5", CHECKS_NOTHING, True, None),
        ("content-md5", UNKNOWN, True, None),
        ("read-back", AMAZON, False, HASH),
        ("read-back", CHECKS_MD5, True, MD5),
        ("read-back", UNKNOWN, True, None),
    ],
)
def test_the_proof_follows_the_setting_and_what_was_seen(
    chosen: Any, seen: Capabilities, sends_md5: bool, checked: StoreCheck | None
) -> None:
    assert proof_of(chosen, seen) == Proof(
        sends_content_md5=sends_md5, checked=checked, reads_back=chosen == "read-back"
    )


def test_nobody_computes_an_md5_that_is_neither_sent_nor_compared() -> None:
    assert not proof_of("auto", AMAZON).needs_md5
    assert not proof_of("auto", CHECKS_ALL).needs_md5
    assert proof_of("auto", UNKNOWN).needs_md5
    assert proof_of("payload-hash", CHECKS_NOTHING).needs_md5, "only the ETag is left to compare"
