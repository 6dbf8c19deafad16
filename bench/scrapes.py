"""The rows about metrics: what a scrape of a station with very many deliveries costs."""

from __future__ import annotations

import shutil
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2

from figures import Better, Goal, Row, make_row
from plan import MIB, Bench
from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.exposition import CONTENT_TYPE, Exposition
from sensordrop.adapters.ledger.embedded import EmbeddedPostgres
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.s3.requests import RequestTally
from sensordrop.adapters.status_pages import StatusPages, pages
from sensordrop.composition.deliveries import binding_of, make_delivery
from sensordrop.config import DeliveryConfig
from sensordrop.core.failure import FailureScope
from sensordrop.core.tally import StationTally
from sensordrop.core.vitals import ConfigurationInForce
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.hints import HintQueue
from sensordrop.engine.limits import Limits
from sensordrop.engine.observer import Observer
from sensordrop.engine.throttle import Throttles
from sensordrop.ports.records import Registration

DELIVERIES = 1_000
SCRAPES = 21
SEED_BATCH = 1_000_000
ADDRESS = "127.0.0.1:19464"
WAIT_SECONDS = 120.0


def scrape(bench: Bench) -> list[Row]:
    """Measure scrapes over HTTP while the observer reads a ledger of very many files."""
    folder = bench.work / "scrape"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with EmbeddedPostgres(folder / "postgresql") as server:
            return _measure(server.dsn, folder, bench.sizes.ledger_rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(dsn: str, folder: Path, files: int) -> list[Row]:
    with closing(PostgresLedger(lambda: dsn)) as ledger:
        ledger.migrate()
        configs = [_config(number, folder) for number in range(DELIVERIES)]
        registration = ledger.register(
            station="bench", instance=uuid.uuid4(), origin="daemon", version="bench",
            bindings=[binding_of(config, None) for config in configs], daemon_configuration={},
            crashed=False,
        )  # fmt: skip
        _seed(dsn, files)
        deliveries = [
            make_delivery(config, registration.delivery_ids[config.name]) for config in configs
        ]
        _have_worked(deliveries)
        readings = _readings(ledger, registration, deliveries)
        with _served(ledger, registration, deliveries):
            seconds, cpu, size_bytes = _scrapes()
    title = f"scrape of {DELIVERIES:,} deliveries, {files:,} files"
    print(f"    {size_bytes / MIB:.1f} MiB, slowest {max(seconds) * 1000:.0f} ms", flush=True)
    return [
        make_row(
            measure=title, group="scrape", unit="ms", ours=[1000 * each for each in seconds],
            goal=Goal(better=Better.LESS, must=100, reach=50, of="ours", unit="ms"),
            note=f"over HTTP, {size_bytes / MIB:.1f} MiB of text; the client that reads it is in"
            " the same process, and the observer reads the ledger meanwhile",
        ),
        make_row(
            measure=f"{title}: CPU", group="scrape", unit="ms", ours=[1000 * each for each in cpu],
            note="of the client too",
        ),
        make_row(
            measure=f"reading the ledger for it: {title}", group="scrape", unit="ms",
            ours=[1000 * each for each in readings],
            note="beside the uploads, and never during a scrape; at most 2% of the time",
        ),
    ]  # fmt: skip


def _config(number: int, folder: Path) -> DeliveryConfig:
    return DeliveryConfig(
        name=f"delivery{number:04d}",
        local_directory=folder / f"drop{number}",
        bucket_name="bench-bucket",
        s3_prefix=f"C{number}",
        endpoint_url="http://127.0.0.1:9",
    )


def _seed(dsn: str, files: int) -> None:
    """Fill the ledger by SQL, without triggers and indexes, which are then made anew."""
    print(f"    seeding {files:,} files in {DELIVERIES:,} deliveries", flush=True)
    text = (Path(__file__).parent / "scrapes.sql").read_text(encoding="utf-8")
    sensors, sessions, made, *rest = text.split("\n----\n")
    values = {"deliveries": DELIVERIES}
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sensors, values)
            cursor.execute(sessions, values)
            cursor.execute("ALTER TABLE file_uploads DISABLE TRIGGER USER")
            cursor.execute(
                "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
                " WHERE indrelid = 'file_uploads'::regclass AND NOT indisprimary"
            )
            indexes = cursor.fetchall()
            for name, _ in indexes:
                cursor.execute(f"DROP INDEX {name}")
            for first in range(1, files + 1, SEED_BATCH):
                last = min(first + SEED_BATCH - 1, files)
                cursor.execute(made, {**values, "first": first, "last": last})
            for _, definition in indexes:
                cursor.execute(definition)
            cursor.execute("ALTER TABLE file_uploads ENABLE TRIGGER USER")
            for statement in rest:
                cursor.execute(statement, values)
            cursor.execute("VACUUM (FREEZE, ANALYZE)")
            cursor.execute("CHECKPOINT")


def _have_worked(deliveries: list[Delivery]) -> None:
    """Give every delivery what it counts in a day, so that all its lines are there."""
    for delivery in deliveries:
        tally = delivery.tally
        tally.canary_at = tally.last_sweep_at = tally.last_complete_sweep_at = time.time()
        tally.last_sweep_seconds, tally.last_sweep_files = 1.5, 10_000
        tally.last_sweep_complete = delivery.watched = True
        tally.attempts = dict.fromkeys(
            [("stored", ""), ("timeout", "destination"), ("connect", "destination"),
             ("server-error", "destination"), ("changed", "file")],
            100,
        )  # fmt: skip


class _Uploads:
    """An uploader that has nothing in its hands."""

    def running(self, _delivery_id: int) -> int:
        return 0

    def open_breakers(self, _delivery: Delivery) -> frozenset[FailureScope]:
        return frozenset()


def _readings(
    ledger: PostgresLedger, registration: Registration, deliveries: list[Delivery]
) -> list[float]:
    ids = [delivery.delivery_id for delivery in deliveries]
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        ledger.read_vitals(registration.daemon_id, ids)
        seconds.append(time.monotonic() - began)
    return seconds


@contextmanager
def _served(
    ledger: PostgresLedger, registration: Registration, deliveries: list[Delivery]
) -> Iterator[None]:
    """Run the services that answer scrapes."""
    clock = SystemClock()
    requests = RequestTally()
    observer = Observer(
        ledger=ledger, clock=clock, deliveries=deliveries,
        daemon_id=lambda: registration.daemon_id, tally=StationTally(), uploads=_Uploads(),
        hints=HintQueue(Bell()),
        limits=Limits(throttles=Throttles(clock), clock=clock, configured={}, names={}, read=None),  # type: ignore[arg-type]
        restarts=dict, disk=lambda: None, version="bench",
        configuration=ConfigurationInForce(digest="bench", loaded_at=0.0),
        audit_share_per_day=0.01,
    )  # fmt: skip
    exposition = Exposition(observer, requests)
    served = StatusPages(ADDRESS, pages(exposition.text, CONTENT_TYPE, observer))
    stop = threading.Event()
    threads = [threading.Thread(target=run, args=(stop,)) for run in (observer.run, served.run)]
    for thread in threads:
        thread.start()
    try:
        give_up = time.monotonic() + WAIT_SECONDS
        while observer.vitals().read_at is None and time.monotonic() < give_up:
            time.sleep(0.1)
        yield
    finally:
        stop.set()
        observer.wake()
        served.wake()
        for thread in threads:
            thread.join()


def _scrapes() -> tuple[list[float], list[float], int]:
    """Scrape some times; give the seconds and CPU seconds of each, and the size of the text."""
    seconds, cpu, size_bytes = [], [], 0
    for _ in range(SCRAPES):
        began, spent = time.monotonic(), time.process_time()
        with urllib.request.urlopen(f"http://{ADDRESS}/metrics", timeout=60) as answer:
            size_bytes = len(answer.read())
        seconds.append(time.monotonic() - began)
        cpu.append(time.process_time() - spent)
        time.sleep(0.5)
    return seconds, cpu, size_bytes
