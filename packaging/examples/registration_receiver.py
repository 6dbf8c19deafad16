#!/usr/bin/env python3
"""An example of what sensordrop tells: takes registrations, and believes only what is signed.

    SENSORDROP_ENDPOINT_SECRET=… python3 registration_receiver.py 127.0.0.1 8080 registrations.jsonl

It needs nothing but Python. Each registration becomes one line of the file, however often it is
sent: what came under a key is remembered, and answered again as the first time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LARGEST_BYTES = 10 * 1024 * 1024
"""A session with thousands of sensors has less to tell."""
OLDEST_SECONDS = 300
"""A request that was signed longer ago is one that somebody recorded and sends again."""


def is_genuine(secret: str, timestamp: str, signature: str, body: bytes, now: float) -> bool:
    """Tell whether a body was signed with the secret, a moment ago."""
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > OLDEST_SECONDS:
        return False
    signed = timestamp.encode() + b"." + body
    expected = "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, signature)


class Book:
    """The registrations, a line each in a file. Safe from every thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self._keys = {json.loads(line)["key"] for line in lines}

    def take(self, key: str, told: object) -> bool:
        """Write a registration down, on the disk when this returns; False: it was there already."""
        with self._lock:
            if key in self._keys:
                return False
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": key, "told": told}) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            self._keys.add(key)
            return True


class Receiver(BaseHTTPRequestHandler):
    """Answers sensordrop's requests."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    secret: str
    book: Book

    def do_POST(self) -> None:
        """Take one registration."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BYTES:
            self.close_connection = True
            return self._answer(413, "too large, or no Content-Length")
        body = self.rfile.read(int(length))
        genuine = is_genuine(
            self.secret,
            self.headers.get("Sensordrop-Timestamp", ""),
            self.headers.get("Sensordrop-Signature", ""),
            body,
            time.time(),
        )
        if not genuine:
            return self._answer(401, "the signature is wrong or too old")
        key = self.headers.get("Idempotency-Key", "")
        if not key:
            return self._answer(400, "there is no Idempotency-Key")
        told = json.loads(body)
        new = self.book.take(key, told)
        number = told["session_id"]
        return self._answer(200, f"session {number} {'is registered' if new else 'was known'}")

    def _answer(self, status: int, text: str) -> None:
        content = json.dumps({"message": text}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Serve until interrupted."""
    host, port, file = sys.argv[1:4]
    Receiver.secret = os.environ["SENSORDROP_ENDPOINT_SECRET"]
    Receiver.book = Book(Path(file))
    server = ThreadingHTTPServer((host, int(port)), Receiver)
    sys.stdout.write(f"listening on http://{host}:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
