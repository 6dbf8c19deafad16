"""What a file costs by parts: reading, hashing, signing, sending. For finding, not for comparing.

Each part is what the engine calls, alone, in this process and thread; the figures are this
process's processor time. What the whole costs beyond their sum is the engine between them.
"""

from __future__ import annotations

import hashlib
import io
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from figures import Row, make_row
from plan import KIB, MIB, Bench, about_store
from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.adapters.s3.sigv4 import SigningKeys, signed_headers
from sensordrop.adapters.source import FolderSource
from sensordrop.ports.reading import DigestPlan
from sensordrop.ports.transfer import HttpRequest
from stores import ACCESS_KEY, BUCKET, SECRET_KEY, Store
from trees import Tree, tree

AT_ONCE = 16
KEYS = SigningKeys(access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY)
HEADERS = {"content-type": "audio/wav", "if-none-match": "*", "x-amz-meta-sha256": "0" * 64}
PIECE_BYTES = 16 * MIB
"""The engine's parts of a large file."""
BLOCK_BYTES = MIB
"""The engine reads as much at once."""


class _Never:
    """A stop flag that nobody sets."""

    def is_set(self) -> bool:
        return False


def parts(bench: Bench) -> list[Row]:
    """Measure each part on files of 64 KiB, 1 MiB and 512 MiB."""
    assert bench.sink is not None
    sizes = bench.sizes
    rows: list[Row] = []
    for words, files, size_bytes, folders in (
        ("64 KiB", sizes.small_files, 64 * KIB, 100),
        ("1 MiB", sizes.medium_files, MIB, 30),
    ):
        root = tree(bench.work, Tree(files=files, size_bytes=size_bytes, folders=folders))
        for part, run in _of_small(root, bench.sink.near, size_bytes).items():
            bench.sink.forget()
            costs = [_milliseconds(run) / files for _ in range(sizes.rounds)]
            rows.append(_row(f"one file of {words}: {part}", costs))
    root = tree(bench.work, Tree(files=sizes.large_files, size_bytes=sizes.large_bytes, folders=1))
    for part, run in _of_large(root).items():
        costs = [_milliseconds(run) / sizes.large_files for _ in range(sizes.rounds)]
        rows.append(_row(f"one file of {sizes.large_bytes // MIB} MiB: {part}", costs))
    return about_store(rows, bench.sink.near)


def _row(measure: str, costs: list[float]) -> Row:
    return make_row(measure=measure, group="parts", unit="CPU ms", ours=costs)


def _milliseconds(run: Callable[[], None]) -> float:
    before = time.process_time()
    run()
    return (time.process_time() - before) * 1000


def _of_small(root: Path, store: Store, size_bytes: int) -> dict[str, Callable[[], None]]:
    """Give what is done with every file, each step alone for all files."""
    count = len(_paths(root))
    block = bytes(size_bytes)
    return {
        "opened, looked at twice and closed": lambda: _open_all(root),
        "the same, read, and hashed": lambda: _digest_all(root, DigestPlan(md5=False)),
        "hashed alone": lambda: _repeat(count, lambda _: hashlib.sha256(block).digest()),
        "signed": lambda: _repeat(count, _sign),
        "sent by libcurl over TLS, and answered": lambda: _send_all(store, count, block),
    }


def _of_large(root: Path) -> dict[str, Callable[[], None]]:
    """Give what is done with a large file before its parts go out, and what was weighed instead."""
    whole, in_parts = DigestPlan(md5=False), DigestPlan(md5=False, piece_bytes=PIECE_BYTES)
    return {
        "read, and hashed as a whole": partial(_digest_all, root, whole),
        "the same, and its parts too": partial(_digest_all, root, in_parts),
        "hashed as a whole, with a CRC-32 of its parts instead": partial(_sum_all, root),
    }


def _paths(root: Path) -> list[bytes]:
    return [str(path.relative_to(root)).encode() for path in root.glob("*/*")]


def _repeat(count: int, step: Callable[[int], object]) -> None:
    for number in range(count):
        step(number)


def _open_all(root: Path) -> None:
    source = FolderSource(str(root))
    for path in _paths(root):
        with source.open(path) as file:
            file.being_written()
            file.fingerprint()


def _digest_all(root: Path, plan: DigestPlan) -> None:
    source = FolderSource(str(root))
    for path in _paths(root):
        with source.open(path) as file:
            file.being_written()
            file.digest(plan, _Never())
            file.fingerprint()


def _sum_all(root: Path) -> None:
    """Hash whole files, and sum them up with the cheapest of the checksums that S3 knows.

    The parts' borders cost nothing, so they are left out.
    """
    source = FolderSource(str(root))
    for path in _paths(root):
        digest, checksum = hashlib.sha256(), 0
        with source.open(path) as file, file.open() as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
                checksum = zlib.crc32(block, checksum)


def _sign(number: int) -> dict[str, str]:
    return signed_headers(
        method="PUT", host="127.0.0.1", path=f"/{BUCKET}/parts/{number}", headers=HEADERS,
        payload_sha256="0" * 64, keys=KEYS, region="us-east-1", now=datetime.now(UTC),
    )  # fmt: skip


def _requests(store: Store, count: int, block: bytes) -> Iterator[HttpRequest]:
    for number in range(count):
        yield HttpRequest(
            method="PUT",
            url=f"{store.endpoint_url}/{BUCKET}/parts/{number}",
            headers=HEADERS,
            ca_file=str(store.ca_file),
            body=io.BytesIO(block),
            size_bytes=len(block),
        )


def _send_all(store: Store, count: int, block: bytes) -> None:
    lane = CurlLane(LaneSettings(most_connections=AT_ONCE))
    try:
        waiting = enumerate(_requests(store, count, block))
        answered = 0
        while answered < count:
            while len(lane) < AT_ONCE and (following := next(waiting, None)) is not None:
                lane.start(*following)
            for _, answer in lane.step(1.0):
                assert answer.status == 200, answer
                answered += 1
    finally:
        lane.close()
