"""Large files go in parts: whatever interrupts them, no finished part is sent again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from between import GoBetween, Wire
from daemon import Station, age, drop_files, sha256, wait_until

from sensordrop.adapters.s3 import S3Settings

MIB = 1024 * 1024
PART_BYTES = S3Settings(bucket_name="any").minimum_part_bytes
PARTS = 8
PATH = "950349/20250909_092000.WAV"
SEED = int(os.environ.get("SENSORDROP_TEST_SEED", "20251121"))


def recording(seed: int = SEED) -> bytes:
    """Give a recording of eight parts, the last one shorter."""
    return random.Random(seed).randbytes((PARTS - 1) * PART_BYTES + 3 * MIB + 1)


class AtPart:
    """Lets so many parts pass, and holds the next ones until it is told to go on."""

    def __init__(self, parts: int) -> None:
        self.left = parts
        self.held = 0
        self.go_on = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> None:
        if method != "PUT" or not path.endswith(PATH):
            return
        with self._lock:
            self.left -= 1
            passes = self.left >= 0
            self.held += not passes
        if not passes:
            self.go_on.wait(60)


@pytest.fixture(params=["moto", "rclone"])
def large(request, make_station) -> Iterator[tuple[Station, GoBetween, AtPart]]:
    """Give a station whose one large file gets stuck after three parts."""
    server = request.getfixturevalue(request.param)
    at_part = AtPart(3)
    with GoBetween(server.endpoint_url, refuse=at_part) as between:
        station = make_station(server)
        station.configure()
        station.delivery(endpoint_url=between.endpoint_url)
        yield station, between, at_part
        at_part.go_on.set()


def get_stuck(station: Station, between: GoBetween, at_part: AtPart, content: bytes) -> None:
    """Drop a recording and wait until three of its parts are stored and written down."""
    drop_files(station.drop, {PATH: content})
    age(station.drop)
    station.start()
    station.wait_for(
        lambda: len(between.parts()) == 3 and at_part.held >= 2 and len(landed(station)) == 3,
        what="three parts are stored, others under way",
    )


def landed(station: Station) -> list[int]:
    return [row["number"] for row in station.ledger.rows("SELECT number FROM multipart_parts")]


def remembered(station: Station) -> int:
    return len(station.ledger.rows("SELECT id FROM multipart_uploads"))


def begun(between: GoBetween) -> int:
    return sum(each.method == "POST" and "uploads" in each.query for each in between.requests)


def unfinished(station: Station) -> list[str]:
    client = station.server.client()
    found = client.list_multipart_uploads(Bucket=station.bucket.name).get("Uploads", [])
    return [each["Key"] for each in found]


def is_stored(station: Station) -> bool:
    row = station.ledger.current(PATH)
    return row is not None and row["state"] == "uploaded"


def test_killed_in_the_middle_it_goes_on_with_the_parts_that_are_missing(large):
    station, between, at_part = large
    content = recording()
    get_stuck(station, between, at_part, content)
    station.daemon.kill9()
    at_part.go_on.set()
    wait_until(lambda: between.busy == 0, what="what was under way has arrived")
    arrived = between.parts()
    station.start()
    station.wait_for(lambda: is_stored(station), what="the file is stored")
    assert between.parts() == list(range(1, PARTS + 1)), "every part was sent once"
    assert len(arrived) >= 3
    assert begun(between) == 1
    assert station.bucket.digests() == {f"C1/{PATH}": sha256(content)}
    assert remembered(station) == 0
    resumed = station.daemon.logs("upload_resumed")
    assert [told["parts_there"] for told in resumed] == [len(arrived)]


def test_stopped_in_the_middle_it_stops_at_once_and_goes_on_at_the_next_start(large):
    station, between, at_part = large
    content = recording()
    get_stuck(station, between, at_part, content)
    began = time.monotonic()
    assert station.daemon.stop() == 0
    assert time.monotonic() - began < 20, "two seconds on a machine with nothing else to do"
    assert station.ledger.states() == {PATH: "pending"}
    assert station.ledger.current(PATH)["attempts"] == 0
    at_part.go_on.set()
    wait_until(lambda: between.busy == 0, what="what was under way has arrived or ended")
    station.start()
    station.wait_for(lambda: is_stored(station), what="the file is stored")
    assert set(between.parts()) == set(range(1, PARTS + 1))
    assert begun(between) == 1
    assert station.bucket.digests() == {f"C1/{PATH}": sha256(content)}


def test_a_file_that_changed_meanwhile_starts_over(large):
    station, between, at_part = large
    get_stuck(station, between, at_part, recording())
    station.daemon.kill9()
    at_part.go_on.set()
    wait_until(lambda: between.busy == 0, what="what was under way has arrived")
    other = recording(SEED + 1)
    drop_files(station.drop, {PATH: other})
    age(station.drop)
    station.start()
    station.wait_for(lambda: is_stored(station), what="the new version is stored")
    assert station.bucket.digests() == {f"C1/{PATH}": sha256(other)}
    assert begun(between) == 2
    assert station.daemon.stop() == 0
    station.start()
    station.wait_for(lambda: remembered(station) == 0, what="the old upload was thrown away")
    assert unfinished(station) == []


def test_a_store_that_lost_the_upload_is_given_it_anew(large):
    station, between, at_part = large
    content = recording()
    get_stuck(station, between, at_part, content)
    station.daemon.kill9()
    at_part.go_on.set()
    wait_until(lambda: between.busy == 0, what="what was under way has arrived")
    remote_id = station.ledger.rows("SELECT remote_id FROM multipart_uploads")[0]["remote_id"]
    station.server.client().abort_multipart_upload(
        Bucket=station.bucket.name, Key=f"C1/{PATH}", UploadId=remote_id
    )
    station.start()
    station.wait_for(lambda: is_stored(station), what="the file is stored")
    assert begun(between) == 2
    assert station.bucket.digests() == {f"C1/{PATH}": sha256(content)}


def test_uploads_of_others_are_left_alone(make_station, moto):
    """Ours that nobody goes on with is thrown away; that of another tool beside it is not."""
    station = make_station(moto)
    station.delivery()
    client = moto.client()
    theirs = client.create_multipart_upload(Bucket=station.bucket.name, Key=f"C1/{PATH}")
    drop_files(station.drop, {PATH: b"small"})
    age(station.drop)
    station.start()
    station.wait_for(lambda: is_stored(station), what="the file is stored")
    assert station.daemon.stop() == 0
    ours = client.create_multipart_upload(Bucket=station.bucket.name, Key=f"C1/{PATH}")
    station.ledger.rows(
        "INSERT INTO multipart_uploads (upload_id, delivery_id, destination_id, object_key,"
        " remote_id, sha256, size_bytes, part_bytes) SELECT id, delivery_id, destination_id,"
        " object_key, %s, sha256, size_bytes, 5 FROM file_uploads RETURNING id",
        ours["UploadId"],
    )
    station.start()
    station.wait_for(lambda: remembered(station) == 0, what="ours was thrown away")
    left = client.list_multipart_uploads(Bucket=station.bucket.name)["Uploads"]
    assert [each["UploadId"] for each in left] == [theirs["UploadId"]]


def test_a_large_file_on_a_slow_wire_stops_at_once(make_station, rclone):
    """One request of 40 MiB that would take minutes: a stop does not wait for it."""
    with Wire(rclone.endpoint_url) as wire:
        wire.bytes_per_second = 200_000
        station = make_station(rclone)
        station.delivery(endpoint_url=wire.endpoint_url)
        drop_files(station.drop, {PATH: os.urandom(40 * MIB)})
        age(station.drop)
        station.start()
        station.wait_for(lambda: wire.sent_bytes > 300_000, what="the file is on its way")
        began = time.monotonic()
        station.daemon.signal(signal.SIGTERM)
        assert station.daemon.wait_for_end(30) == 0
        assert time.monotonic() - began < 20, "two seconds on a machine with nothing else to do"
        assert station.ledger.states() == {PATH: "pending"}
