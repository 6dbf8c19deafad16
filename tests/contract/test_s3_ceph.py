"""What only a strict server can answer: Ceph checks signatures and every hash that they cover."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ceph_servers import CephCluster, CephServer
from hypothesis import given, settings
from hypothesis import strategies as st
from s3_destinations import (
    GO_ON,
    KEY,
    MIB,
    QuickFirst,
    answer_of,
    content,
    failure_of,
    nothing_of_the_users,
)
from s3_servers import BUCKET, SECRET_KEY, FileContent, S3Server, running
from test_s3_destination import _During
from test_s3_odd_names import NAMES

from sensordrop.adapters.s3 import S3Destination
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.s3.sigv4 import SigningKeys, encoded_path, encoded_query, signed_headers
from sensordrop.core.failure import FailureError, FailureScope
from sensordrop.core.keys import object_key, path_text
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.ports.transfer import HttpAnswer, HttpRequest

__all__ = ["nothing_of_the_users"]  # a fixture

pytestmark = pytest.mark.ceph

NOTHING = hashlib.sha256(b"").hexdigest()
ENGINES: dict[str, type[S3Destination]] = {"boto3": S3Destination, "curl": QuickFirst}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: Any) -> Iterator[S3Server]:
    with running("ceph", tmp_path_factory.mktemp("ceph")) as started:
        yield started


@pytest.fixture
def server(shared: S3Server) -> S3Server:
    """A running server with an empty bucket."""
    for key in shared.object_keys():
        shared.client().delete_object(Bucket=BUCKET, Key=key)
    return shared


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- bytes that are not what was signed ---------------------------------------------------


def quick_put(server: S3Server, file: FileContent) -> tuple[Any, HttpRequest, CurlLane]:
    """Go on the quick way up to its put, which is not sent yet."""
    steps = QuickFirst(server.settings()).quick(file, KEY)
    assert steps is not None
    lane = CurlLane(LaneSettings(most_connections=1))
    lane.start(0, next(steps))
    return steps, steps.send(answer_of(lane)), lane


def through(lane: CurlLane, request: HttpRequest) -> HttpAnswer:
    try:
        lane.start(1, request)
        return answer_of(lane)
    finally:
        lane.close()


def refusal_of(steps: Any, answer: HttpAnswer) -> FailureError:
    with pytest.raises(FailureError) as raised:
        steps.send(answer)
    return raised.value


def test_a_body_damaged_on_its_way_through_libcurl_is_refused(
    server: S3Server, tmp_path: Path
) -> None:
    file = content(tmp_path, b"what the recorder heard")
    steps, put, lane = quick_put(server, file)
    answer = through(lane, replace(put, body=io.BytesIO(b"what the recorder h3ard")))
    failure = refusal_of(steps, answer).failure
    assert (failure.error_class, failure.scope) == ("checksum-mismatch", FailureScope.FILE)
    assert not failure.permanent, "the next try sends the right bytes"
    assert server.object_keys() == []


def test_a_body_damaged_on_its_way_through_boto3_is_refused(
    server: S3Server, tmp_path: Path
) -> None:
    destination = S3Destination(server.settings(engine="boto3"))

    def damage(request: Any, **_: Any) -> None:
        request.body = b"what the recorder h3ard"

    events = destination._bucket._connected().meta.events
    events.register("before-send.s3.PutObject", damage)
    file = content(tmp_path, b"what the recorder heard")
    failure = failure_of(destination, file)
    assert (failure.error_class, failure.scope) == ("checksum-mismatch", FailureScope.FILE)
    assert server.object_keys() == []
    events.unregister("before-send.s3.PutObject", damage)
    assert isinstance(destination.store(file, KEY, GO_ON), Stored), "the next try sends it whole"


def test_the_signed_sha256_alone_is_enough_to_refuse_a_body(
    server: S3Server, tmp_path: Path
) -> None:
    """No MD5 helps here: it is the payload's hash under the signature that the store checks."""
    file = content(tmp_path, b"what the recorder heard")
    steps, _, lane = quick_put(server, file)
    lane.close()
    answer = signed(
        server, "PUT", KEY, body=b"what the recorder h3ard", payload_sha256=file.sha256.hex()
    )
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert server.capabilities.checks_payload_hash
    told = refusal_of(steps, HttpAnswer(status=answer.status, headers={}, body=answer.body))
    assert told.failure.error_class == "checksum-mismatch"
    assert server.object_keys() == []


def test_a_body_that_contradicts_its_md5_is_refused(
    server: S3Server, engine: str, tmp_path: Path
) -> None:
    file = content(tmp_path, b"what the recorder heard")
    file.md5 = bytes(16)
    failure = failure_of(ENGINES[engine](server.settings()), file)
    assert (failure.error_class, failure.scope) == ("checksum-mismatch", FailureScope.FILE)
    assert "400" in failure.message
    assert server.object_keys() == []


# --- a key that is taken ------------------------------------------------------------------


def test_a_second_put_under_a_condition_is_refused(server: S3Server) -> None:
    only_if_free = {"if-none-match": "*"}
    assert signed(server, "PUT", KEY, only_if_free, body=b"first").status == 200
    second = signed(server, "PUT", KEY, only_if_free, body=b"other")
    assert (second.status, second.code) == (412, "PreconditionFailed")
    assert server.read(KEY) == b"first"


@pytest.mark.parametrize("theirs", [b"ours", b"of others"], ids=["same content", "other content"])
def test_a_key_taken_after_the_look_goes_up_the_ladder(
    server: S3Server, engine: str, theirs: bytes, tmp_path: Path
) -> None:
    destination = ENGINES[engine](server.settings(engine=engine))
    look = destination._bucket.head
    file = content(tmp_path, b"ours")
    if engine == "curl":
        steps, put, lane = quick_put(server, file)
        server.client().put_object(Bucket=BUCKET, Key=KEY, Body=theirs)
        answer = through(lane, put)
        assert answer.status == 412
        with pytest.raises(StopIteration) as end:
            steps.send(answer)
        assert end.value.value is None, "the quick way leaves it to the slow one"
    else:

        def look_then_lose_the_race(key: str) -> Any:
            facts = look(key)
            if facts is None and key == KEY:
                server.client().put_object(Bucket=BUCKET, Key=KEY, Body=theirs)
            return facts

        destination._bucket.head = look_then_lose_the_race  # type: ignore[method-assign]
    outcome = destination.store(file, KEY, GO_ON)
    assert server.read(KEY) == theirs, "nothing is overwritten"
    if theirs == b"ours":
        assert isinstance(outcome, AlreadyStored)
        assert server.object_keys() == [KEY]
    else:
        assert outcome.receipt.conflict
        assert server.read(outcome.receipt.object_key) == b"ours"


def test_a_condition_on_a_completion_is_known_not_to_hold(server: S3Server) -> None:
    """So a look has to come right before a completion here, and it can still lose a race."""
    client = server.client()
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=KEY)["UploadId"]
    where = {"Bucket": BUCKET, "Key": KEY, "UploadId": upload}
    etag = client.upload_part(**where, PartNumber=1, Body=b"ours")["ETag"]
    client.put_object(Bucket=BUCKET, Key=KEY, Body=b"of others")
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    assert not server.capabilities.conditional_complete
    client.complete_multipart_upload(**where, MultipartUpload=parts, IfNoneMatch="*")
    assert server.read(KEY) == b"ours"


# --- who we are, and when -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error_class"),
    [
        ({"secret_access_key": "W" * 40}, "credentials-refused"),
        ({"access_key_id": "NOBODYSKEY0000000000"}, "credentials-refused"),
    ],
    ids=["wrong secret", "unknown key"],
)
def test_refused_credentials_are_the_projects_trouble(
    server: S3Server, engine: str, changes: dict[str, str], error_class: str, tmp_path: Path
) -> None:
    destination = ENGINES[engine](server.settings(**changes))
    failure = failure_of(destination, content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == (error_class, FailureScope.PROJECT)
    assert "403" in failure.message
    assert "W" * 40 not in failure.message


@pytest.mark.parametrize("hours", [-1, 1], ids=["slow", "fast"])
def test_a_clock_that_is_wrong_is_told_as_such(
    server: S3Server, engine: str, hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature that has run out, or has not begun, is refused like a wrong secret: 403."""
    wrong = timedelta(hours=hours)
    file = content(tmp_path, b"x")
    destination = ENGINES[engine](server.settings())
    with monkeypatch.context() as patch:
        set_clocks(patch, wrong)
        failure = failure_of(destination, file)
    assert (failure.error_class, failure.scope) == ("clock-skew", FailureScope.PROJECT)
    assert "403" in failure.message
    outcome = destination.store(file, KEY, GO_ON)
    assert isinstance(outcome, Stored), "with the clock set right it goes on without a restart"


def set_clocks(patch: pytest.MonkeyPatch, wrong: timedelta) -> None:
    """Make boto3 and our own signer believe in another time."""

    def sign(**named: Any) -> dict[str, str]:
        return signed_headers(**(named | {"now": named["now"] + wrong}))

    for name, module in list(sys.modules.items()):
        if name.startswith("sensordrop.adapters.s3.") and hasattr(module, "signed_headers"):
            patch.setattr(module, "signed_headers", sign)

    def now(remove_tzinfo: bool = True) -> datetime:
        moment = datetime.now(UTC) + wrong
        return moment.replace(tzinfo=None) if remove_tzinfo else moment

    patch.setattr("botocore.auth.get_current_datetime", now)


# --- our signer, by a server that checks --------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a server answered to one signed request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return self.element("Code")

    def element(self, name: str) -> str:
        found = re.search(rf"<{name}>([^<]*)</{name}>".encode(), self.body)
        return found.group(1).decode() if found else ""


def signed(
    server: S3Server,
    method: str,
    key: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    query: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    payload_sha256: str | None = None,
    after_signing: Callable[[str, dict[str, str]], tuple[str, dict[str, str]]] | None = None,
) -> Told:
    """Send one request that our signer signed, and that nothing else has touched.

    `after_signing` may change the address and the headers, which a server must notice.
    """
    host = urlsplit(server.endpoint_url).netloc
    path = encoded_path(f"/{BUCKET}".encode() + (b"/" + key.encode() if key else b""))
    asked = encoded_query(query)
    sent = signed_headers(
        method=method,
        host=host,
        path=path,
        query=asked,
        headers=headers or {},
        payload_sha256=payload_sha256 or hashlib.sha256(body).hexdigest(),
        keys=SigningKeys(access_key_id=server.access_key, secret_access_key=SECRET_KEY),
        region="us-east-1",
        now=datetime.now(UTC),
    )
    address = path + (f"?{asked}" if asked else "")
    if after_signing is not None:
        address, sent = after_signing(address, sent)
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method, address, body=body or None, headers=sent)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Told(status=answer.status, headers=told, body=answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("name", NAMES)
def test_what_our_signer_signs_is_accepted_for_the_oddest_keys(server: S3Server, name: str) -> None:
    key = object_key("C1", path_text(NAMES[name]))
    body = b"the content of " + NAMES[name]
    assert signed(server, "HEAD", key).status == 404
    assert signed(server, "PUT", key, body=body).status == 200
    assert signed(server, "HEAD", key).headers["content-length"] == str(len(body))
    assert signed(server, "GET", key).body == body
    assert server.object_keys() == [key]
    assert signed(server, "DELETE", key).status == 204
    assert server.object_keys() == []


@pytest.mark.parametrize("name", ["percent", "question and hash", "ampersand and equals", "plus"])
def test_a_multipart_upload_can_be_signed_from_end_to_end(server: S3Server, name: str) -> None:
    key = object_key("C1", path_text(NAMES[name]))
    parts = [os.urandom(5 * MIB), os.urandom(100)]
    upload = signed(server, "POST", key, query=[("uploads", "")]).element("UploadId")
    assert upload
    etags = []
    for number, part in enumerate(parts, start=1):
        where = [("partNumber", str(number)), ("uploadId", upload)]
        answer = signed(server, "PUT", key, query=where, body=part)
        assert answer.status == 200
        etags.append(answer.headers["etag"])
    listed = signed(server, "GET", key, query=[("uploadId", upload), ("max-parts", "10")])
    assert listed.body.count(b"<Part>") == 2
    complete = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in enumerate(etags, start=1)
    )
    done = signed(
        server,
        "POST",
        key,
        query=[("uploadId", upload)],
        body=f"<CompleteMultipartUpload>{complete}</CompleteMultipartUpload>".encode(),
    )
    assert done.status == 200
    assert server.read(key) == b"".join(parts)


@pytest.mark.parametrize("value", ["two  spaces   inside", " around it ", "a, b;  c=d/e+f~g%20"])
def test_header_values_with_spaces_are_signed_as_they_are_read(
    server: S3Server, value: str
) -> None:
    answer = signed(server, "PUT", KEY, {"x-amz-meta-remark": value}, body=b"x")
    assert answer.status == 200, answer.code
    kept = server.client().head_object(Bucket=BUCKET, Key=KEY)["Metadata"]["remark"]
    assert kept.split() == value.split()


@settings(max_examples=60)
@given(
    query=st.dictionaries(
        st.sampled_from(["prefix", "start-after", "delimiter"]),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    )
)
def test_listings_of_any_prefix_are_accepted(shared: S3Server, query: dict[str, str]) -> None:
    answer = signed(shared, "GET", query=[("list-type", "2"), *query.items()])
    assert answer.status == 200, answer.code


def _other_address(address: str, sent: dict[str, str]) -> tuple[str, dict[str, str]]:
    return address.replace("prefix=C1", "prefix=C2"), sent


def _other_value(address: str, sent: dict[str, str]) -> tuple[str, dict[str, str]]:
    return address, sent | {"x-amz-meta-remark": "put in on the way"}


def _other_hash(address: str, sent: dict[str, str]) -> tuple[str, dict[str, str]]:
    return address, sent | {"x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()}


@pytest.mark.parametrize("change", [_other_address, _other_value, _other_hash])
def test_what_is_changed_after_signing_is_noticed(server: S3Server, change: Any) -> None:
    """Otherwise the tests above would prove nothing."""
    remark = {"x-amz-meta-remark": "as signed"}
    question = [("list-type", "2"), ("prefix", "C1")]
    assert signed(server, "GET", headers=remark, query=question).status == 200
    answer = signed(server, "GET", headers=remark, query=question, after_signing=change)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


# --- a store that loses its power ---------------------------------------------------------


@pytest.fixture(scope="module")
def lasting_cluster() -> Iterator[CephCluster]:
    """A cluster that keeps what it has on a disk; who cuts its power switches it on again."""
    cluster = CephCluster("bluestore").start()
    yield cluster
    cluster.close()


@pytest.fixture
def lasting(
    lasting_cluster: CephCluster, tmp_path: Path
) -> Iterator[tuple[CephCluster, CephServer]]:
    server = CephServer(tmp_path / "gateway", lasting_cluster)
    try:
        server.start()
        server.make_bucket()
        yield lasting_cluster, server
    finally:
        server.kill()


def test_what_was_stored_outlives_a_power_cut_and_the_rest_is_stored_later(
    lasting: tuple[CephCluster, CephServer], engine: str, tmp_path: Path
) -> None:
    cluster, server = lasting

    def destination() -> S3Destination:
        small = {"multipart_threshold_bytes": 10 * MIB, "minimum_part_bytes": 5 * MIB}
        return ENGINES[engine](server.settings(**small))

    early = content(tmp_path, os.urandom(12 * MIB), "early")
    stored = destination().store(early, "C1/early.wav", GO_ON)

    def cut_the_power() -> None:
        server.kill()
        cluster.kill()

    late = content(tmp_path, os.urandom(12 * MIB), "late")
    with pytest.raises(FailureError) as raised:
        destination().store(late, KEY, _During(20, cut_the_power))
    assert raised.value.failure.scope is FailureScope.DESTINATION
    assert raised.value.failure.error_class in {"connection-lost", "connect"}
    cluster.restart()
    server.start()
    assert server.read("C1/early.wav") == early.path.read_bytes()
    again = destination().store(early, "C1/early.wav", GO_ON)
    assert isinstance(again, AlreadyStored)
    assert again.receipt.etag == stored.receipt.etag
    outcome = destination().store(late, KEY, GO_ON)
    assert not outcome.receipt.conflict
    assert server.read(KEY) == late.path.read_bytes()


def test_a_gateway_that_lost_its_store_is_the_destinations_trouble(
    lasting: tuple[CephCluster, CephServer], engine: str, tmp_path: Path
) -> None:
    """The gateway still takes connections, and says nothing."""
    cluster, server = lasting
    destination = ENGINES[engine](
        server.settings(connect_timeout_seconds=2.0, read_timeout_seconds=2.0)
    )
    destination.store(content(tmp_path, b"before"), "C1/before.wav", GO_ON)
    cluster.kill()
    file = content(tmp_path, b"after")
    failure = failure_of(destination, file)
    assert (failure.error_class, failure.scope) == ("timeout", FailureScope.DESTINATION)
    cluster.restart()
    server.restart()
    later = ENGINES[engine](server.settings())
    assert isinstance(later.store(file, KEY, GO_ON), Stored)
    assert server.read("C1/before.wav") == b"before"
