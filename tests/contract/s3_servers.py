"""Real S3 servers on loopback for tests, a scripted one that lies, and what the tests store.

Every server is a process of its own that the test ends by its id; nothing of the user's is read.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, Self

import boto3
import pytest
from botocore.config import Config

from sensordrop.adapters.s3 import S3Settings
from sensordrop.ports.reading import Pieces

BUCKET = "field-data"
ACCESS_KEY = "LOCALTESTKEY"
SECRET_KEY = "local-test-secret-that-must-never-be-shown"
START_SECONDS = 60.0


# --- what is stored -----------------------------------------------------------------------


@dataclass
class FileContent:
    """A file as the engine hands it to a destination: hashed once, then opened again and again."""

    path: Path
    size_bytes: int = field(init=False)
    sha256: bytes = field(init=False)
    md5: bytes = field(init=False)
    pieces: Pieces | None = None
    memory: bytes | None = None

    def __post_init__(self) -> None:
        data = self.path.read_bytes()
        self.size_bytes = len(data)
        self.sha256 = hashlib.sha256(data).digest()
        self.md5 = hashlib.md5(data, usedforsecurity=False).digest()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        with self.path.open("rb") as file:
            yield file


@dataclass
class BrokenContent:
    """A content whose file can be opened but not read: the disk says why."""

    number: int
    size_bytes: int
    sha256: bytes = bytes(32)
    md5: bytes = bytes(16)
    pieces: Pieces | None = None
    memory: bytes | None = None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        yield _BrokenFile(self.number)  # type: ignore[misc]


@dataclass
class _BrokenFile:
    number: int

    def seek(self, offset: int) -> int:
        return offset

    def read(self, amount: int) -> bytes:
        raise OSError(self.number, os.strerror(self.number))


# --- servers ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a server is known to do, where the servers differ. Each difference is asserted."""

    conditional_put: bool
    """Honours `If-None-Match: *`."""
    conditional_complete: bool
    """Honours it also where parts become an object."""
    checks_payload_hash: bool
    """Refuses a body that contradicts the SHA-256 that its signature covers."""
    races_on_one_key: bool
    """Several puts to one key at the same time: may fail one, and see the object too late."""
    keeps_metadata_over_restart: bool
    etag_of_parts: bool
    """Shows the ETag of a multipart object as that of its parts, not as a plain MD5."""
    tells_part_sizes: bool
    """Says how large the parts were that a multipart object was made of."""


class S3Server:
    """One server process that keeps objects. Subclasses say how it is started."""

    capabilities: Capabilities
    ready: re.Pattern[str]
    access_key = ACCESS_KEY
    secret_key = SECRET_KEY

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.endpoint_url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[tuple[str, str], Any] = {}

    def command(self, address: str) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Give the server a home of its own, so that it reads nothing of the user's."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}

    def start(self, port: int = 0) -> Self:
        log = self.folder / "server.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                self.command(f"127.0.0.1:{port}"),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment(),
                cwd=self.folder,
            )
        give_up = time.monotonic() + START_SECONDS
        while True:
            said = log.read_text(errors="replace")
            if match := self.ready.search(said):
                self.endpoint_url = match.group(1).rstrip("/")
                return self
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise RuntimeError(f"the S3 server did not start: {said}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the process as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Make the server a black hole: its connections stay, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self._process.pid}/task")
        end = time.monotonic() + START_SECONDS
        # The signal is on its way: on a busy machine a thread may still answer somebody.
        while not all(_stopped(thread) for thread in threads.iterdir()):
            assert time.monotonic() < end, "the server did not stop"
            time.sleep(0.01)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def settings(self, **changes: Any) -> S3Settings:
        """Give settings for a destination on this server."""
        chosen: dict[str, Any] = {
            "bucket_name": BUCKET,
            "endpoint_url": self.endpoint_url,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            "aws_region": "us-east-1",
        }
        return S3Settings(**(chosen | changes))

    def client(self) -> Any:
        """Give a plain client to look at the bucket with, independent of the code under test."""
        who = (self.endpoint_url, self.access_key)
        if who not in self._clients:
            self._clients[who] = self._make_client()
        return self._clients[who]

    def _make_client(self) -> Any:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def make_bucket(self) -> None:
        """Make the bucket, unless it outlived the server."""
        client = self.client()
        if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)

    def object_keys(self) -> list[str]:
        answer = self.client().list_objects_v2(Bucket=BUCKET)
        return [entry["Key"] for entry in answer.get("Contents", [])]

    def uploads_in_progress(self) -> list[str]:
        client = self.client()
        try:
            answer = client.list_multipart_uploads(Bucket=BUCKET)
        except client.exceptions.NoSuchUpload:
            return []  # rclone's word for an empty list
        return [entry["Key"] for entry in answer.get("Uploads", [])]

    def read(self, key: str) -> bytes:
        return self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()


def _stopped(thread: Path) -> bool:
    try:
        state = (thread / "stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return True  # it ended meanwhile
    return state in "TtZX"


class RcloneServer(S3Server):
    """rclone's S3 server: plain files in a folder, signatures checked, metadata in memory."""

    ready = re.compile(r"Starting s3 server on \[?(http://[0-9.:]+)")
    capabilities = Capabilities(
        conditional_put=False,
        conditional_complete=False,
        checks_payload_hash=False,
        races_on_one_key=True,
        keeps_metadata_over_restart=False,
        etag_of_parts=False,
        tells_part_sizes=False,
    )

    def command(self, address: str) -> list[str]:
        configuration = self.folder / "rclone.conf"
        configuration.touch()
        (self.folder / "objects").mkdir(exist_ok=True)
        return [
            str(Path(sysconfig.get_path("scripts")) / "rclone"),
            "serve",
            "s3",
            "--config",
            str(configuration),
            "--cache-dir",
            str(self.folder / "cache"),
            "--addr",
            address,
            "--auth-key",
            f"{ACCESS_KEY},{SECRET_KEY}",
            # By itself it writes control characters under other names than it reads them.
            "--local-encoding=Slash,Dot,Ctl,Del",
            str(self.folder / "objects"),
        ]


class MotoServer(S3Server):
    """moto: objects in memory, nothing checked unless authentication is switched on."""

    ready = re.compile(r"Running on (http://127[0-9.:]+)")
    capabilities = Capabilities(
        conditional_put=True,
        conditional_complete=True,
        checks_payload_hash=False,
        races_on_one_key=False,
        keeps_metadata_over_restart=False,
        etag_of_parts=True,
        tells_part_sizes=True,
    )

    def command(self, address: str) -> list[str]:
        host, _, port = address.partition(":")
        return [sys.executable, "-m", "moto.server", "-H", host, "-p", port]

    def check_signatures(self) -> None:
        """Make a user with a key of its own, and refuse everybody else from now on."""
        iam = boto3.session.Session().client(
            "iam",
            endpoint_url=self.endpoint_url,
            aws_access_key_id="any",
            aws_secret_access_key="any",
            region_name="us-east-1",
        )
        iam.create_user(UserName="uploader")
        policy = (
            '{"Version": "2012-10-17", "Statement": '
            '[{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        )
        iam.put_user_policy(UserName="uploader", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="uploader")["AccessKey"]
        self.access_key, self.secret_key = key["AccessKeyId"], key["SecretAccessKey"]
        request = urllib.request.Request(
            f"{self.endpoint_url}/moto-api/reset-auth",
            data=b"0",
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == http.client.OK


def _ceph(folder: Path) -> S3Server:
    from ceph_servers import CephServer  # it is built on what stands here

    return CephServer(folder)


SERVERS: dict[str, Callable[[Path], S3Server]] = {
    "ceph": _ceph,
    "moto": MotoServer,
    "rclone": RcloneServer,
}
KINDS = [pytest.param(kind, marks=pytest.mark.ceph if kind == "ceph" else ()) for kind in SERVERS]
"""All of them, as parameters of a fixture. Ceph's need its packages: `make test-ceph`."""


@contextmanager
def running(kind: str, folder: Path) -> Iterator[S3Server]:
    """Run a server with an empty bucket."""
    server = SERVERS[kind](folder)
    try:
        server.start()
        server.make_bucket()
        yield server
    finally:
        server.kill()


# --- a server that lies -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the scripted server answers. `drop`: break the connection instead."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that the scripted server got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ScriptedServer:
    """Answers every request as the test's function says, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                asked = Asked(
                    method=self.command,
                    path=self.path,
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(length),
                )
                outer.asked.append(asked)
                reply = answer(asked)
                if reply.drop:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                self.send_response_only(reply.status)
                usual = {
                    "Content-Length": str(len(reply.body)),
                    "Date": self.date_time_string(),
                }
                sized = usual | reply.headers
                for name, value in sized.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak HTTPS from now on."""
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.endpoint_url = self.endpoint_url.replace("http://", "https://")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def settings(self, **changes: Any) -> S3Settings:
        chosen: dict[str, Any] = {
            "bucket_name": BUCKET,
            "endpoint_url": self.endpoint_url,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }
        return S3Settings(**(chosen | changes))


def error_xml(code: str, message: str = "as scripted") -> bytes:
    """Give the body of an S3 error."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
        f"<Message>{message}</Message></Error>"
    ).encode()


_KEPT_CLOSED: list[socket.socket] = []


def closed_port() -> int:
    """Give a port at which nobody listens, nor will: it stays ours, or a test beside might get it."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    _KEPT_CLOSED.append(held)
    return int(held.getsockname()[1])
