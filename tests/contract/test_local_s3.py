"""The local S3 server, with a real rclone and real kills: plain files in, the same bytes out."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from sensordrop.adapters.local_s3 import LocalS3
from sensordrop.adapters.processes import EmbeddedServerError
from sensordrop.core.keys import path_text

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
PATIENCE_SECONDS = 60.0
BUCKET = "bucket-a"

USER_PROGRAM = """
import sys
from pathlib import Path
from sensordrop.adapters.local_s3 import LocalS3

server = LocalS3(Path(sys.argv[1], "s3"), Path(sys.argv[1], "objects"))
server.start()
server.create_bucket("bucket-a")
print("ready", flush=True)
sys.stdin.read()
server.stop()
print("stopped", flush=True)
"""

ODD_NAMES = {
    "newline": b"a\nb.wav",
    "tab": b"a\tb.wav",
    "carriage return": b"a\rb.wav",
    "control character": b"a\x01b.wav",
    "backslash": b"a\\b.wav",
    "percent": b"a%25b.wav",
    "hash and question mark": b"a#b?c.wav",
    "invalid UTF-8": b"\xff\xfe.wav",
    "text that looks like an escape": b"\\xff.wav",
    "255 bytes": b"n" * 251 + b".wav",
    "trailing space": b"a ",
    "leading space": b" a",
    "trailing dot": b"a.",
    "three dots": b"...",
    "leading dash": b"-a.wav",
    "plus": b"a+b c.wav",
    "combining accent": "e\u0301.wav".encode(),
    "composed accent": "\u00e9.wav".encode(),
    "windows' forbidden": b'a:b*c|d"<>',
    "signs of URLs": b"a&b=c;d,e@f$g'h!(i)",
    "full-width full stop": "\uff0e".encode(),
    "signs that rclone writes for others": "a\u240a\u201b.wav".encode(),
    "emoji": "\U0001f600.jpg".encode(),
}


class Child:
    """Another program that uses the server."""

    def __init__(self, folder: Path, *python: str) -> None:
        self.process = subprocess.Popen(
            [*(python or (sys.executable,)), "-c", USER_PROGRAM, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd="/",
        )

    def says(self) -> str:
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        self.process.stdin.close()
        assert self.says() == "stopped"
        self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                stream.close()


@contextmanager
def child_using(folder: Path, *python: str) -> Iterator[Child]:
    child = Child(folder, *python)
    try:
        assert child.says() == "ready"
        yield child
    finally:
        child.kill()


def eventually(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def rclones_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if os.fsencode(folder) in words and b"rclone" in words.split(b"\0")[0]:
                    found.append(int(entry.name))
    return found


def local_s3(folder: Path, **more) -> LocalS3:
    return LocalS3(folder / "s3", folder / "objects", **more)


def client_of(server: LocalS3, **more):
    settings = {
        "endpoint_url": server.endpoint_url,
        "aws_access_key_id": server.access_key,
        "aws_secret_access_key": server.secret_key,
        "region_name": "us-east-1",
        "config": Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"max_attempts": 1},
        ),
    }
    return boto3.client("s3", **(settings | more))


def read(client, key: str) -> bytes:
    return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def all_keys(client, prefix: str = "") -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for pid in rclones_of(tmp_path):  # only what a failed test left behind
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[LocalS3]:
    with local_s3(tmp_path_factory.mktemp("s3")) as server:
        server.create_bucket(BUCKET)
        yield server


def test_an_object_is_a_plain_file_under_its_bucket_and_key(shared):
    body = os.urandom(1000)
    client_of(shared).put_object(Bucket=BUCKET, Key="C2/950349/a.WAV", Body=body)
    assert (shared.objects / BUCKET / "C2/950349/a.WAV").read_bytes() == body


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_odd_names_go_and_come_back(shared, name):
    client, key, body = client_of(shared), "odd/" + path_text(name), os.urandom(100)
    client.put_object(Bucket=BUCKET, Key=key, Body=body)
    assert read(client, key) == body
    head = client.head_object(Bucket=BUCKET, Key=key)
    assert head["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    assert head["ContentLength"] == len(body)
    assert key in all_keys(client, "odd/")
    assert (shared.objects / BUCKET / key).read_bytes() == body


def test_odd_names_are_still_there_when_the_server_looks_into_its_folders_anew(tmp_path):
    bodies = {"odd/" + path_text(name): os.urandom(50) for name in ODD_NAMES.values()}
    with LocalS3(tmp_path / "s3", tmp_path / "objects") as server:
        server.create_bucket(BUCKET)
        for key, body in bodies.items():
            client_of(server).put_object(Bucket=BUCKET, Key=key, Body=body)
    with LocalS3(tmp_path / "s3", tmp_path / "objects") as server:
        client = client_of(server)
        assert sorted(all_keys(client, "odd/")) == sorted(bodies)
        assert {key: read(client, key) for key in bodies} == bodies


def test_a_key_as_long_as_s3_allows_is_taken_even_where_every_byte_is_escaped(shared):
    client, key = client_of(shared), "/".join(["é" * 101] * 5) + "/" + "é" * 4 + "x"
    assert len(key.encode()) == 1024
    client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    assert read(client, key) == b"x"


def test_an_upload_in_parts_arrives_whole(shared):
    client, body = client_of(shared), os.urandom(13 << 20)
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    client.upload_fileobj(io.BytesIO(body), BUCKET, "parts.mp4", Config=parts)
    assert read(client, "parts.mp4") == body


def test_a_wrong_secret_and_no_secret_are_refused(shared):
    with pytest.raises(ClientError) as wrong:
        client_of(shared, aws_secret_access_key="wrong").list_buckets()
    assert wrong.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    place = urlsplit(shared.endpoint_url)
    connection = http.client.HTTPConnection(place.hostname, place.port)
    connection.request("GET", f"/{BUCKET}")
    assert connection.getresponse().status in {400, 403}
    connection.close()


def test_it_listens_on_the_loopback_address_only(shared):
    port = urlsplit(shared.endpoint_url).port
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_a_bucket_can_be_made_again_and_a_bad_name_is_refused(shared):
    client_of(shared).put_object(Bucket=BUCKET, Key="kept", Body=b"kept")
    shared.create_bucket(BUCKET)
    assert read(client_of(shared), "kept") == b"kept"
    with pytest.raises(EmbeddedServerError, match="bucket A can't be made"):
        shared.create_bucket("A")


def test_keys_are_private_to_the_user_and_not_on_the_command_line(shared):
    path = shared.directory / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (pid,) = rclones_of(shared.directory)
    assert shared.secret_key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_address_keys_and_objects_stay_from_start_to_start(folder):
    with local_s3(folder) as server:
        server.create_bucket(BUCKET)
        client_of(server).put_object(Bucket=BUCKET, Key="a", Body=b"first")
        first = (server.endpoint_url, server.access_key, server.secret_key)
    assert rclones_of(folder) == []
    with local_s3(folder) as server:
        assert (server.endpoint_url, server.access_key, server.secret_key) == first
        assert read(client_of(server), "a") == b"first"
    assert rclones_of(folder) == []


def test_a_port_that_another_program_took_is_left_to_it(folder):
    with local_s3(folder) as server:
        server.create_bucket(BUCKET)
        port = urlsplit(server.endpoint_url).port
    with socket.create_server(("127.0.0.1", port)), local_s3(folder) as server:
        assert urlsplit(server.endpoint_url).port != port
        assert client_of(server).list_buckets()["Buckets"][0]["Name"] == BUCKET


def test_the_users_rclone_settings_have_no_say(folder, monkeypatch):
    theirs = folder / "theirs.conf"
    theirs.write_text("[local]\ntype = alias\nremote = /nowhere\n")
    monkeypatch.setenv("RCLONE_CONFIG", str(theirs))
    monkeypatch.setenv("RCLONE_READ_ONLY", "true")
    with local_s3(folder) as server:
        server.create_bucket(BUCKET)
        client_of(server).put_object(Bucket=BUCKET, Key="a", Body=b"x")
    assert (folder / "objects" / BUCKET / "a").read_bytes() == b"x"


def test_the_first_of_two_users_leaves_the_server_to_the_second(folder):
    with child_using(folder) as child, local_s3(folder) as server:
        (serving,) = rclones_of(folder)
        child.leave()
        client_of(server).put_object(Bucket=BUCKET, Key="a", Body=b"x")
        assert rclones_of(folder) == [serving]
    assert rclones_of(folder) == []


def test_after_a_kill_of_the_only_user_the_next_one_adopts_the_server_and_ends_it(folder):
    with child_using(folder) as child:
        (orphan,) = rclones_of(folder)
        child.kill()
    with local_s3(folder) as server:
        assert rclones_of(folder) == [orphan]
        client_of(server).put_object(Bucket=BUCKET, Key="a", Body=b"x")
    assert rclones_of(folder) == []


def test_a_program_that_only_names_our_files_is_not_ended(folder):
    script = "import time; time.sleep(600)"
    named = ("--config", str(folder / "s3" / "rclone.conf"))
    stranger = subprocess.Popen([sys.executable, "-c", script, *named])
    try:
        with local_s3(folder) as server:
            server.create_bucket(BUCKET)
        assert rclones_of(folder) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def _put_endlessly(client, key: str) -> None:
    url = urlsplit(client.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": key}))
    connection = http.client.HTTPConnection(url.hostname, url.port)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    with suppress(OSError):  # ends when the server is killed
        while True:
            connection.send(b"x" * 65536)
            time.sleep(0.001)


def test_a_server_killed_within_uploads_shows_no_partial_object_and_cleans_up(folder):
    with local_s3(folder) as server:
        server.create_bucket(BUCKET)
        client = client_of(server)
        client.put_object(Bucket=BUCKET, Key="card/old.wav", Body=b"old")
        client.put_object(Bucket=BUCKET, Key="card/.rclone_temp_notes.txt", Body=b"a real name")
        threads = [
            threading.Thread(target=_put_endlessly, args=(client, key))
            for key in ("card/old.wav", "card/new.wav")
        ]
        for thread in threads:
            thread.start()
        card = folder / "objects" / BUCKET / "card"
        eventually(
            lambda: len([p for p in card.glob(".rclone_temp_put_*") if p.stat().st_size]) == 2,
            "the uploads did not begin",
        )
        assert all_keys(client) == ["card/old.wav"]
        (pid,) = rclones_of(folder)
        os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert len(list(card.glob(".rclone_temp_put_*"))) == 2
        server.ensure_running()
        assert sorted(path.name for path in card.iterdir()) == [
            ".rclone_temp_notes.txt",
            "old.wav",
        ]
        assert read(client_of(server), "card/old.wav") == b"old"
    assert rclones_of(folder) == []


@AS_ROOT
def test_an_ordinary_user_runs_it_and_kills_adopts_and_ends_it():
    nobody = pwd.getpwnam("nobody")
    switch = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "env")
    packages = "PYTHONPATH=" + os.pathsep.join(filter(None, sys.path))
    trial = "import sensordrop.adapters.local_s3 as module; module._find_rclone()"
    beside = "PATH=" + str(Path(sys.executable).parent) + ":/usr/bin:/bin"
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        command = (*switch, packages, beside, python)
        if subprocess.run([*command, "-c", trial], check=False, cwd="/").returncode == 0:
            break
    else:
        pytest.skip("no Python that nobody may run")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to others
        os.chown(name, nobody.pw_uid, nobody.pw_gid)
        folder = Path(name)
        with child_using(folder, *command) as child:
            (orphan,) = rclones_of(folder)
            assert Path(f"/proc/{orphan}").stat().st_uid == nobody.pw_uid
            child.kill()
        with child_using(folder, *command) as child:
            assert rclones_of(folder) == [orphan]
            child.leave()
        assert rclones_of(folder) == []
