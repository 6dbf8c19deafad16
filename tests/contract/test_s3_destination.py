"""The S3 destination's contract, on real servers (moto, rclone, Ceph)."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3_destinations import (
    GO_ON,
    KEY,
    MIB,
    QuickFirst,
    answer_of,
    content,
    failure_of,
    nothing_of_the_users,
    trouble_found,
)
from s3_servers import (
    BUCKET,
    KINDS,
    BrokenContent,
    MotoServer,
    Reply,
    S3Server,
    ScriptedServer,
    closed_port,
    running,
)

from sensordrop.adapters.s3 import S3Destination
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.core.failure import (
    FailureError,
    FailureScope,
    InterruptedAttemptError,
)
from sensordrop.core.keys import conflict_key
from sensordrop.core.lifecycle import AlreadyStored, Stored
from sensordrop.core.model import StoreCheck

__all__ = ["nothing_of_the_users"]  # a fixture


@pytest.fixture(autouse=True, params=["boto3", "curl"])
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the whole suite against both engines."""
    if request.param == "curl":
        monkeypatch.setitem(globals(), "S3Destination", QuickFirst)


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[S3Server]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture
def server(shared: S3Server) -> S3Server:
    """A running server with an empty bucket."""
    client = shared.client()
    for key in shared.object_keys():
        client.delete_object(Bucket=BUCKET, Key=key)
    return shared


@pytest.fixture(params=KINDS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3Server]:
    """A server that the test may kill, freeze or restart."""
    with running(request.param, tmp_path / "own") as started:
        yield started


@pytest.fixture
def moto(tmp_path: Path) -> Iterator[MotoServer]:
    with running("moto", tmp_path / "moto") as started:
        assert isinstance(started, MotoServer)
        yield started


def in_parts(server: S3Server, **changes: Any) -> S3Destination:
    """A destination whose multipart threshold is low enough for tests."""
    small = {"multipart_threshold_bytes": 10 * MIB, "minimum_part_bytes": 5 * MIB}
    return S3Destination(server.settings(**(small | changes)))


# --- storing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 1, 5 * MIB, 8 * MIB + 1, 12 * MIB], ids=lambda size: f"{size} bytes"
)
def test_stored_bytes_are_the_files_bytes(server: S3Server, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    file = content(tmp_path, data)
    outcome = in_parts(server).store(file, KEY, GO_ON)
    assert isinstance(outcome, Stored)
    assert server.read(KEY) == data
    receipt = outcome.receipt
    assert (receipt.object_key, receipt.sha256) == (KEY, file.sha256)
    assert receipt.store_check is StoreCheck.ETAG
    assert not receipt.conflict
    assert server.uploads_in_progress() == []


def test_an_object_carries_its_digest_and_its_media_type(server: S3Server, tmp_path: Path) -> None:
    file = content(tmp_path, b"RIFF")
    S3Destination(server.settings()).store(file, KEY, GO_ON)
    head = server.client().head_object(Bucket=BUCKET, Key=KEY)
    metadata = {name.lower(): value for name, value in head["Metadata"].items()}
    assert metadata == {"sha256": file.sha256.hex()}
    assert head["ContentType"] == "audio/wav"


def test_class_encryption_and_tags_reach_the_store(moto: MotoServer, tmp_path: Path) -> None:
    settings = moto.settings(
        storage_class="STANDARD_IA", sse="AES256", tags={"client": "a b", "cycle": "C1=2+3"}
    )
    S3Destination(settings).store(content(tmp_path, b"x"), KEY, GO_ON)
    client = moto.client()
    head = client.head_object(Bucket=BUCKET, Key=KEY)
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")
    tags = client.get_object_tagging(Bucket=BUCKET, Key=KEY)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"client": "a b", "cycle": "C1=2+3"}


def test_parts_and_single_puts_send_checksums_where_they_are_supported(
    moto: MotoServer, tmp_path: Path
) -> None:
    destination = in_parts(moto, request_checksum_calculation="when_supported")
    small = content(tmp_path, b"small", "small")
    large = content(tmp_path, os.urandom(11 * MIB), "large")
    destination.store(small, "small.wav", GO_ON)
    destination.store(large, "large.wav", GO_ON)
    client = moto.client()
    for key in ("small.wav", "large.wav"):
        head = client.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
        assert head.get("ChecksumSHA256"), key
    again = destination.store(small, "small.wav", GO_ON)
    assert isinstance(again, AlreadyStored)
    assert "SHA-256 kept by the store" in again.evidence
    assert again.receipt.store_check is StoreCheck.ETAG, "a store that checks nothing vouches not"


# --- the ladder ---------------------------------------------------------------------------


def test_the_same_content_again_is_not_sent(server: S3Server, tmp_path: Path) -> None:
    destination = S3Destination(server.settings())
    file = content(tmp_path, b"dawn chorus")
    destination.store(file, KEY, GO_ON)
    stored_at = server.client().head_object(Bucket=BUCKET, Key=KEY)["LastModified"]
    outcome = destination.store(file, KEY, GO_ON)
    assert isinstance(outcome, AlreadyStored)
    assert outcome.evidence == "same SHA-256 in its metadata, MD5 as its ETag"
    assert outcome.receipt.object_key == KEY
    assert server.client().head_object(Bucket=BUCKET, Key=KEY)["LastModified"] == stored_at
    assert server.object_keys() == [KEY]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(b"dawn", b"the whole dawn", id="other size"),
        pytest.param(b"dawn", b"dusk", id="same size"),
        pytest.param(b"", b"dusk", id="nothing there first"),
    ],
)
def test_other_content_under_the_key_is_kept_and_ours_goes_beside(
    server: S3Server, tmp_path: Path, first: bytes, second: bytes
) -> None:
    destination = S3Destination(server.settings())
    destination.store(content(tmp_path, first), KEY, GO_ON)
    file = content(tmp_path, second)
    outcome = destination.store(file, KEY, GO_ON)
    beside = f"C1/950349/20250909_092000~{file.sha256.hex()[:16]}.WAV"
    assert isinstance(outcome, Stored)
    assert (outcome.receipt.object_key, outcome.receipt.conflict) == (beside, True)
    assert server.read(KEY) == first
    assert server.read(beside) == second
    again = destination.store(file, KEY, GO_ON)
    assert isinstance(again, AlreadyStored)
    assert (again.receipt.object_key, again.receipt.conflict) == (beside, True)
    assert sorted(server.object_keys()) == sorted([KEY, beside])


def test_large_files_with_other_content_are_both_kept(server: S3Server, tmp_path: Path) -> None:
    destination = in_parts(server)
    first, second = os.urandom(11 * MIB), os.urandom(11 * MIB)
    destination.store(content(tmp_path, first), KEY, GO_ON)
    outcome = destination.store(content(tmp_path, second), KEY, GO_ON)
    assert outcome.receipt.conflict
    assert server.read(KEY) == first
    assert server.read(outcome.receipt.object_key) == second


def test_a_conflict_copys_key_with_yet_other_content_needs_a_human(
    server: S3Server, tmp_path: Path
) -> None:
    file = content(tmp_path, b"ours")
    beside = conflict_key(KEY, file.sha256)
    client = server.client()
    client.put_object(Bucket=BUCKET, Key=KEY, Body=b"other")
    client.put_object(Bucket=BUCKET, Key=beside, Body=b"yet other")
    failure = failure_of(S3Destination(server.settings()), file)
    assert (failure.error_class, failure.scope) == ("conflict", FailureScope.FILE)
    assert failure.permanent
    assert beside in failure.message
    assert (server.read(KEY), server.read(beside)) == (b"other", b"yet other")


def test_without_our_metadata_the_etag_tells(server: S3Server, tmp_path: Path) -> None:
    server.client().put_object(Bucket=BUCKET, Key=KEY, Body=b"from another program")
    destination = S3Destination(server.settings(ladder_download=False))
    same = destination.store(content(tmp_path, b"from another program"), KEY, GO_ON)
    assert isinstance(same, AlreadyStored)
    assert same.evidence == "same MD5 as its ETag"
    assert same.receipt.store_check is StoreCheck.ETAG
    other = destination.store(content(tmp_path, b"from another recorder"[:20]), KEY, GO_ON)
    assert other.receipt.conflict


def test_a_store_that_lost_its_metadata_is_told_by_the_etag(tmp_path: Path) -> None:
    with running("rclone", tmp_path / "own") as server:
        file = content(tmp_path, os.urandom(11 * MIB))
        in_parts(server).store(file, KEY, GO_ON)
        assert not server.capabilities.keeps_metadata_over_restart
        server.restart()
        assert server.client().head_object(Bucket=BUCKET, Key=KEY)["Metadata"] == {}
        outcome = in_parts(server).store(file, KEY, GO_ON)
    assert isinstance(outcome, AlreadyStored)
    assert outcome.evidence == "same MD5 as its ETag"


def _upload_like_another_program(server: S3Server, data: bytes, *sizes: int) -> None:
    """Upload in parts of these sizes; the last of them is repeated to the end."""
    client = server.client()
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=KEY)["UploadId"]
    parts: list[Any] = []
    start = 0
    while start < len(data):
        number = len(parts) + 1
        size = sizes[min(number, len(sizes)) - 1]
        part = data[start : start + size]
        answer = client.upload_part(
            Bucket=BUCKET, Key=KEY, UploadId=upload, PartNumber=number, Body=part
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        start += size
    client.complete_multipart_upload(
        Bucket=BUCKET, Key=KEY, UploadId=upload, MultipartUpload={"Parts": parts}
    )


@pytest.mark.parametrize("part_bytes", [5 * MIB, 7 * MIB], ids=["our parts", "another's parts"])
def test_a_multipart_etag_is_made_again_from_the_file(
    server: S3Server, tmp_path: Path, part_bytes: int
) -> None:
    data = os.urandom(12 * MIB)
    _upload_like_another_program(server, data, part_bytes)
    of_parts = server.capabilities.etag_of_parts
    known = not of_parts or part_bytes == 5 * MIB or server.capabilities.tells_part_sizes
    outcome = in_parts(server, ladder_download=not known).store(content(tmp_path, data), KEY, GO_ON)
    assert isinstance(outcome, AlreadyStored)
    expected = "ETag of its parts" if of_parts else "MD5 as its ETag"
    assert outcome.evidence == f"same {expected if known else 'SHA-256 of its bytes, read back'}"
    changed = data[:-1] + bytes([data[-1] ^ 1])
    other = in_parts(server).store(content(tmp_path, changed), KEY, GO_ON)
    assert other.receipt.conflict


def test_what_no_digest_tells_is_downloaded_and_hashed(moto: MotoServer, tmp_path: Path) -> None:
    data = os.urandom(13 * MIB)
    _upload_like_another_program(moto, data, 5 * MIB, 8 * MIB)
    outcome = in_parts(moto).store(content(tmp_path, data), KEY, GO_ON)
    assert isinstance(outcome, AlreadyStored)
    assert outcome.evidence == "same SHA-256 of its bytes, read back"
    assert outcome.receipt.store_check is StoreCheck.READ_BACK


def test_what_no_digest_tells_counts_as_other_where_nothing_is_downloaded(
    moto: MotoServer, tmp_path: Path
) -> None:
    data = os.urandom(13 * MIB)
    _upload_like_another_program(moto, data, 5 * MIB, 8 * MIB)
    outcome = in_parts(moto, ladder_download=False).store(content(tmp_path, data), KEY, GO_ON)
    assert outcome.receipt.conflict
    assert moto.read(outcome.receipt.object_key) == data


def test_metadata_alone_is_not_believed_against_the_etag(server: S3Server, tmp_path: Path) -> None:
    """An object that was damaged after its metadata was fixed must never count as stored."""
    file = content(tmp_path, b"what we sent")
    server.client().put_object(
        Bucket=BUCKET, Key=KEY, Body=b"what was kep", Metadata={"sha256": file.sha256.hex()}
    )
    outcome = S3Destination(server.settings()).store(file, KEY, GO_ON)
    assert isinstance(outcome, Stored)
    assert outcome.receipt.conflict
    assert server.read(outcome.receipt.object_key) == b"what we sent"


def test_etags_of_kms_objects_are_never_taken_for_digests(moto: MotoServer, tmp_path: Path) -> None:
    destination = S3Destination(moto.settings(sse="aws:kms"))
    file = content(tmp_path, b"sealed")
    stored = destination.store(file, KEY, GO_ON)
    assert stored.receipt.store_check is StoreCheck.NONE
    again = destination.store(file, KEY, GO_ON)
    assert isinstance(again, AlreadyStored)
    assert again.evidence == "same SHA-256 in its metadata"


@pytest.mark.parametrize("size", [4, 11 * MIB], ids=["one put", "parts"])
def test_a_key_taken_between_look_and_put_is_never_overwritten(
    moto: MotoServer, tmp_path: Path, size: int
) -> None:
    """Somebody else stores other content after our HEAD: the condition on the put holds."""
    assert moto.capabilities.conditional_put
    ours, theirs = os.urandom(size), os.urandom(size)
    destination = in_parts(moto, engine="boto3")
    look = destination._bucket.head

    def look_then_lose_the_race(key: str) -> Any:
        facts = look(key)
        if facts is None and key == KEY:
            moto.client().put_object(Bucket=BUCKET, Key=KEY, Body=theirs)
        return facts

    destination._bucket.head = look_then_lose_the_race  # type: ignore[method-assign]
    outcome = destination.store(content(tmp_path, ours), KEY, GO_ON)
    assert outcome.receipt.conflict
    assert moto.read(KEY) == theirs
    assert moto.read(outcome.receipt.object_key) == ours
    assert moto.uploads_in_progress() == []


def test_the_quick_way_leaves_a_key_that_was_taken_after_its_look(
    moto: MotoServer, tmp_path: Path
) -> None:
    ours, theirs = content(tmp_path, b"ours"), b"of others"
    steps = QuickFirst(moto.settings()).quick(ours, KEY)
    assert steps is not None
    lane = CurlLane(LaneSettings(most_connections=1))
    try:
        lane.start(0, next(steps))
        looked = answer_of(lane)
        assert looked.status == 404
        put = steps.send(looked)
        moto.client().put_object(Bucket=BUCKET, Key=KEY, Body=theirs)
        lane.start(1, put)
        with pytest.raises(StopIteration) as end:
            steps.send(answer_of(lane))
    finally:
        lane.close()
    assert end.value.value is None
    assert moto.read(KEY) == theirs


def test_many_threads_storing_one_content_under_one_key_store_it_once(
    own_server: S3Server, tmp_path: Path
) -> None:
    destination = S3Destination(own_server.settings())
    file = content(tmp_path, os.urandom(64 * 1024))
    outcomes: list[Stored | AlreadyStored] = []
    failures: list[str] = []

    def store() -> None:
        try:
            outcomes.append(destination.store(file, KEY, GO_ON))
        except FailureError as error:
            failures.append(error.failure.error_class)

    threads = [threading.Thread(target=store) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) + len(failures) == len(threads)
    assert {outcome.receipt.object_key for outcome in outcomes} == {KEY}
    if own_server.capabilities.conditional_put:
        assert sum(isinstance(outcome, Stored) for outcome in outcomes) == 1
    if own_server.capabilities.races_on_one_key:
        assert set(failures) <= {"server-error", "bad-answer"}
        own_server.restart()  # its view of the folder may be stale, the folder is not
    else:
        assert failures == []
    assert own_server.object_keys() == [KEY]
    assert own_server.read(KEY) == file.path.read_bytes()


def test_many_threads_storing_many_files_store_each_once(server: S3Server, tmp_path: Path) -> None:
    destination = S3Destination(server.settings())
    files = {
        f"C1/{n % 4}/{n}.wav": content(tmp_path, f"recording {n}".encode(), str(n))
        for n in range(120)
    }
    # A file in each folder first: rclone answers 500 to some of several that make it together.
    outcomes = [destination.store(files[key], key, GO_ON) for key in list(files)[:4]]
    with ThreadPoolExecutor(15) as pool:
        rest = list(files)[4:]
        outcomes += pool.map(lambda key: destination.store(files[key], key, GO_ON), rest)
    assert all(isinstance(outcome, Stored) for outcome in outcomes)
    assert [outcome.receipt.object_key for outcome in outcomes] == list(files)
    assert sorted(server.object_keys()) == sorted(files)
    assert all(server.read(key) == file.path.read_bytes() for key, file in files.items())


# --- the project's trouble ----------------------------------------------------------------


def test_a_wrong_secret_is_the_projects_trouble(own_server: S3Server, tmp_path: Path) -> None:
    if isinstance(own_server, MotoServer):
        own_server.check_signatures()
    right = S3Destination(own_server.settings())
    right.store(content(tmp_path, b"x"), "right.wav", GO_ON)
    wrong = "W" * 40
    destination = S3Destination(own_server.settings(secret_access_key=wrong))
    failure = failure_of(destination, content(tmp_path, b"y"))
    assert (failure.error_class, failure.scope) == ("credentials-refused", FailureScope.PROJECT)
    assert wrong not in failure.message
    assert trouble_found(destination).error_class == "credentials-refused"


def test_mended_credentials_are_read_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running("rclone", tmp_path / "own") as server:
        profile = tmp_path / "profile"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
        settings = server.settings(access_key_id=None, secret_access_key=None, aws_profile="field")
        destination = S3Destination(settings)
        file = content(tmp_path, b"x")
        assert failure_of(destination, file).error_class == "no-credentials"
        lines = f"[field]\naws_access_key_id = {server.access_key}\naws_secret_access_key = "
        profile.write_text(f"{lines}mistyped\n")
        assert failure_of(destination, file).error_class == "credentials-refused"
        profile.write_text(f"{lines}{server.secret_key}\n")
        assert isinstance(destination.store(file, KEY, GO_ON), Stored)


def test_no_credentials_at_all_is_the_projects_trouble(server: S3Server, tmp_path: Path) -> None:
    settings = server.settings(access_key_id=None, secret_access_key=None)
    failure = failure_of(S3Destination(settings), content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("no-credentials", FailureScope.PROJECT)


def test_a_missing_bucket_is_the_projects_trouble(server: S3Server, tmp_path: Path) -> None:
    destination = S3Destination(server.settings(bucket_name="not-made-yet"))
    failure = failure_of(destination, content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("bucket-missing", FailureScope.PROJECT)
    assert "not-made-yet" in failure.message
    assert trouble_found(destination).error_class == "bucket-missing"


@pytest.mark.parametrize(
    ("endpoint_url", "bucket_name"),
    [("not an address", BUCKET), (None, "Not A Bucket!")],
    ids=["endpoint", "bucket"],
)
def test_an_impossible_setting_is_the_projects_trouble(
    server: S3Server, tmp_path: Path, endpoint_url: str | None, bucket_name: str
) -> None:
    changes = {"endpoint_url": endpoint_url} if endpoint_url else {"bucket_name": bucket_name}
    failure = failure_of(S3Destination(server.settings(**changes)), content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("configuration", FailureScope.PROJECT)


# --- the destination's trouble ------------------------------------------------------------


def test_a_server_that_is_down_is_the_destinations_trouble(
    server: S3Server, tmp_path: Path
) -> None:
    destination = S3Destination(server.settings(endpoint_url=f"http://127.0.0.1:{closed_port()}"))
    failure = failure_of(destination, content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("connect", FailureScope.DESTINATION)
    assert trouble_found(destination).scope is FailureScope.DESTINATION


def test_a_name_that_nobody_knows_is_the_destinations_trouble(
    server: S3Server, tmp_path: Path
) -> None:
    destination = S3Destination(server.settings(endpoint_url="http://store.invalid"))
    failure = failure_of(destination, content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("dns", FailureScope.DESTINATION)


def test_https_where_the_server_speaks_http_is_the_destinations_trouble(
    server: S3Server, tmp_path: Path
) -> None:
    address = server.endpoint_url.replace("http://", "https://")
    failure = failure_of(
        S3Destination(server.settings(endpoint_url=address)), content(tmp_path, b"x")
    )
    assert (failure.error_class, failure.scope) == ("tls", FailureScope.DESTINATION)


def test_a_dead_proxy_is_the_destinations_trouble(server: S3Server, tmp_path: Path) -> None:
    proxy = f"http://user:hush-hush@127.0.0.1:{closed_port()}"
    failure = failure_of(S3Destination(server.settings(proxy=proxy)), content(tmp_path, b"x"))
    assert (failure.error_class, failure.scope) == ("proxy", FailureScope.DESTINATION)
    assert "hush-hush" not in failure.message


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    outcome = S3Destination(server.settings()).store(content(tmp_path, b"x"), KEY, GO_ON)
    assert isinstance(outcome, Stored)


def test_a_server_that_stops_answering_is_the_destinations_trouble(
    own_server: S3Server, tmp_path: Path
) -> None:
    destination = S3Destination(
        own_server.settings(connect_timeout_seconds=1.0, read_timeout_seconds=1.0)
    )
    file = content(tmp_path, b"x")
    destination.store(content(tmp_path, b"before", "before"), "before.wav", GO_ON)
    own_server.freeze()
    failure = failure_of(destination, file)
    own_server.thaw()
    assert failure.scope is FailureScope.DESTINATION
    assert failure.error_class in {"timeout", "connect-timeout"}
    assert isinstance(destination.store(file, KEY, GO_ON), Stored), "it goes on by itself"


class _During:
    """A stop flag that is asked all along, and does something at the n-th question."""

    def __init__(self, after: int, act: Any) -> None:
        self._left = after
        self._act = act
        self._stopped = False

    def is_set(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self._stopped = bool(self._act())
        return self._stopped


@pytest.mark.parametrize("parts", [False, True], ids=["one put", "parts"])
def test_a_server_killed_in_mid_request_is_the_destinations_trouble(
    own_server: S3Server, tmp_path: Path, parts: bool
) -> None:
    threshold = 10 * MIB if parts else 64 * MIB
    destination = in_parts(own_server, multipart_threshold_bytes=threshold)
    file = content(tmp_path, os.urandom(12 * MIB))
    kill = _During(20, own_server.kill)
    with pytest.raises(FailureError) as raised:
        destination.store(file, KEY, kill)
    assert raised.value.failure.scope is FailureScope.DESTINATION
    assert raised.value.failure.error_class in {"connection-lost", "connect"}
    own_server.start()
    own_server.make_bucket()
    outcome = in_parts(own_server, multipart_threshold_bytes=threshold).store(file, KEY, GO_ON)
    assert not outcome.receipt.conflict
    assert own_server.read(KEY) == file.path.read_bytes()


# --- the file's trouble -------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 9 * MIB, 12 * MIB], ids=["memory", "streamed", "parts"])
@pytest.mark.parametrize("how", ["other bytes", "shorter"])
def test_a_file_that_changed_after_it_was_hashed_is_not_stored(
    server: S3Server, tmp_path: Path, size: int, how: str
) -> None:
    data = os.urandom(size)
    file = content(tmp_path, data)
    changed = data[:-1] + bytes([data[-1] ^ 1]) if how == "other bytes" else data[:-1]
    file.path.write_bytes(changed)
    failure = failure_of(in_parts(server), file)
    assert (failure.error_class, failure.scope) == ("changed", FailureScope.FILE)
    assert not failure.permanent
    assert server.object_keys() == []
    assert server.uploads_in_progress() == []


@pytest.mark.parametrize("parts", [False, True], ids=["one put", "parts"])
def test_a_file_that_changes_while_it_is_sent_is_not_stored(
    server: S3Server, tmp_path: Path, parts: bool
) -> None:
    file = content(tmp_path, os.urandom(12 * MIB))
    destination = in_parts(server, multipart_threshold_bytes=10 * MIB if parts else 64 * MIB)

    def scribble() -> None:
        with file.path.open("r+b") as opened:
            opened.seek(-1, os.SEEK_END)
            last = opened.read(1)
            opened.seek(-1, os.SEEK_END)
            opened.write(bytes([last[0] ^ 1]))

    # Asked for the 20th time, one put is being sent (it was read once before, to be signed),
    # and so is a part.
    with pytest.raises(FailureError) as raised:
        destination.store(file, KEY, _During(20, scribble))
    assert raised.value.failure.error_class == "changed"
    assert server.object_keys() == []
    assert server.uploads_in_progress() == []


@pytest.mark.parametrize("parts", [False, True], ids=["one put", "parts"])
def test_stopping_ends_a_large_upload_at_once_and_leaves_nothing(
    server: S3Server, tmp_path: Path, parts: bool
) -> None:
    file = content(tmp_path, os.urandom(12 * MIB))
    destination = in_parts(server, multipart_threshold_bytes=10 * MIB if parts else 64 * MIB)
    stop = _During(20, lambda: True)
    with pytest.raises(InterruptedAttemptError):
        destination.store(file, KEY, stop)
    assert stop.is_set()
    assert server.object_keys() == []
    assert server.uploads_in_progress() == []
    assert isinstance(destination.store(file, KEY, GO_ON), Stored)


def test_a_stop_before_the_first_request_sends_nothing(tmp_path: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    with ScriptedServer(lambda _: Reply()) as scripted, pytest.raises(InterruptedAttemptError):
        S3Destination(scripted.settings()).store(content(tmp_path, b"x"), KEY, stopped)
    assert scripted.asked == []


@pytest.mark.parametrize("size", [1000, 9 * MIB, 12 * MIB], ids=["memory", "streamed", "parts"])
@pytest.mark.parametrize(
    ("number", "error_class", "scope"),
    [
        (errno.EIO, "read-error", FailureScope.FILE),
        (errno.EACCES, "unreadable", FailureScope.FILE),
        (errno.EMFILE, "descriptors", FailureScope.STATION),
    ],
)
def test_a_disk_that_fails_is_not_taken_for_the_network(
    server: S3Server, size: int, number: int, error_class: str, scope: FailureScope
) -> None:
    failure = failure_of(in_parts(server), BrokenContent(number, size))
    assert (failure.error_class, failure.scope) == (error_class, scope)
    assert os.strerror(number) in failure.message
    assert server.object_keys() == []


def test_a_file_beyond_s3s_limit_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    file = content(tmp_path, b"x")
    file.size_bytes = 5 * 1024**4 + 1
    with ScriptedServer(lambda _: Reply()) as scripted:
        failure = failure_of(S3Destination(scripted.settings()), file)
    assert (failure.error_class, failure.permanent) == ("too-large", True)
    assert scripted.asked == []


# --- where the store is -------------------------------------------------------------------


def test_the_endpoint_of_the_environment_counts(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
    destination = S3Destination(server.settings(endpoint_url=None))
    outcome = destination.store(content(tmp_path, b"x"), KEY, GO_ON)
    assert outcome.receipt.store_check is StoreCheck.ETAG
    assert server.read(KEY) == b"x"
