"""What a store really does is seen by asking it, and used: on real servers and a scripted one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from s3_destinations import GO_ON, KEY, MIB, QuickFirst, content, nothing_of_the_users
from s3_servers import (
    ACCESS_KEY,
    BUCKET,
    KINDS,
    SECRET_KEY,
    Asked,
    FileContent,
    MotoServer,
    Reply,
    S3Server,
    ScriptedServer,
    closed_port,
    error_xml,
    running,
)

from sensordrop.adapters.s3 import CapabilityBook, S3Destination, capabilities
from sensordrop.adapters.s3.proof import AMAZON, UNKNOWN, Capabilities
from sensordrop.adapters.s3.sigv4 import SigningKeys, signed_headers
from sensordrop.core.check import Check, CheckOutcome, first_failure
from sensordrop.core.failure import FailureError, FailureScope
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.core.model import StoreCheck

__all__ = ["nothing_of_the_users"]  # a fixture

PROBE = f"/{BUCKET}/_sensordrop/probe"
OK, NOTICE, FAILED = CheckOutcome.OK, CheckOutcome.NOTICE, CheckOutcome.FAILED


@pytest.fixture(params=[S3Destination, QuickFirst], ids=["boto3", "curl"])
def engine(request: pytest.FixtureRequest) -> Any:
    """Both engines, as functions from settings to a destination."""
    if request.param is QuickFirst:
        return QuickFirst
    return lambda settings: S3Destination(replace(settings, engine="boto3"))


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[S3Server]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture
def server(shared: S3Server) -> S3Server:
    client = shared.client()
    for key in shared.object_keys():
        client.delete_object(Bucket=BUCKET, Key=key)
    return shared


@dataclass
class Shop:
    """A scripted store that does exactly what it is told to do, and refuses bad signatures."""

    honours_condition: bool = True
    checks_hash: bool = True
    checks_md5: bool = True
    denies: tuple[str, ...] = ()
    """Paths whose puts are denied."""
    keeps_deleted: bool = False
    damages: bool = False
    """Answers rightly to every put, and keeps other bytes."""
    objects: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Reply:
        if not rightly_signed(asked):
            return error(403, "SignatureDoesNotMatch")
        parts = urlsplit(asked.path)
        if asked.path.startswith(f"/{BUCKET}?"):
            listing = f"<ListBucketResult><Name>{BUCKET}</Name><KeyCount>0</KeyCount>"
            return Reply(body=f"{listing}</ListBucketResult>".encode())
        if "uploads" in parts.query and asked.method == "POST":
            return Reply(body=b"<R><UploadId>u1</UploadId></R>")
        if "uploadId=" in parts.query:
            return self._parts(asked, parts.path)
        answer = getattr(self, f"_{asked.method.lower()}", None)
        return answer(asked, parts.path) if answer else error(405, "MethodNotAllowed")

    def _parts(self, asked: Asked, path: str) -> Reply:
        if asked.method == "PUT":
            return Reply(headers={"ETag": etag(asked.body)})
        if asked.method == "DELETE":
            return Reply(status=204)
        if self._taken(asked, path):
            return error(412, "PreconditionFailed")
        return Reply(
            body=b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
        )

    def _put(self, asked: Asked, path: str) -> Reply:
        if path in self.denies:
            return error(403, "AccessDenied")
        if self._taken(asked, path):
            return error(412, "PreconditionFailed")
        promised = asked.headers["x-amz-content-sha256"]
        if self.checks_hash and hashlib.sha256(asked.body).hexdigest() != promised:
            return error(400, "XAmzContentSHA256Mismatch")
        md5 = base64.b64encode(hashlib.md5(asked.body).digest()).decode()
        if self.checks_md5 and asked.headers.get("content-md5", md5) != md5:
            return error(400, "BadDigest")
        self.objects[path] = bytes(len(asked.body)) if self.damages else asked.body
        self.metadata[path] = {
            name: value for name, value in asked.headers.items() if name.startswith("x-amz-meta-")
        } | {"ETag": etag(asked.body)}
        return Reply(headers={"ETag": etag(asked.body)})

    def _taken(self, asked: Asked, path: str) -> bool:
        return self.honours_condition and "if-none-match" in asked.headers and path in self.objects

    def _head(self, asked: Asked, path: str) -> Reply:
        if path not in self.objects:
            return Reply(status=404)
        return Reply(headers=self.metadata[path] | {"Content-Length": str(len(self.objects[path]))})

    def _get(self, asked: Asked, path: str) -> Reply:
        if path not in self.objects:
            return error(404, "NoSuchKey")
        return Reply(headers=self.metadata[path], body=self.objects[path])

    def _post(self, asked: Asked, path: str) -> Reply:
        return error(400, "InvalidRequest")  # STS

    def _delete(self, asked: Asked, path: str) -> Reply:
        if self.keeps_deleted:
            return error(403, "AccessDenied")
        self.objects.pop(path, None)
        return Reply(status=204)


def error(status: int, code: str) -> Reply:
    return Reply(status=status, body=error_xml(code))


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def rightly_signed(asked: Asked) -> bool:
    """Sign the request again with the secret, over the payload's hash that it names."""
    told = asked.headers.get("authorization", "")
    if "/s3/aws4_request" not in told:
        return "/sts/" in told
    names = told.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    ours = {"host", "x-amz-content-sha256", "x-amz-date"}
    parts = urlsplit(asked.path)
    query = "&".join(
        sorted(each if "=" in each else f"{each}=" for each in parts.query.split("&") if each)
    )
    again = signed_headers(
        method=asked.method,
        host=asked.headers["host"],
        path=parts.path,
        query=query,
        headers={name: asked.headers[name] for name in names if name not in ours},
        payload_sha256=asked.headers["x-amz-content-sha256"],
        keys=SigningKeys(access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY),
        region=told.split("/")[2],
        now=datetime.strptime(asked.headers["x-amz-date"], "%Y%m%dT%H%M%S%z"),
    )
    return hmac.compare_digest(again["authorization"].rpartition("=")[2], told.rpartition("=")[2])


def found(checks: list[Check], name: str) -> Check:
    (check,) = (check for check in checks if check.name == name)
    return check


def seen_by(destination: S3Destination) -> Capabilities:
    """What the destination builds on."""
    return destination._bucket.capabilities


def puts(scripted: ScriptedServer) -> list[Asked]:
    return [each for each in scripted.asked if each.method == "PUT" and PROBE not in each.path]


# --- what is seen -------------------------------------------------------------------------


def test_what_real_servers_do_is_seen(server: S3Server) -> None:
    destination = S3Destination(server.settings())
    assert seen_by(destination) == UNKNOWN
    checks = destination.preflight("C1")
    moto = isinstance(server, MotoServer)
    assert seen_by(destination) == Capabilities(
        conditional_put=server.capabilities.conditional_put,
        conditional_complete=server.capabilities.conditional_complete,
        checks_payload_hash=server.capabilities.checks_payload_hash,
        checks_content_md5=not moto,
    )
    refuses = server.capabilities.conditional_put and server.capabilities.conditional_complete
    assert found(checks, "overwriting").outcome is (OK if refuses else NOTICE)
    assert found(checks, "store check").outcome is (NOTICE if moto else OK)
    assert server.object_keys() == [], "nothing is left behind"
    assert server.uploads_in_progress() == []


@pytest.mark.parametrize("odd", range(8))
def test_one_refusal_of_a_store_that_is_not_well_is_no_proof_that_it_checks_anything(
    odd: int,
) -> None:
    """Nobody looks at the bytes where the store is known to: it must not be known by accident."""
    shop = Shop(honours_condition=True, checks_hash=False, checks_md5=False)
    puts_of_probe: list[Asked] = []

    def sometimes(asked: Asked) -> Reply:
        if asked.method == "PUT" and "uploadId" not in asked.path:
            puts_of_probe.append(asked)
            if len(puts_of_probe) == odd + 1:
                return error(403, "SignatureDoesNotMatch")
        return shop(asked)

    with ScriptedServer(sometimes) as scripted:
        destination = S3Destination(scripted.settings())
        destination.preflight("C1")
        seen = seen_by(destination)
        assert not seen.checks_payload_hash
        assert not seen.checks_content_md5


@pytest.mark.parametrize("honours_condition", [True, False])
@pytest.mark.parametrize("checks_hash", [True, False])
@pytest.mark.parametrize("checks_md5", [True, False])
def test_every_ability_is_told_apart(
    honours_condition: bool, checks_hash: bool, checks_md5: bool
) -> None:
    shop = Shop(honours_condition=honours_condition, checks_hash=checks_hash, checks_md5=checks_md5)
    with ScriptedServer(shop) as scripted:
        destination = S3Destination(scripted.settings())
        assert first_failure(destination.preflight("C1")) is None
        assert seen_by(destination) == Capabilities(
            conditional_put=honours_condition,
            conditional_complete=honours_condition,
            checks_payload_hash=checks_hash,
            checks_content_md5=checks_md5,
        )
    assert shop.objects == {}


def test_the_contradicting_body_is_rightly_signed() -> None:
    """Else a store would refuse the signature, and be taken for one that checks the body."""
    with ScriptedServer(Shop(checks_hash=False)) as scripted:
        S3Destination(scripted.settings()).preflight("C1")
    lies = [
        each
        for each in scripted.asked
        if each.method == "PUT"
        and hashlib.sha256(each.body).hexdigest() != each.headers["x-amz-content-sha256"]
    ]
    assert len(lies) == 1
    assert rightly_signed(lies[0])
    assert "content-md5" not in lies[0].headers


def test_amazon_is_not_probed() -> None:
    with ScriptedServer(Shop()) as scripted:
        settings = replace(
            scripted.settings(),
            endpoint_url="http://s3.eu-west-1.amazonaws.com",
            proxy=scripted.endpoint_url,
        )
        destination = S3Destination(settings)
        destination.preflight("C1")
        assert seen_by(destination) == AMAZON
    assert [each for each in scripted.asked if "_sensordrop" in each.path] == []


def test_a_right_that_is_missing_is_a_notice_and_files_are_stored(
    tmp_path: Path, engine: Any
) -> None:
    with ScriptedServer(Shop(denies=(PROBE,))) as scripted:
        destination = engine(scripted.settings())
        checks = destination.preflight("C1")
        assert first_failure(checks) is None
        told = found(checks, "probes")
        assert told.outcome is NOTICE
        assert "403 AccessDenied" in told.words
        assert "_sensordrop/probe" in told.hint
        scripted.asked.clear()
        outcome = destination.store(content(tmp_path, b"x"), KEY, GO_ON)
    assert outcome.receipt.store_check is StoreCheck.ETAG
    assert [each.method for each in scripted.asked] == ["HEAD", "PUT"], "it looks first"
    assert "content-md5" in scripted.asked[1].headers


def test_a_probe_that_is_not_answered_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "PROBE_TIMEOUT_SECONDS", 0.5)
    over = threading.Event()
    shop = Shop()

    def slow(asked: Asked) -> Reply:
        if asked.path == PROBE:
            over.wait(30)
        return shop(asked)

    with ScriptedServer(slow) as scripted:
        began = time.monotonic()
        checks = S3Destination(scripted.settings()).preflight("C1")
        waited = time.monotonic() - began
        over.set()
    assert first_failure(checks) is None
    assert "nothing in time" in found(checks, "probes").words
    assert waited < 25


def test_a_denied_delete_is_harmless_and_leaves_one_object() -> None:
    shop = Shop(keeps_deleted=True)
    with ScriptedServer(shop) as scripted:
        for _ in range(2):
            destination = S3Destination(scripted.settings())
            assert first_failure(destination.preflight("C1")) is None
            assert seen_by(destination).conditional_put
    assert list(shop.objects) == [PROBE]


def test_deliveries_to_one_bucket_share_what_is_seen() -> None:
    now = 1000.0
    book = CapabilityBook(clock=lambda: now)

    def asks() -> int:
        return sum(each.path == PROBE and each.method == "DELETE" for each in scripted.asked)

    with ScriptedServer(Shop()) as scripted:
        together = [S3Destination(scripted.settings(), book) for _ in range(4)]
        threads = [threading.Thread(target=each.preflight, args=("C1",)) for each in together]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert asks() == 1
        assert {seen_by(each).conditional_put for each in together} == {True}
        now += capabilities.SHARED_SECONDS
        together[0].preflight("C1")
        assert asks() == 2, "a store that was away may not be the store that it was"


# --- what is built on it ------------------------------------------------------------------


class WithoutMd5(FileContent):
    """A content that nobody may ask for its MD5."""

    def __getattribute__(self, name: str) -> Any:
        assert name != "md5", "nobody needs the MD5 of this"
        return super().__getattribute__(name)


def test_a_store_that_checks_the_hash_gets_one_request_and_no_md5(
    tmp_path: Path, engine: Any
) -> None:
    with ScriptedServer(Shop()) as scripted:
        destination = engine(scripted.settings())
        destination.preflight("C1")
        scripted.asked.clear()
        content(tmp_path, b"dawn")
        outcome = destination.store(WithoutMd5(tmp_path / "recording"), KEY, GO_ON)
    assert outcome.receipt.store_check is StoreCheck.PAYLOAD_HASH
    (put,) = scripted.asked
    assert put.method == "PUT"
    assert put.headers["if-none-match"] == "*"
    assert "content-md5" not in put.headers


def test_without_a_look_other_content_is_still_never_written_over(
    tmp_path: Path, engine: Any
) -> None:
    shop = Shop()
    with ScriptedServer(shop) as scripted:
        destination = engine(scripted.settings())
        destination.preflight("C1")
        first = destination.store(content(tmp_path, b"dawn"), KEY, GO_ON)
        again = destination.store(content(tmp_path, b"dawn"), KEY, GO_ON)
        other = destination.store(content(tmp_path, b"dusk"), KEY, GO_ON)
    assert isinstance(first, Stored)
    assert isinstance(again, AlreadyStored)
    assert other.receipt.conflict
    assert shop.objects[f"/{BUCKET}/{KEY}"] == b"dawn"
    assert sorted(shop.objects.values()) == [b"dawn", b"dusk"]


@pytest.mark.parametrize("size", [4, 9 * MIB, 11 * MIB], ids=["memory", "streamed", "parts"])
def test_what_was_recorded_is_what_the_server_was_seen_to_check(
    server: S3Server, tmp_path: Path, engine: Any, size: int
) -> None:
    small = {"multipart_threshold_bytes": 10 * MIB, "minimum_part_bytes": 5 * MIB}
    destination = engine(server.settings(**small))
    destination.preflight("C1")
    file = content(tmp_path, os.urandom(size))
    outcome = destination.store(file, KEY, GO_ON)
    expected = StoreCheck.ETAG if isinstance(server, MotoServer) else StoreCheck.CONTENT_MD5
    if server.capabilities.checks_payload_hash:
        expected = StoreCheck.PAYLOAD_HASH
    assert outcome.receipt.store_check is expected
    assert server.read(KEY) == file.path.read_bytes()


def test_a_key_taken_before_an_upload_in_parts_ends_is_never_written_over(tmp_path: Path) -> None:
    """The store ignores the condition: we look once more right before the end."""
    theirs = b"of others"
    with running("rclone", tmp_path / "own") as server:
        settings = server.settings(multipart_threshold_bytes=10 * MIB, minimum_part_bytes=5 * MIB)
        destination = S3Destination(settings)
        destination.preflight("C1")
        send = destination._bucket.put_part

        def send_then_lose_the_race(key: str, *args: Any) -> Any:
            if "~" not in key:
                server.client().put_object(Bucket=BUCKET, Key=KEY, Body=theirs)
            return send(key, *args)

        destination._bucket.put_part = send_then_lose_the_race  # type: ignore[method-assign]
        ours = content(tmp_path, os.urandom(11 * MIB))
        outcome = destination.store(ours, KEY, GO_ON)
        assert outcome.receipt.conflict
        assert server.read(KEY) == theirs
        assert server.read(outcome.receipt.object_key) == ours.path.read_bytes()


@pytest.mark.parametrize(
    ("checks_hash", "preflight", "expected"),
    [
        (True, True, StoreCheck.PAYLOAD_HASH),
        (True, False, StoreCheck.PAYLOAD_HASH),
        (False, True, StoreCheck.ETAG),
    ],
    ids=["seen", "on the operator's word", "seen to be wrong"],
)
def test_payload_hash_is_taken_on_the_operators_word_unless_it_was_seen_to_be_wrong(
    tmp_path: Path, engine: Any, checks_hash: bool, preflight: bool, expected: StoreCheck
) -> None:
    with ScriptedServer(Shop(checks_hash=checks_hash)) as scripted:
        destination = engine(scripted.settings(store_check="payload-hash"))
        checks = destination.preflight("C1") if preflight else []
        outcome = destination.store(content(tmp_path, b"x"), KEY, GO_ON)
    assert outcome.receipt.store_check is expected
    assert all("content-md5" not in each.headers for each in puts(scripted))
    if expected is StoreCheck.ETAG:
        assert found(checks, "store check").outcome is NOTICE
        assert found(checks, "store check").hint


def test_content_md5_is_sent_where_it_was_chosen(tmp_path: Path, engine: Any) -> None:
    with ScriptedServer(Shop()) as scripted:
        destination = engine(scripted.settings(store_check="content-md5"))
        before = destination.store(content(tmp_path, b"x"), "1.wav", GO_ON)
        destination.preflight("C1")
        after = destination.store(content(tmp_path, b"x"), "2.wav", GO_ON)
    assert before.receipt.store_check is StoreCheck.ETAG, "that it is checked was not seen yet"
    assert after.receipt.store_check is StoreCheck.CONTENT_MD5
    assert all("content-md5" in each.headers for each in puts(scripted))


# --- reading back -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 4, 9 * MIB, 11 * MIB])
def test_every_object_is_read_back_where_that_was_chosen(
    server: S3Server, tmp_path: Path, engine: Any, size: int
) -> None:
    small = {"multipart_threshold_bytes": 10 * MIB, "minimum_part_bytes": 5 * MIB}
    destination = engine(server.settings(store_check="read-back", **small))
    destination.preflight("C1")
    file = content(tmp_path, os.urandom(size))
    stored = destination.store(file, KEY, GO_ON)
    assert isinstance(stored, Stored)
    assert stored.receipt.store_check is StoreCheck.READ_BACK
    again = destination.store(file, KEY, GO_ON)
    assert isinstance(again, AlreadyStored)
    assert again.receipt.store_check is StoreCheck.READ_BACK


def test_an_object_that_comes_back_otherwise_is_a_failure_and_never_counts(
    tmp_path: Path, engine: Any
) -> None:
    """The store answers rightly to everything, and keeps other bytes."""
    shop = Shop(damages=True)
    with ScriptedServer(shop) as scripted:
        destination = engine(scripted.settings(store_check="read-back"))
        with pytest.raises(FailureError) as raised:
            destination.store(content(tmp_path, b"dawn"), KEY, GO_ON)
        failure = raised.value.failure
        assert (failure.error_class, failure.scope) == ("checksum-mismatch", FailureScope.FILE)
        assert "this object is ours" in failure.message
        shop.damages = False
        outcome = destination.store(content(tmp_path, b"dawn"), KEY, GO_ON)
    assert outcome.receipt.conflict, "the damaged object is not written over, nor believed"
    assert outcome.receipt.store_check is StoreCheck.READ_BACK


# --- the checks ---------------------------------------------------------------------------


def test_a_preflight_tells_plain_lines(server: S3Server) -> None:
    checks = S3Destination(server.settings()).preflight("C1")
    assert [check.name for check in checks] == [
        "credentials",
        "identity",
        "bucket",
        "listing",
        "prefix",
        "clock",
        "overwriting",
        "store check",
    ]
    assert {check.outcome for check in checks} <= {OK, NOTICE}
    assert (
        found(checks, "bucket").words == f"bucket {BUCKET} at {server.endpoint_url} can be reached"
    )
    assert found(checks, "prefix").words == "keys begin with C1/; nothing is there yet"
    server.client().put_object(Bucket=BUCKET, Key="C1/a.wav", Body=b"x")
    after = S3Destination(server.settings()).preflight("C1")
    assert found(after, "prefix").words == "keys begin with C1/; objects are there already"
    assert SECRET_KEY not in str(checks)


def test_a_missing_sts_is_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running("moto", tmp_path / "moto") as moto:
        destination = S3Destination(moto.settings())
        assert found(destination.preflight(""), "identity").words.startswith("arn:aws:sts::")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{closed_port()}")
        checks = destination.preflight("")
    identity = found(checks, "identity")
    assert identity.outcome is NOTICE
    assert identity.words == "unknown: STS can't be asked: EndpointConnectionError"
    assert first_failure(checks) is None


def test_a_bucket_that_may_not_be_listed_is_told_apart_from_one_that_is_closed() -> None:
    def answer(asked: Asked) -> Reply:
        if asked.method == "HEAD":
            return Reply()
        return error(403, "AccessDenied")

    with ScriptedServer(answer) as scripted:
        checks = S3Destination(scripted.settings()).preflight("C1")
    assert found(checks, "bucket").outcome is OK
    listing = found(checks, "listing")
    assert listing.outcome is FAILED
    assert "s3:ListBucket" in listing.hint
    with ScriptedServer(lambda _: error(403, "AccessDenied")) as scripted:
        checks = S3Destination(scripted.settings()).preflight("C1")
    assert [check.name for check in checks if check.outcome is FAILED] == ["bucket"]


def test_a_refused_listing_is_never_a_files_trouble() -> None:
    with ScriptedServer(lambda _: error(400, "InvalidRequest")) as scripted:
        failure = first_failure(S3Destination(scripted.settings()).preflight("C1"))
    assert failure is not None
    assert failure.scope is FailureScope.PROJECT


@pytest.mark.parametrize(("minutes", "outcome"), [(0, OK), (-5, NOTICE), (5, NOTICE)])
def test_a_clock_that_is_off_is_told(minutes: int, outcome: CheckOutcome) -> None:
    shop = Shop()

    def answer(asked: Asked) -> Reply:
        reply = shop(asked)
        date = {"Date": formatdate(time.time() + 60 * minutes, usegmt=True)}
        return Reply(status=reply.status, headers=reply.headers | date, body=reply.body)

    with ScriptedServer(answer) as scripted:
        check = found(S3Destination(scripted.settings()).preflight("C1"), "clock")
    assert check.outcome is outcome
    if minutes:
        assert ("behind" if minutes > 0 else "ahead") in check.words
        assert "timedatectl" in check.hint
