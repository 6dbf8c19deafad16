"""Any file name that Linux allows goes to a real S3 server and comes back, byte for byte."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_destinations import QuickFirst
from s3_servers import KINDS, FileContent, S3Server, running

from sensordrop.adapters.s3 import S3Destination
from sensordrop.core.failure import FailureError
from sensordrop.core.keys import object_key, path_bytes, path_text
from sensordrop.core.lifecycle import AlreadyStored, Stored

NAMES = {
    "space": b"Audiomoth 1/ two  spaces .WAV",
    "plus": b"SM3/S_0+1_20160823.wav",
    "percent": b"100%25/a%2Fb%.wav",
    "question and hash": b"why?/#1.jpg",
    "ampersand and equals": b"a&b=c;d,e@f:g!.wav",
    "brackets and dollar": b"REC [-27.38 152.87]/2016$0630.flac",
    "quotes and angles": b'<it\'s> "quoted" `so` |.txt',
    "newline": b"two\nlines.wav",
    "tab and return": b"tab\there\rand.wav",
    "control characters": b"bell\x07escape\x1b[31m\x7f.wav",
    "backslash": b"C:\\DCIM\\100RECNX\\IMG_0001.JPG",
    "backslash like an escape": b"not\\xffinvalid.wav",
    "invalid UTF-8": b"caf\xe9/\xff\xfe.wav",
    "unicode": "Käuzchen/日本語/Ω≈ç.wav".encode(),
    "emoji and combining": "🦉/e\u0301 and \u00e9.wav".encode(),
    "255 bytes": b"x" * 251 + b".wav",
    "leading minus": b"-rf/--delete.wav",
    "leading dots": b".hidden/..data/....wav",
    "star and tilde": b"~/*.wav",
}

REFUSED = {
    ("moto", "newline"): "rejected",
}
"""Names that a server can't keep, and how that ends. Everything else comes back."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str, tmp_path_factory: Any) -> Iterator[S3Server]:
    with running(kind, tmp_path_factory.mktemp(kind)) as started:
        yield started


@pytest.fixture(params=["boto3", "curl"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name_goes_and_comes_back(
    server: S3Server, kind: str, engine: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / os.fsdecode(NAMES[name])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"the content of " + NAMES[name])
    destination = (QuickFirst if engine == "curl" else S3Destination)(server.settings())
    key = object_key(engine, path_text(NAMES[name]))
    expected = REFUSED.get((kind, name))
    if expected is not None:
        with pytest.raises(FailureError) as raised:
            destination.store(FileContent(file), key, threading.Event())
        assert raised.value.failure.error_class == expected
        return
    stored = destination.store(FileContent(file), key, threading.Event())
    assert isinstance(stored, Stored)
    assert stored.receipt.object_key == key
    ours = [k.removeprefix(f"{engine}/") for k in server.object_keys() if k.startswith(engine)]
    listed = [f"{engine}/{k}" for k in ours if path_bytes(k) == NAMES[name]]
    assert listed == [key], "the bucket's listing gives back the exact bytes of the name"
    assert server.read(key) == file.read_bytes()
    again = destination.store(FileContent(file), key, threading.Event())
    assert isinstance(again, AlreadyStored)


def test_the_longest_key_is_stored(server: S3Server, tmp_path: Path) -> None:
    # 250 bytes a folder is what a file system allows and a store that keeps plain files can hold.
    longest = "/".join(["d" * 250] * 4) + "/" + "f" * (1024 - 4 * 251)
    file = tmp_path / "file"
    file.write_bytes(b"deep")
    key = object_key("", longest)
    assert len(key) == 1024
    S3Destination(server.settings()).store(FileContent(file), key, threading.Event())
    assert server.read(key) == b"deep"


def test_a_key_beyond_s3s_limit_is_a_permanent_named_failure(
    server: S3Server, tmp_path: Path
) -> None:
    """Where the plain key just fits and is taken, the conflict copy's key may be too long."""
    longest = "/".join(["d" * 250] * 4) + "/" + "g" * (1024 - 4 * 251)
    destination = S3Destination(server.settings())
    file = tmp_path / "file"
    file.write_bytes(b"first")
    destination.store(FileContent(file), longest, threading.Event())
    file.write_bytes(b"other")
    with pytest.raises(FailureError) as raised:
        destination.store(FileContent(file), longest, threading.Event())
    assert raised.value.failure.error_class == "key-too-long"
    assert raised.value.failure.permanent
    assert server.read(longest) == b"first"
