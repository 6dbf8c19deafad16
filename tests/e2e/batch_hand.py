"""Somebody who uploads a card by hand: what test_batch_runs.py and test_batch_verbs.py share."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from daemon import SCRIPTS, SOURCES, Bucket, LedgerView, command, sha256

LINE = re.compile(
    r"\| (\d+\.\d)% \| Uploaded: ([\d,]+)/([\d,]+) \| Skipped: ([\d,]+) \| Size: (\d+\.\d\d) GB "
    r"\| Successful: ([\d,]+) \| Failed: ([\d,]+) \| Speed: (\d+\.\d) files/s "
    r"\| ETA: (\d\d:\d\d|--:--)"
)
OLD_KEYS = (
    "local_directory", "bucket_name", "s3_prefix", "max_workers", "aws_region", "times_to_retry",
    "aws_profile", "use_find",
)  # fmt: skip


class Hand:
    """Somebody at a shell, with a card, a bucket and a JSON file in the older format."""

    def __init__(self, folder: Path, server: Any, database: str | None) -> None:
        self.folder = folder
        self.card = folder / "card"
        self.home = folder / "home"
        for each in (self.card, self.home):
            each.mkdir(parents=True)
        self.bucket = Bucket(server, f"hand-{uuid.uuid4().hex[:12]}")
        self.bucket.make()
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCES,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "AWS_ENDPOINT_URL": server.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SENSORDROP_DELIVERY_QUIET_SECONDS": "0.1",
        }
        if database is not None:
            self.environment["SENSORDROP_DATABASE_URL"] = database
            self.ledger = LedgerView(lambda: database)
        (self.home / ".aws").mkdir()
        (self.home / ".aws" / "credentials").write_text(
            f"[field]\naws_access_key_id = {server.access_key}\n"
            f"aws_secret_access_key = {server.secret_key}\n"
        )
        self.write()

    @property
    def file(self) -> Path:
        return self.folder / "highlands.json"

    def write(self, **keys: object) -> None:
        """Write the configuration: the eight older keys, as the old tool had them."""
        told: dict[str, object] = {
            "local_directory": "card",
            "bucket_name": self.bucket.name,
            "s3_prefix": "C2",
            "max_workers": 4,
            "aws_region": "us-east-1",
            "times_to_retry": 1,
            "aws_profile": "field",
            "use_find": "yes",
        }
        assert tuple(told) == OLD_KEYS
        self.file.write_text(json.dumps(told | keys))

    def record(self, count: int, *, first: int = 0, size: int = 2_000) -> dict[str, str]:
        """Put recordings on the card, and give what the bucket must have of them."""
        made = {}
        for number in range(first, first + count):
            content = f"sound {number} ".encode() * (size // 8)
            file = self.card / "950349" / f"{number:05}.WAV"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            made[f"C2/950349/{number:05}.WAV"] = sha256(content)
        return made

    def run(
        self, *arguments: str, verb: str = "upload", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return command(
            verb, *arguments, environment=self.environment | environment, cwd=self.folder
        )

    def upload(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("--config", self.file.name, *arguments, **environment)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin an upload and don't wait for it."""
        return subprocess.Popen(
            [str(SCRIPTS / "sensordrop"), "upload", "--config", self.file.name, *arguments],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        )  # fmt: skip


@pytest.fixture
def hand(tmp_path, moto, ledger_url) -> Hand:
    return Hand(tmp_path / "hand", moto, ledger_url)
