"""The S3 destination on a scripted store, which lies, answers oddly, or is taken for Amazon."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from s3_destinations import (
    GO_ON,
    KEY,
    MIB,
    QuickFirst,
    content,
    failure_of,
    nothing_of_the_users,
    trouble_found,
)
from s3_servers import (
    Asked,
    Reply,
    ScriptedServer,
    error_xml,
)

from sensordrop.adapters.s3 import S3Destination
from sensordrop.core.failure import (
    FailureScope,
)
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.core.model import StoreCheck

__all__ = ["nothing_of_the_users"]  # a fixture


@pytest.fixture(autouse=True, params=["boto3", "curl"])
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the whole suite against both engines."""
    if request.param == "curl":
        monkeypatch.setitem(globals(), "S3Destination", QuickFirst)


# --- stores that lie, or answer oddly -----------------------------------------------------


def scripted_put(put: Reply) -> Any:
    """Answer: nothing is there, and `put` to every put."""

    def answer(asked: Asked) -> Reply:
        return Reply(status=404) if asked.method == "HEAD" else put

    return answer


def test_a_wrong_etag_never_counts_as_stored(tmp_path: Path) -> None:
    lie = Reply(headers={"ETag": '"00112233445566778899aabbccddeeff"'})
    with ScriptedServer(scripted_put(lie)) as scripted:
        failure = failure_of(S3Destination(scripted.settings()), content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("checksum-mismatch", FailureScope.FILE)
    assert not failure.permanent


def test_a_wrong_sha256_never_counts_as_stored(tmp_path: Path) -> None:
    file = content(tmp_path, b"x")
    lie = Reply(headers={"ETag": f'"{file.md5.hex()}"', "x-amz-checksum-sha256": "A" * 43 + "="})
    with ScriptedServer(scripted_put(lie)) as scripted:
        failure = failure_of(S3Destination(scripted.settings()), file)
    assert failure.error_class == "checksum-mismatch"


def test_an_answer_without_etag_is_not_believed(tmp_path: Path) -> None:
    """A sign-in page of a network says 200 to everything."""
    with ScriptedServer(scripted_put(Reply())) as scripted:
        failure = failure_of(S3Destination(scripted.settings()), content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("bad-answer", FailureScope.DESTINATION)


def test_a_page_in_place_of_an_answer_is_not_believed(tmp_path: Path) -> None:
    page = Reply(body=b"<html><body>Please sign in</body></html>")
    with ScriptedServer(lambda _: page) as scripted:
        destination = S3Destination(scripted.settings())
        failure = failure_of(destination, content(tmp_path, b"x" * len(page.body)))
        assert failure.scope is FailureScope.DESTINATION
        assert trouble_found(destination).scope is FailureScope.DESTINATION


def scripted_multipart(complete: Reply, abort: Reply | None = None, *, made: bool = True) -> Any:
    """Answer a multipart upload rightly up to its completion, and show what was `made` then."""
    sizes: dict[str, int] = {}
    completed = False

    def answer(asked: Asked) -> Reply:
        nonlocal completed
        if asked.method == "HEAD":
            if not completed:
                return Reply(status=404)
            return Reply(headers={"ETag": '"e"', "Content-Length": str(sum(sizes.values()))})
        if asked.method == "PUT":
            sizes[asked.path] = len(asked.body)
            md5 = hashlib.md5(asked.body, usedforsecurity=False).hexdigest()
            return Reply(headers={"ETag": f'"{md5}"'})
        if asked.method == "DELETE":
            return abort or Reply(status=204)
        if asked.path.endswith("?uploads"):
            return Reply(
                body=b"<InitiateMultipartUploadResult><UploadId>u1</UploadId>"
                b"</InitiateMultipartUploadResult>"
            )
        completed = made
        return complete

    return answer


def scripted_large(scripted: ScriptedServer) -> S3Destination:
    return S3Destination(
        replace(scripted.settings(), multipart_threshold_bytes=6 * MIB, minimum_part_bytes=5 * MIB)
    )


def test_an_error_inside_a_200_on_completion_is_a_failure(tmp_path: Path) -> None:
    with ScriptedServer(scripted_multipart(Reply(body=error_xml("InternalError")))) as scripted:
        failure = failure_of(scripted_large(scripted), content(tmp_path, bytes(7 * MIB)))
    assert (failure.error_class, failure.scope) == ("server-error", FailureScope.DESTINATION)
    assert "InternalError" in failure.message
    assert scripted.asked[-1].method == "DELETE", "the upload was aborted"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>",
        b"<CompleteMultipartUploadResult><ETag>cut o",
    ],
    ids=["empty", "no ETag", "cut off"],
)
def test_a_hollow_200_on_completion_is_a_failure(tmp_path: Path, body: bytes) -> None:
    with ScriptedServer(scripted_multipart(Reply(body=body), made=False)) as scripted:
        failure = failure_of(scripted_large(scripted), content(tmp_path, bytes(7 * MIB)))
    assert failure.scope is FailureScope.DESTINATION


def scripted_silent_completion(made: Reply) -> Any:
    """Answer a completion without saying the ETag; from then on `made` is under the key."""
    hollow = b"<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>"
    complete = scripted_multipart(Reply(body=hollow))
    completed = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.method == "HEAD" and completed.is_set():
            return made
        if asked.method == "POST" and not asked.path.endswith("?uploads"):
            completed.set()
        return complete(asked)

    return answer


def etag_of_parts(data: bytes, size: int) -> str:
    md5s = [hashlib.md5(data[at : at + size]).digest() for at in range(0, len(data), size)]
    return f"{hashlib.md5(b''.join(md5s)).hexdigest()}-{len(md5s)}"


def test_an_etag_that_the_completion_does_not_say_is_looked_up(tmp_path: Path) -> None:
    data = os.urandom(7 * MIB)
    etag = etag_of_parts(data, 5 * MIB)
    made = Reply(headers={"ETag": f'"{etag}"', "Content-Length": str(len(data))})
    with ScriptedServer(scripted_silent_completion(made)) as scripted:
        outcome = scripted_large(scripted).store(content(tmp_path, data), KEY, GO_ON)
    assert isinstance(outcome, Stored)
    assert (outcome.receipt.etag, outcome.receipt.store_check) == (etag, StoreCheck.ETAG)
    assert "DELETE" not in {asked.method for asked in scripted.asked}, "nothing was aborted"


@pytest.mark.parametrize(
    ("size", "error_class"), [(7 * MIB, "checksum-mismatch"), (1, "bad-answer")]
)
def test_a_looked_up_object_of_other_content_never_counts_as_stored(
    tmp_path: Path, size: int, error_class: str
) -> None:
    made = Reply(headers={"ETag": f'"{"0" * 32}-2"', "Content-Length": str(size)})
    with ScriptedServer(scripted_silent_completion(made)) as scripted:
        failure = failure_of(scripted_large(scripted), content(tmp_path, bytes(7 * MIB)))
    assert failure.error_class == error_class


@pytest.mark.parametrize("etag", ["0" * 32, f"{'0' * 32}-2"], ids=["plain", "of parts"])
def test_a_wrong_etag_on_completion_never_counts_as_stored(tmp_path: Path, etag: str) -> None:
    body = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
    with ScriptedServer(scripted_multipart(Reply(body=body.encode()))) as scripted:
        failure = failure_of(scripted_large(scripted), content(tmp_path, bytes(7 * MIB)))
    assert failure.error_class == "checksum-mismatch"


def test_an_object_that_came_out_shorter_never_counts_as_stored(tmp_path: Path) -> None:
    body = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
    right = scripted_multipart(Reply(body=body))

    def answer(asked: Asked) -> Reply:
        reply: Reply = right(asked)
        if asked.method == "HEAD" and reply.status == 200:
            return replace(reply, headers=reply.headers | {"Content-Length": str(5 * MIB)})
        return reply

    with ScriptedServer(answer) as scripted:
        failure = failure_of(scripted_large(scripted), content(tmp_path, bytes(7 * MIB)))
    assert failure.error_class == "checksum-mismatch"
    assert str(5 * MIB) in failure.message


def test_an_abort_that_fails_is_told_and_hides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Reply(status=403, body=error_xml("AccessDenied"))
    slow = Reply(status=503, body=error_xml("SlowDown"))
    with ScriptedServer(scripted_multipart(slow, abort=refused)) as scripted:
        failure = failure_of(scripted_large(scripted), content(tmp_path, bytes(7 * MIB)))
    assert failure.error_class == "slow-down"
    told = capsys.readouterr().out
    assert "multipart_abort_failed" in told
    assert "access-denied" in told


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_store_without_conditions_is_asked_once_and_then_without(
    tmp_path: Path, status: int, code: str
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.method == "HEAD":
            return Reply(status=404)
        if "if-none-match" in asked.headers:
            return Reply(status=status, body=error_xml(code))
        md5 = hashlib.md5(asked.body, usedforsecurity=False).hexdigest()
        return Reply(headers={"ETag": f'"{md5}"'})

    with ScriptedServer(answer) as scripted:
        destination = S3Destination(scripted.settings())
        for number in range(2):
            file = content(tmp_path, os.urandom(9 * MIB))
            assert isinstance(destination.store(file, f"{number}.wav", GO_ON), Stored)
    puts = ["if-none-match" in asked.headers for asked in scripted.asked if asked.method == "PUT"]
    assert puts == [True, False, False]


def test_a_refusal_for_another_reason_does_not_give_up_the_condition(tmp_path: Path) -> None:
    refuse = scripted_put(Reply(status=400, body=error_xml("InvalidArgument")))
    with ScriptedServer(refuse) as scripted:
        destination = S3Destination(scripted.settings(engine="boto3"))
        for _ in range(2):
            assert failure_of(destination, content(tmp_path, b"x")).error_class == "rejected"
    puts = ["if-none-match" in asked.headers for asked in scripted.asked if asked.method == "PUT"]
    assert puts == [True, False, True, False]


def test_a_key_that_is_taken_and_free_again_is_tried_again_later(tmp_path: Path) -> None:
    taken = scripted_put(Reply(status=409, body=error_xml("ConditionalRequestConflict")))
    with ScriptedServer(taken) as scripted:
        failure = failure_of(S3Destination(scripted.settings()), content(tmp_path, b"x"))
    assert (failure.error_class, failure.permanent) == ("busy", False)


def test_retry_after_is_heeded(tmp_path: Path) -> None:
    busy = Reply(status=503, headers={"Retry-After": "17"}, body=error_xml("SlowDown"))
    with ScriptedServer(scripted_put(busy)) as scripted:
        failure = failure_of(S3Destination(scripted.settings()), content(tmp_path, b"x"))
    assert (failure.error_class, failure.retry_after_seconds) == ("slow-down", 17.0)


def test_everything_is_tried_once(tmp_path: Path) -> None:
    with ScriptedServer(lambda _: Reply(status=500)) as scripted:
        failure_of(S3Destination(scripted.settings()), content(tmp_path, b"x"))
    assert [asked.method for asked in scripted.asked] == ["HEAD"]


def test_a_refused_head_says_why(tmp_path: Path) -> None:
    """Answers to HEAD have no body: the reason is asked for by another request."""

    def answer(asked: Asked) -> Reply:
        if asked.method == "HEAD":
            return Reply(status=400)
        return Reply(status=400, body=error_xml("ExpiredToken"))

    with ScriptedServer(answer) as scripted:
        failure = failure_of(S3Destination(scripted.settings()), content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("credentials-expired", FailureScope.PROJECT)


def test_a_broken_connection_is_the_destinations_trouble(tmp_path: Path) -> None:
    with ScriptedServer(scripted_put(Reply(drop=True))) as scripted:
        failure = failure_of(S3Destination(scripted.settings()), content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("connection-lost", FailureScope.DESTINATION)


def test_an_archived_object_that_cant_be_read_counts_as_other(tmp_path: Path) -> None:
    """No digest tells, and its bytes are out of reach: ours goes beside it."""

    def answer(asked: Asked) -> Reply:
        if asked.method == "HEAD" and "~" not in asked.path:
            return Reply(headers={"Content-Length": "1", "ETag": '"opaque"'})
        if asked.method == "HEAD":
            return Reply(status=404)
        if asked.method == "GET":
            return Reply(status=403, body=error_xml("InvalidObjectState"))
        md5 = hashlib.md5(asked.body, usedforsecurity=False).hexdigest()
        return Reply(headers={"ETag": f'"{md5}"'})

    with ScriptedServer(answer) as scripted:
        outcome = S3Destination(scripted.settings()).store(content(tmp_path, b"x"), KEY, GO_ON)
    assert outcome.receipt.conflict


# --- what goes to Amazon ------------------------------------------------------------------


def amazon_through(scripted: ScriptedServer, **changes: Any) -> S3Destination:
    """A destination at Amazon's own address, which the scripted server plays as a proxy."""
    small = {"multipart_threshold_bytes": 10 * MIB, "minimum_part_bytes": 5 * MIB}
    address = {"endpoint_url": "http://s3.eu-west-1.amazonaws.com", "proxy": scripted.endpoint_url}
    return S3Destination(scripted.settings(**(small | address | changes)))


@pytest.mark.parametrize("size", [0, 1000, 9 * MIB, 12 * MIB])
def test_amazon_is_given_every_digest_of_the_bytes(tmp_path: Path, size: int) -> None:
    file = content(tmp_path, os.urandom(size))
    parts = b"".join(
        hashlib.md5(file.path.read_bytes()[start : start + 5 * MIB], usedforsecurity=False).digest()
        for start in range(0, size, 5 * MIB)
    )
    of_parts = f"{hashlib.md5(parts, usedforsecurity=False).hexdigest()}-3"
    result = (
        f"<CompleteMultipartUploadResult><ETag>{of_parts}</ETag></CompleteMultipartUploadResult>"
    )
    with ScriptedServer(scripted_multipart(Reply(body=result.encode()))) as scripted:
        outcome = amazon_through(scripted).store(file, KEY, GO_ON)
    assert outcome.receipt.store_check is StoreCheck.PAYLOAD_HASH
    puts = [asked for asked in scripted.asked if asked.method == "PUT"]
    puts.sort(key=lambda asked: asked.path)  # parts go side by side
    assert b"".join(asked.body for asked in puts) == file.path.read_bytes()
    for asked in puts:
        sha256 = hashlib.sha256(asked.body)
        assert asked.headers["x-amz-content-sha256"] == sha256.hexdigest()
        checksum = base64.b64encode(sha256.digest()).decode()
        assert asked.headers["x-amz-checksum-sha256"] == checksum
        assert "content-md5" not in asked.headers


def test_a_checksum_that_may_not_be_seen_is_done_without(tmp_path: Path) -> None:
    """Seeing it needs the right to use the key of a KMS object; uploading may not have it."""
    file = content(tmp_path, b"x")

    def answer(asked: Asked) -> Reply:
        if asked.method == "PUT":
            return Reply(status=412, body=error_xml("PreconditionFailed"))
        if asked.headers.get("x-amz-checksum-mode"):
            return Reply(status=403)
        return Reply(
            headers={
                "Content-Length": "1",
                "ETag": f'"{"0" * 32}"',
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-meta-sha256": file.sha256.hex(),
            }
        )

    with ScriptedServer(answer) as scripted:
        destination = amazon_through(scripted, engine="boto3")
        for _ in range(2):
            assert isinstance(destination.store(file, KEY, GO_ON), AlreadyStored)
    looks = [asked for asked in scripted.asked if asked.method == "HEAD"]
    modes = ["x-amz-checksum-mode" in asked.headers for asked in looks]
    assert modes == [True, False, False]
