"""The rows about receipts: what the one at the end of a session costs."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2

from costs import cpu_seconds, peak_bytes
from figures import Row, make_row, per_thousand
from plan import MIB, Bench
from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.finder import FindFinder
from sensordrop.adapters.ledger.embedded import EmbeddedPostgres
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.receipt_key import receipt_key
from sensordrop.adapters.receipt_page import page
from sensordrop.adapters.receipt_shelf import ReceiptShelf
from sensordrop.adapters.source import FolderSource
from sensordrop.composition.deliveries import binding_of, make_delivery
from sensordrop.config import DeliveryConfig
from sensordrop.core.lifecycle import Stored
from sensordrop.core.model import Receipt
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.receipts import ReceiptMaker, ReceiptTools
from sensordrop.ports.reading import DigestPlan
from sensordrop.ports.storing import ListedObject, ListedPage
from trees import Tree, tree, wait_until_settled

SENSORS = 30
LISTED_BYTES = 100_000
PAGE_OBJECTS = 1_000
"""As many objects stand on a page of S3's listings."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one receipt took."""

    seconds: float
    cpu_seconds: float
    """Of the program that makes it; the ledger's server is counted apart."""
    grown_bytes: int
    """By how much the program's memory grew at most."""
    kept_bytes: int
    """What the receipt takes on the disk, and in the bucket again."""
    verdict: str


class Shop:
    """A store that has what the ledger says, and answers at once: what is left is ours."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def address(self) -> str:
        """Say where this is."""
        return "nowhere"

    def list_page(self, _prefix: str, token: str | None) -> ListedPage:
        """Give the next objects, in the order of their keys."""
        self._cursor.execute(
            "SELECT object_key, size_bytes, etag FROM file_uploads"
            ' WHERE path COLLATE "C" > %s ORDER BY path COLLATE "C" LIMIT %s',
            (token or "", PAGE_OBJECTS),
        )
        rows = self._cursor.fetchall()
        objects = [ListedObject(key=k, size_bytes=size, etag=etag) for k, size, etag in rows]
        last = rows[-1][0].removeprefix("C1/") if len(rows) == PAGE_OBJECTS else None
        return ListedPage(objects=objects, next_token=last)

    def digest_plan(self, _size_bytes: int) -> DigestPlan:
        """Want the SHA-256 alone."""
        return DigestPlan(md5=False)

    def store(self, content: Any, object_key: str, _stop: object) -> Stored:
        """Take a receipt's file, and forget it."""
        return Stored(receipt=Receipt(object_key=object_key, sha256=content.sha256))


def receipts(bench: Bench) -> list[Row]:
    """Measure the receipt of a whole delivery, as a session ends with it."""
    files = bench.sizes.receipt_files
    spec = Tree(files=files, size_bytes=LISTED_BYTES, folders=SENSORS, content=False)
    folder = tree(bench.work, spec)
    wait_until_settled(folder)
    place = bench.work / "receipts"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    made: list[Cost] = []
    server_cpu: list[float] = []
    try:
        with EmbeddedPostgres(place / "postgresql") as server:
            _seed(server.dsn, folder)
            pid_file = place / "postgresql" / "data" / "postmaster.pid"
            pid = int(pid_file.read_text(encoding="ascii").split()[0])
            for number in range(1, bench.sizes.rounds + 1):
                before = cpu_seconds(pid)
                # A program of its own: what it grows by is the receipt's.
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    made.append(pool.submit(_make, place, folder).result())
                server_cpu.append(cpu_seconds(pid) - before)
                one = made[-1]
                print(f"    round {number}: {one.seconds:.1f} s, {one.cpu_seconds:.1f} CPU s and"
                      f" {server_cpu[-1]:.1f} of the ledger, {one.grown_bytes / MIB:.0f} MiB more,"
                      f" {one.kept_bytes / MIB:.0f} MiB kept: {one.verdict}", flush=True)  # fmt: skip
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return _rows(files, made, server_cpu)


def _rows(files: int, made: Sequence[Cost], server_cpu: Sequence[float]) -> list[Row]:
    title = f"receipt of {files:,} files"
    note = f"the store answers at once; a real one takes {files // PAGE_OBJECTS} requests longer"
    cpu = [per_thousand(one.cpu_seconds, files) for one in made]
    columns = (
        (title, "s", [one.seconds for one in made], note),
        (f"{title}: CPU", "CPU s / 1,000 files", cpu, "of the program alone"),
        (f"{title}: CPU of the ledger", "CPU s / 1,000 files",
         [per_thousand(each, files) for each in server_cpu], ""),
        (f"{title}: memory", "MiB", [one.grown_bytes / MIB for one in made],
         "what the program grows by"),
        (f"{title}: kept", "MiB", [one.kept_bytes / MIB for one in made],
         "on the disk, and in the bucket again"),
    )  # fmt: skip
    return [
        make_row(measure=measure, group="receipts", unit=unit, ours=values, note=words)
        for measure, unit, values, words in columns
    ]


def _config(folder: Path) -> DeliveryConfig:
    return DeliveryConfig(
        name="bench", local_directory=folder, bucket_name="bench", s3_prefix="C1", quiet_seconds=1.0
    )


def _seed(dsn: str, folder: Path) -> None:
    """Fill a ledger as a session leaves it whose files are all stored."""
    with closing(PostgresLedger(lambda: dsn)) as ledger:
        ledger.migrate()
        place = ledger.register(
            station="bench", instance=uuid.UUID(int=1), origin="daemon", version="bench",
            bindings=[binding_of(_config(folder), None)], daemon_configuration={}, crashed=False,
        )  # fmt: skip
        (delivery_id,) = place.delivery_ids.values()
        settings = make_delivery(_config(folder), delivery_id).settings
        listing = FindFinder().list(str(folder), threading.Event(), lambda _: None)
        ledger.enroll_listing(
            delivery_id, listing, settings.rules, wall_ns=time.time_ns(), most_unsettled=1
        )
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(
            "UPDATE file_uploads SET state = 'uploaded', finished_at = now(), etag = md5(path),"
            " object_key = 'C1/' || path, sha256 = sha256(path_bytes), store_check = 'etag'"
        )
        cursor.execute("TRUNCATE upload_queue")
        cursor.execute(
            "INSERT INTO delivery_status (delivery_id, state, last_sweep_ended_at,"
            " last_sweep_complete) SELECT id, 'watching', now(), true FROM deliveries"
        )
        cursor.execute('CREATE INDEX ON file_uploads (path COLLATE "C")')
        cursor.execute("VACUUM ANALYZE")


def _make(place: Path, folder: Path) -> Cost:
    """Make one receipt, and measure it. In a process of its own."""
    state = place / "state"
    with (
        EmbeddedPostgres(place / "postgresql") as server,  # it runs already
        closing(PostgresLedger(lambda: server.dsn)) as ledger,
        closing(psycopg2.connect(server.dsn)) as connection,
    ):
        (target,) = ledger.deliveries_to_verify(station="bench", session_id=None)
        plain = make_delivery(_config(folder), target.delivery_id)
        shop: Any = Shop(connection.cursor())
        delivery = Delivery(settings=replace(plain.settings, destination=shop))
        shelf = ReceiptShelf(state, receipt_key(state), page)
        maker = ReceiptMaker(
            ReceiptTools(
                ledger=ledger, clock=SystemClock(), progress=lambda _: None, begin=shelf.begin,
                source=FolderSource, station="bench", made_by="bench",
            ),
            sensor=None,
            reread=False,
        )  # fmt: skip
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.monotonic()
        made = maker.make(target, delivery)
        seconds = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
    assert made is not None, "a delivery has a receipt"
    kept = Path(made.finished.folder)
    return Cost(
        seconds=seconds,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        grown_bytes=peak_bytes(os.getpid()) - resident * resource.getpagesize(),
        kept_bytes=sum(each.stat().st_size for each in kept.iterdir()),
        verdict=str(made.document["verdict"]),
    )
