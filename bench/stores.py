"""The stores that are written to: a sink that drops every body, and rclone's real S3 server."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ACCESS_KEY = "BENCHACCESSKEY"
SECRET_KEY = "bench-secret-for-loopback"  # noqa: S105 — of servers that live for one run
BUCKET = "bench"
DELAY_SECONDS = 0.03
"""How much later the distant store answers: a continent away."""
START_SECONDS = 20.0
STOP_SECONDS = 10.0
MODULE_FOLDERS = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))


class StoreError(Exception):
    """A store could not be started; its rows can't be measured."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where to write to, and how it stands in the results."""

    endpoint_url: str
    ca_file: Path | None
    words: str

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Give what every S3 client needs to know from its environment."""
        told = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.ca_file is not None:
            told["AWS_CA_BUNDLE"] = str(self.ca_file)
        return {**base, **told}


@dataclass(frozen=True, kw_only=True)
class Sink:
    """nginx's two faces: one answers at once, one from far away."""

    near: Store
    far: Store

    def forget(self) -> None:
        """Make all keys free again. Raises OSError."""
        self._ask("reset", method="POST")

    def objects(self) -> int:
        """Count the objects that it was given, to see that a run stored them all."""
        return int(self._ask("objects", method="GET"))

    def _ask(self, what: str, *, method: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.near.ca_file))
        url = f"{self.near.endpoint_url}/_sink/{what}"
        request = urllib.request.Request(url, method=method)  # noqa: S310 — our own server
        with urllib.request.urlopen(request, context=context, timeout=START_SECONDS) as answer:  # noqa: S310
            told: bytes = answer.read()
        return told


def nginx_modules() -> Path | None:
    """Find where nginx and its Lua module are installed; None where they are not."""
    if _nginx() is None:
        return None
    for folder in MODULE_FOLDERS:
        if (folder / "ngx_http_lua_module.so").exists():
            return folder
    return None


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def running_sink(folder: Path, *, as_root: bool) -> Iterator[Sink]:
    """Run the sink on loopback, with a certificate made for this run. Raises StoreError."""
    modules, nginx = nginx_modules(), _nginx()
    if modules is None or nginx is None:
        raise StoreError("nginx with its Lua module is not installed")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _make_certificate(folder)
    port, delayed_port = _free_ports(2)
    words = {
        "MODULES": str(modules),
        "USER": "user root;" if as_root else "",
        "PORT": str(port),
        "DELAYED_PORT": str(delayed_port),
        "DELAY_SECONDS": str(DELAY_SECONDS),
        "LUA": str(HERE / "sink.lua"),
    }
    text = (HERE / "sink.conf").read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    ca_file = folder / "certificate.pem"
    near, far = (
        Store(
            endpoint_url=f"https://127.0.0.1:{number}",
            ca_file=ca_file,
            words=f"nginx over HTTPS on loopback: drops bodies, checks probes{delay}",
        )
        for number, delay in (
            (port, ""),
            (delayed_port, f" and answers {DELAY_SECONDS * 1000:.0f} ms late"),
        )
    )
    sink = Sink(near=near, far=far)
    argv = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with _server(argv, folder, stop=signal.SIGTERM) as process:
        _wait(process, folder, sink.forget)
        yield sink


@contextmanager
def running_rclone(program: Path, folder: Path) -> Iterator[Store]:
    """Run rclone's S3 server on a new folder: it writes every object to the disk."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "objects" / BUCKET).mkdir(parents=True)
    (folder / "rclone.conf").touch()
    (port,) = _free_ports(1)
    argv = [
        *(str(program), "serve", "s3", "--config", str(folder / "rclone.conf")),
        *("--cache-dir", str(folder / "cache"), "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", str(folder / "objects")),
    ]
    with _server(argv, folder, stop=signal.SIGTERM) as process:
        _wait(process, folder, lambda: _answers(port))
        yield Store(
            endpoint_url=f"http://127.0.0.1:{port}",
            ca_file=None,
            words="rclone's S3 server over HTTP on loopback, objects on the disk",
        )
    shutil.rmtree(folder)


@contextmanager
def _server(
    argv: Sequence[str], folder: Path, *, stop: signal.Signals
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], folder: Path, ask: object) -> None:
    """Wait until `ask()` raises nothing."""
    assert callable(ask)
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            ask()
        except OSError as error:  # URLError is one
            if process.poll() is not None or time.monotonic() > give_up:
                said = (folder / "server.log").read_text(encoding="utf-8", errors="replace")
                raise StoreError(f"{process.args!r} did not start: {error}; {said}") from error
            time.sleep(0.05)
        else:
            return


def _answers(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _make_certificate(folder: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise StoreError("openssl is not installed: the sink needs it for its certificate")
    done = subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StoreError(f"openssl made no certificate: {' '.join(done.stderr.split())}")
