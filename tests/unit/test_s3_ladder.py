"""The S3 room's pure parts: the ladder, digests, part sizes, bodies, options, endpoints."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensordrop.adapters.s3.body import Piece, PieceBody, measure
from sensordrop.adapters.s3.client import S3Settings, is_amazon, shown
from sensordrop.adapters.s3.digests import (
    Answer,
    bare_etag,
    etag_md5,
    etag_parts,
    full_object_sha256,
    multipart_etag,
    verify,
)
from sensordrop.adapters.s3.ladder import (
    Judgement,
    ObjectFacts,
    PartsMatch,
    Verdict,
    judge,
    judge_read_back,
    part_size_guesses,
)
from sensordrop.adapters.s3.multipart import OBJECT_LIMIT_BYTES, PARTS_LIMIT, part_bytes
from sensordrop.adapters.s3.options import content_type, options_for
from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.core.model import StoreCheck

MIB = 1024 * 1024
DATA = b"dawn chorus"
MD5 = hashlib.md5(DATA, usedforsecurity=False)
SHA256 = hashlib.sha256(DATA)
IN_BASE64 = base64.b64encode(SHA256.digest()).decode()
OTHER_IN_BASE64 = base64.b64encode(bytes(32)).decode()
GO_ON = threading.Event()


@dataclass
class Memory:
    size_bytes: int = len(DATA)
    sha256: bytes = SHA256.digest()
    md5: bytes = MD5.digest()

    @contextmanager
    def open(self) -> Any:
        yield io.BytesIO(DATA)


def weigh(
    *, amazon: bool = False, parts_match: PartsMatch = PartsMatch.UNKNOWN, **facts: Any
) -> Judgement:
    known: dict[str, Any] = {"size_bytes": len(DATA), "etag": "opaque"}
    return judge(ObjectFacts(**(known | facts)), Memory(), amazon=amazon, parts_match=parts_match)


SAME, OTHER, OPEN = Verdict.SAME, Verdict.OTHER, Verdict.OPEN
OURS, THEIRS = {"metadata_sha256": SHA256.digest()}, {"metadata_sha256": bytes(32)}
EQUAL, DIFFERENT = {"parts_match": PartsMatch.EQUAL}, {"parts_match": PartsMatch.DIFFERENT}


@pytest.mark.parametrize(
    ("facts", "verdict", "check"),
    [
        ({"size_bytes": 3, **OURS}, OTHER, StoreCheck.NONE),
        ({}, OPEN, StoreCheck.NONE),
        (OURS, SAME, StoreCheck.NONE),
        (THEIRS, OTHER, StoreCheck.NONE),
        ({"etag": MD5.hexdigest()}, SAME, StoreCheck.ETAG),
        ({"etag": MD5.hexdigest().upper()}, SAME, StoreCheck.ETAG),
        ({"etag": "0" * 32}, OTHER, StoreCheck.NONE),
        ({"etag": MD5.hexdigest(), "opaque_etag": True}, OPEN, StoreCheck.NONE),
        ({"etag": "0" * 32, "opaque_etag": True, **OURS}, SAME, StoreCheck.NONE),
        ({"etag": "0" * 32, **OURS}, OPEN, StoreCheck.NONE),
        ({"etag": MD5.hexdigest(), **THEIRS}, OPEN, StoreCheck.NONE),
        ({"checksum_sha256": IN_BASE64}, SAME, StoreCheck.NONE),
        ({"checksum_sha256": IN_BASE64, "amazon": True}, SAME, StoreCheck.PAYLOAD_HASH),
        ({"checksum_sha256": OTHER_IN_BASE64}, OTHER, StoreCheck.NONE),
        ({"checksum_sha256": OTHER_IN_BASE64, **OURS}, OPEN, StoreCheck.NONE),
        ({"checksum_sha256": f"{OTHER_IN_BASE64}-2", **OURS}, SAME, StoreCheck.NONE),
        ({"checksum_sha256": "garbage", **OURS}, SAME, StoreCheck.NONE),
        ({"etag": f"{'0' * 32}-2", **EQUAL}, SAME, StoreCheck.ETAG),
        ({"etag": f"{'0' * 32}-2", **EQUAL, **THEIRS}, OPEN, StoreCheck.NONE),
        ({"etag": f"{'0' * 32}-2", **DIFFERENT}, OPEN, StoreCheck.NONE),
        ({"etag": f"{'0' * 32}-2", **DIFFERENT, **OURS}, OPEN, StoreCheck.NONE),
        ({"etag": f"{'0' * 32}-2", **DIFFERENT, **THEIRS}, OTHER, StoreCheck.NONE),
        ({"etag": f"{'0' * 32}-2", **OURS}, SAME, StoreCheck.NONE),
    ],
)
def test_the_ladder(facts: dict[str, Any], verdict: Verdict, check: StoreCheck) -> None:
    judgement = weigh(**facts)
    assert (judgement.verdict, judgement.store_check) == (verdict, check)
    assert judgement.evidence


def test_bytes_read_back_decide_alone() -> None:
    same = judge_read_back(SHA256.digest(), len(DATA), Memory())
    assert (same.verdict, same.store_check) == (SAME, StoreCheck.READ_BACK)
    assert judge_read_back(bytes(32), len(DATA), Memory()).verdict is OTHER
    assert judge_read_back(SHA256.digest(), 0, Memory()).verdict is OTHER


def test_guesses_at_part_sizes_fit_the_number_of_parts() -> None:
    guess = part_size_guesses
    assert guess(size_bytes=20 * MIB, parts=2, told=None, ours=16 * MIB) == (16 * MIB,)
    assert guess(size_bytes=20 * MIB, parts=3, told=None, ours=16 * MIB) == (8 * MIB,)
    assert guess(size_bytes=20 * MIB, parts=3, told=None, ours=8 * MIB) == (8 * MIB,)
    assert guess(size_bytes=20 * MIB, parts=4, told=5 * MIB, ours=16 * MIB) == (5 * MIB,)
    assert guess(size_bytes=20 * MIB, parts=2, told=5 * MIB, ours=16 * MIB) == ()
    assert guess(size_bytes=0, parts=1, told=0, ours=16 * MIB) == ()


# --- digests ------------------------------------------------------------------------------


def test_the_forms_of_etags() -> None:
    assert bare_etag('"abc"') == bare_etag('W/"abc"') == bare_etag("abc") == "abc"
    assert etag_md5(MD5.hexdigest()) == MD5.digest()
    assert etag_md5(f"{MD5.hexdigest()}-2") is None
    assert etag_md5("") is None
    assert etag_parts(f"{MD5.hexdigest()}-12") == 12
    assert etag_parts(MD5.hexdigest()) is None
    assert etag_parts(f"{MD5.hexdigest()}-123456") is None
    # One empty part: the MD5 of the MD5 of nothing.
    empty = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
    assert multipart_etag([empty]) == "59adb24ef3cdbe0297f05b395827453f-1"


def test_checksums_of_parts_are_none_of_the_whole() -> None:
    assert full_object_sha256(IN_BASE64) == SHA256.digest()
    assert full_object_sha256(f"{IN_BASE64}-2") is None
    assert full_object_sha256("AAAA") is None
    assert full_object_sha256(None) is None


def check(answer: Answer, **changes: Any) -> StoreCheck:
    known: dict[str, Any] = {
        "md5": MD5.digest(),
        "sha256": SHA256.digest(),
        "checked": None,
        "tried": "storing",
    }
    return verify(answer, **(known | changes))


def test_what_a_store_verified_is_said_honestly() -> None:
    plain = Answer(etag=MD5.hexdigest())
    assert check(plain) is StoreCheck.ETAG
    assert check(plain, checked=StoreCheck.PAYLOAD_HASH) is StoreCheck.PAYLOAD_HASH
    assert check(plain, checked=StoreCheck.CONTENT_MD5) is StoreCheck.CONTENT_MD5
    assert check(plain, md5=None) is StoreCheck.NONE
    assert check(Answer(etag="0" * 32, opaque_etag=True)) is StoreCheck.NONE
    assert check(Answer(etag="something")) is StoreCheck.NONE
    of_parts = Answer(etag=multipart_etag([MD5.digest()]))
    assert check(of_parts, part_md5s=[MD5.digest()]) is StoreCheck.ETAG


@pytest.mark.parametrize("checked", [None, StoreCheck.PAYLOAD_HASH])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(etag="0" * 32),
        Answer(etag=f"{'0' * 32}-1"),
        Answer(etag=MD5.hexdigest(), checksum_sha256=OTHER_IN_BASE64),
        Answer(etag="0" * 32, opaque_etag=True, checksum_sha256=OTHER_IN_BASE64),
    ],
)
def test_an_answer_that_is_not_of_our_bytes_is_refused(
    answer: Answer, checked: StoreCheck | None
) -> None:
    with pytest.raises(FailureError) as raised:
        check(answer, checked=checked, part_md5s=[MD5.digest()])
    assert raised.value.failure.error_class == "checksum-mismatch"


# --- parts and bodies ---------------------------------------------------------------------


@given(st.integers(min_value=1, max_value=OBJECT_LIMIT_BYTES))
def test_any_file_fits_in_the_parts_that_s3_allows(size_bytes: int) -> None:
    size = part_bytes(size_bytes, 16 * MIB)
    assert size >= 16 * MIB
    assert size <= 5 * 1024**3
    assert -(-size_bytes // size) <= PARTS_LIMIT


def test_the_largest_file_is_cut_into_parts_of_525_mib() -> None:
    assert part_bytes(OBJECT_LIMIT_BYTES, 16 * MIB) == 525 * MIB


def body(data: bytes, stop: threading.Event = GO_ON, start: int = 0) -> PieceBody:
    piece = Piece(start=start, size_bytes=len(DATA), md5=MD5.digest(), sha256=SHA256.digest())
    return PieceBody(io.BytesIO(data), piece, what="a.wav", stop=stop)


@given(st.lists(st.integers(min_value=1, max_value=5), min_size=11, max_size=11))
def test_a_body_gives_its_piece_and_can_be_rewound(amounts: list[int]) -> None:
    sent = body(b"before " + DATA + b" after", start=7)
    assert (sent.seek(0, io.SEEK_END), sent.seek(0), sent.tell()) == (len(DATA), 0, 0)
    for _ in range(2):
        assert b"".join(sent.read(amount) for amount in amounts) == DATA
        assert sent.read() == b""
        sent.seek(0)
    assert sent.read() == DATA
    assert sent.broken is None


def test_a_body_with_other_bytes_never_gives_the_last_of_them() -> None:
    sent = body(DATA[:-1] + b"?")
    assert sent.read(5) == DATA[:5]
    with pytest.raises(FailureError) as raised:
        sent.read(100)
    assert raised.value.failure.error_class == "changed"
    assert sent.broken is raised.value


def test_a_body_that_became_shorter_says_so() -> None:
    with pytest.raises(FailureError) as raised:
        body(DATA[:-1]).read()
    assert "shorter" in raised.value.failure.message


def test_a_body_cant_be_read_from_its_middle() -> None:
    sent = body(DATA)
    sent.seek(3)
    with pytest.raises(io.UnsupportedOperation):
        sent.read()


def test_a_body_stops_when_told() -> None:
    stop = threading.Event()
    sent = body(DATA, stop)
    assert sent.read(3) == DATA[:3]
    stop.set()
    with pytest.raises(InterruptedAttemptError):
        sent.read(3)
    assert isinstance(sent.broken, InterruptedAttemptError)


def test_measuring_a_piece() -> None:
    seen: list[bytes] = []
    piece = measure(
        io.BytesIO(b"ab" + DATA),
        start=2,
        size_bytes=len(DATA),
        what="a.wav",
        stop=GO_ON,
        also=seen.append,
    )
    assert (piece.md5, piece.sha256) == (MD5.digest(), SHA256.digest())
    assert b"".join(seen) == DATA
    with pytest.raises(FailureError):
        measure(
            io.BytesIO(DATA), start=2, size_bytes=len(DATA), what="a", stop=GO_ON, also=seen.append
        )


# --- settings, options, endpoints ---------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("C1/950349/20250909_092000.WAV", "audio/wav"),
        ("C1/a/IMG_0001.JPG", "image/jpeg"),
        ("C1/a/CLIP.TLS", "video/x-msvideo"),
        ("C1/a/CONFIG.TXT", "text/plain"),
        ("C1/a/x.flac", "audio/flac"),
        ("C1/a.wav/data", "application/octet-stream"),
        ("C1/.wav", "application/octet-stream"),
        ("C1/a/x.W4V", "application/octet-stream"),
    ],
)
def test_media_types(key: str, expected: str) -> None:
    assert content_type(key) == expected


def test_options_of_an_object() -> None:
    plain = options_for(S3Settings(bucket_name="b"), "a.wav", SHA256.digest())
    assert plain.metadata == {"sha256": SHA256.hexdigest()}
    assert (plain.storage_class, plain.sse, plain.kms_key_id, plain.tagging) == (None,) * 4
    tagged = options_for(S3Settings(bucket_name="b", tags={"a b": "c=d"}), "a.wav", b"")
    assert tagged.tagging == "a%20b=c%3Dd"


def test_which_endpoints_are_amazons() -> None:
    assert is_amazon("https://s3.eu-west-1.amazonaws.com")
    assert is_amazon("https://s3.cn-north-1.amazonaws.com.cn")
    assert not is_amazon("https://s3.amazonaws.com.example.org")
    assert not is_amazon("https://notamazonaws.com")
    assert not is_amazon("http://127.0.0.1:9000")


def test_nothing_secret_is_shown() -> None:
    assert shown("https://user:hush@store:9000/base/") == "https://store:9000/base"
    assert "hush" not in repr(S3Settings(bucket_name="b", secret_access_key="hush"))
