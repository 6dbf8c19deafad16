"""An S3 server of our own that keeps objects as plain files: for the demo and `--local`.

It is rclone's (`rclone serve s3`), on a loopback port. `objects/<bucket>/<key>` is the object.
How several programs share the server and who ends it is told in `adapters.processes`.

What it does not do, as tried with rclone 1.75: it keeps user metadata in memory only, ignores
`If-None-Match`, and does not sync objects to the disk before it answers. It is a stand-in for a
bucket, no place to keep recordings.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import structlog
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sensordrop.adapters.processes import (
    CommandMark,
    EmbeddedServerError,
    EmbeddedServerInterruptedError,
    Launch,
    SharedServer,
    write_whole,
)
from sensordrop.ports.life import StopFlag

HOST = "127.0.0.1"
REGION = "us-east-1"
REQUEST_SECONDS = 5.0
"""Longest wait for an answer from our own machine."""
POLITE_SECONDS = 10.0
KILL_SECONDS = 10.0
LEFTOVER = re.compile(r"\.rclone_temp_(put|multipart)_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What rclone calls an upload that is not complete. Once it was killed nobody completes it."""
FOLDER_CACHE = "5s"
"""How long rclone trusts what it knows of a folder: people look into these, and change them."""
LOOK_SECONDS = 2.0
"""How often a program that uses the server sees whether it lives."""

log = structlog.get_logger()


class LocalS3(SharedServer):
    """The server that keeps its keys and its port in `directory` and the objects in `objects`."""

    def __init__(
        self,
        directory: Path,
        objects: Path,
        *,
        log: Callable[[str], None] | None = None,
        stop: StopFlag | None = None,
    ) -> None:
        """Prepare to use the server; nothing is touched before `start`. See `SharedServer`."""
        super().__init__(directory, log=log, stop=stop)
        self.objects = objects.resolve()

    @property
    def endpoint_url(self) -> str:
        """Where the server listens: the same from start to start, unless another program took
        the port meanwhile. Raises EmbeddedServerError before the first start.
        """
        return f"http://{HOST}:{self._remembered_port()}"

    @property
    def access_key(self) -> str:
        """The access key id, made once. Raises EmbeddedServerError before the first start."""
        return self._keys()[0]

    @property
    def secret_key(self) -> str:
        """The secret, made once. Raises EmbeddedServerError before the first start."""
        return self._keys()[1]

    def create_bucket(self, name: str) -> None:
        """Make a bucket; without effect if it is there. The server must be running.

        Raises EmbeddedServerError if the server refuses (3 to 63 characters, lower case).
        """
        # Asked of the server, as it would not see for minutes a folder that is just made.
        status, said = self._request("PUT", "/" + quote(name))
        if status not in {200, 409}:
            raise EmbeddedServerError(f"bucket {name} can't be made: {status} {said}")

    # --- what SharedServer asks ------------------------------------------------------------

    @property
    def _name(self) -> str:
        return "the local S3 server"

    @property
    def _mark(self) -> CommandMark:
        return CommandMark(
            program="rclone", option="--config", value=str(self._path("rclone.conf"))
        )

    def _endings(self, *, immediate: bool) -> Sequence[tuple[signal.Signals, float]]:
        polite = [] if immediate else [(signal.SIGTERM, POLITE_SECONDS)]
        return [*polite, (signal.SIGKILL, KILL_SECONDS)]

    def _prepare(self, lock: int) -> Launch:
        program = _find_rclone()
        self.objects.mkdir(parents=True, exist_ok=True)
        self._drop_leftovers()
        if not self._path("keys.json").exists():
            keys = {
                "access_key": "SD" + secrets.token_hex(9).upper(),
                "secret_key": secrets.token_hex(20),
            }
            write_whole(self._path("keys.json"), json.dumps(keys) + "\n", 0o600)
        port = self._choose_port()
        # An empty configuration of our own, or rclone would read the user's.
        write_whole(self._path("rclone.conf"), "", 0o600)
        argv = (
            str(program),
            "serve",
            "s3",
            "--config",
            str(self._path("rclone.conf")),
            "--addr",
            f"{HOST}:{port}",
            "--cache-dir",
            str(self._path("cache")),
            "--vfs-cache-mode=off",
            f"--dir-cache-time={FOLDER_CACHE}",
            "--poll-interval=0",
            "--etag-hash=MD5",
            # By itself rclone writes control characters under other names than it reads them.
            "--local-encoding=Slash,Dot,Ctl,Del",
            # A file that is being overwritten by hand must not stop a listing.
            "--local-no-check-updated",
            "--log-level=NOTICE",
            str(self.objects),
        )
        keep = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        access_key, secret_key = self._keys()
        environment = {
            **keep,
            "HOME": str(self.directory),
            # Not on the command line, which every user of the machine can read.
            "RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"',
        }
        return Launch(argv=argv, cwd=self.directory, environment=environment)

    def _trouble(self) -> str | None:
        try:
            # Signed, so that another program on the same port is never taken for ours.
            status, said = self._request("GET", "/")
        except EmbeddedServerError as error:
            return str(error)
        return None if status == 200 else f"it answered {status}: {said}"

    def _launch_failed(self, exit_code: int, output: str) -> None:
        if "address already in use" not in output:
            super()._launch_failed(exit_code, output)

    # --- its keys, its port, its leftovers -------------------------------------------------

    def _keys(self) -> tuple[str, str]:
        keys = json.loads(self._read("keys.json"))
        return keys["access_key"], keys["secret_key"]

    def _remembered_port(self) -> int:
        return int(self._read("port"))

    def _read(self, file_name: str) -> str:
        try:
            return self._path(file_name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise EmbeddedServerError(
                f"{self._name} in {self.directory} was not started yet"
            ) from None

    def _choose_port(self) -> int:
        """Take the port of last time, or a free one if somebody else has it now."""
        if self._path("port").exists():
            port = self._remembered_port()
            if _free_port(port) is not None:
                return port
            self._log(f"port {port} is taken by another program; {self._name} takes another")
        port = _free_port(0) or 0
        write_whole(self._path("port"), f"{port}\n", 0o644)
        return port

    def _drop_leftovers(self) -> None:
        for folder, _folders, files in os.walk(self.objects):
            for name in filter(LEFTOVER.fullmatch, files):
                Path(folder, name).unlink()

    def _request(self, method: str, path: str) -> tuple[int, str]:
        url = self.endpoint_url + path
        request = AWSRequest(method=method, url=url, headers={"x-amz-content-sha256": _NO_BODY})
        SigV4Auth(Credentials(*self._keys()), "s3", REGION).add_auth(request)
        connection = http.client.HTTPConnection(
            HOST, self._remembered_port(), timeout=REQUEST_SECONDS
        )
        try:
            with closing(connection):
                connection.request(method, path, headers=dict(request.headers.items()))
                answer = connection.getresponse()
                return answer.status, answer.read().decode("utf-8", "replace")[:300]
        except (OSError, http.client.HTTPException) as error:
            raise EmbeddedServerError(f"{url} does not answer: {error}") from error


class LocalS3Keeper:
    """Starts the server again when it dies while a program uses it: `run` and `wake` of a service.

    Uploads that fail meanwhile open the destination's breaker, whose probe finds the server back.
    """

    def __init__(self, server: LocalS3) -> None:
        self._server = server
        self._endpoint_url = server.endpoint_url
        self._bell = threading.Event()

    def run(self, stop: StopFlag) -> None:
        """Look after the server until `stop` is set."""
        told = False
        while not stop.is_set():
            try:
                told = self._look(told=told)
            except EmbeddedServerInterruptedError:
                log.debug("local_s3_wait_ended", note="the program is stopping")
            self._bell.wait(LOOK_SECONDS)
            self._bell.clear()

    def wake(self) -> None:
        """Make a waiting `run` look at `stop`. Safe from every thread."""
        self._bell.set()

    def _look(self, *, told: bool) -> bool:
        """Look once; tell whether the operator knows of a trouble that lasts."""
        try:
            if not self._server.answers():
                self._server.ensure_running()
        except EmbeddedServerInterruptedError:
            raise
        except EmbeddedServerError as error:
            if not told:
                log.warning(
                    "local_s3_unavailable",
                    problem=str(error),
                    hint="nothing is lost; it is tried again until it works",
                )
            return True
        moved = self._server.endpoint_url != self._endpoint_url
        if moved and not told:
            log.warning(
                "local_s3_moved",
                address=self._server.endpoint_url,
                hint="another program took its port; restart sensordropd to upload there",
            )
        return moved


_NO_BODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""


def _free_port(port: int) -> int | None:
    """Give the port if it is free (0: any free one), None if it is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As rclone itself will do; connections of the server before don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    return None


def _find_rclone() -> Path:
    """Find rclone's program: beside this Python first, where the `demo` extra puts it."""
    folders = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    for folders_text in (os.pathsep.join(folders), None):
        program = shutil.which("rclone", path=folders_text)
        if program is not None:
            return Path(program).absolute()
    raise EmbeddedServerError(
        "the local S3 server needs rclone: pip install 'sensordrop[demo]', or apt install rclone"
    )
